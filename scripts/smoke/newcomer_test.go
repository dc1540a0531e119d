//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// These tests act like a newcomer. They install each client in an empty folder, with the commands
// of proto/docs/client.md. Then they run a program of the documents with a gateway.

// documented returns the code block of a document that is in the given language and contains part.
func documented(t *testing.T, path, language, part string) string {
	t.Helper()
	blocks := readBlocks(t, path)
	i := slices.IndexFunc(blocks, func(b block) bool { return b.language == language && strings.Contains(b.text, part) })
	if i < 0 {
		t.Fatalf("%s has no block of %q with %s", path, language, part)
	}
	return blocks[i].text
}

const clientPage = "../../proto/docs/client.md"

// copyOf copies a part of the repository to the same path below a new folder, and returns that
// folder. An installation from the copy writes its files there and not into the repository.
func copyOf(t *testing.T, part string) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.CopyFS(filepath.Join(root, part), os.DirFS(filepath.Join("../..", part))); err != nil {
		t.Fatal(err)
	}
	return root
}

// emptyFolder returns a new folder that contains only the given program.
func emptyFolder(t *testing.T, name, program string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func replace(t *testing.T, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %s in %s", old, text)
	}
	return strings.ReplaceAll(text, old, new)
}

// webSocketURL starts a gateway and returns its address with the scheme ws.
func webSocketURL(t *testing.T) string {
	t.Helper()
	return strings.Replace(strings.TrimSuffix(gatewayFor(t), "/"), "http", "ws", 1)
}

func TestNewcomerInstallsTheGoClient(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	program := replace(t, documented(t, clientPage, "go", "package main"), "ws://127.0.0.1:8000", webSocketURL(t))
	dir := emptyFolder(t, "main.go", program)
	out := inFolder(t, dir, replace(t, documented(t, clientPage, "", "go mod init"), "/path/to/roomcast", root))
	if !strings.HasSuffix(out, "1 hello\n") {
		t.Errorf("got %s, want the greeting", out)
	}
}

func TestNewcomerInstallsTheNpmPackage(t *testing.T) {
	program := replace(t, documented(t, clientPage, "ts", "room.say"), "https://chat.example.org/", gatewayFor(t))
	dir := emptyFolder(t, "hello.mjs", program)
	install := replace(t, documented(t, clientPage, "sh", "npm install"), "/path/to/roomcast", copyOf(t, "gateway/client/js"))
	inFolder(t, dir, install)
	launch(t, nil, "/bin/sh", "-c", "cd "+dir+" && exec node hello.mjs").says("1 Ann hello")
}

func TestNewcomerInstallsTheWheel(t *testing.T) {
	url := webSocketURL(t)
	program := replace(t, documented(t, "../../gateway/client/python/README.md", "python", "room.say"), "ws://127.0.0.1:8000", url)
	dir := emptyFolder(t, "hello.py", program)
	commands := replace(t, documented(t, clientPage, "sh", "pip install"), "/path/to/roomcast", copyOf(t, "gateway/client/python"))
	t.Setenv("ROOMCAST_URL", url)
	install, tail, _ := strings.Cut(commands, "venv/bin/python ")
	inFolder(t, dir, install)
	launch(t, nil, "/bin/sh", "-c", "cd "+dir+" && exec venv/bin/python -u hello.py").says("1 Ann hi")
	if out := inFolder(t, dir, "venv/bin/python "+tail); !strings.Contains(out, "hi") {
		t.Errorf("got %s, want the message", out)
	}
}
