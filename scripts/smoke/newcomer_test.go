package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The program of proto/docs/client.md runs in a module of its own, set up as the page says.
func TestAnotherModuleUsesTheGoClient(t *testing.T) {
	blocks := readBlocks(t, "../../proto/docs/client.md")
	setUp := slices.IndexFunc(blocks, func(b block) bool { return strings.HasPrefix(b.text, "go mod init") })
	program := slices.IndexFunc(blocks, func(b block) bool { return b.language == "go" })
	if setUp < 0 || program < 0 {
		t.Fatal("the page has no program, or does not say how to set it up")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	gateway := strings.Replace(strings.TrimSuffix(gatewayFor(t), "/"), "http", "ws", 1)
	source := strings.Replace(blocks[program].text, "ws://127.0.0.1:8000", gateway, 1)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := "set -e\n" + strings.Replace(blocks[setUp].text, "/path/to/roomcast", root, 1)
	cmd := exec.Command("sh", "-c", commands)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "1 hello\n") {
		t.Errorf("got %v and %s, want the greeting", err, out)
	}
}
