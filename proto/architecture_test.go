package proto_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// order is the tree, from what runs to what is agreed on. A package may import only
// what stands below it.
var order = []string{
	"roomcast/gateway",
	"roomcast/gateway/server",
	"roomcast/gateway/session",
	"roomcast/gateway/hub",
	"roomcast/gateway/bridge",
	"roomcast/gateway/loop",
	"roomcast/gateway/wire",
	"roomcast/gateway/auth",
	"roomcast/gateway/limit",
	"roomcast/gateway/web",
	"roomcast/gateway/client",
	"roomcast/roomsvc",
	"roomcast/roomsvc/service",
	"roomcast/roomsvc/owner",
	"roomcast/roomsvc/stream",
	"roomcast/roomsvc/room",
	"roomcast/proto/daemon",
	"roomcast/proto/history",
	"roomcast/proto/seal",
	"roomcast/proto",
}

// A pkg is what go list says of a package, tests left out.
type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,Imports", "roomcast/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// forTests reports whether a package is only there for the tests of others.
func forTests(path string) bool { return strings.HasSuffix(path, "test") }

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.ImportPath, "roomcast/scripts/") || forTests(p.ImportPath) {
			continue
		}
		from := slices.Index(order, p.ImportPath)
		if from < 0 {
			t.Errorf("%s is not in the list of this test", p.ImportPath)
			continue
		}
		for _, path := range p.Imports {
			if !strings.HasPrefix(path, "roomcast/") {
				continue
			}
			if forTests(path) {
				t.Errorf("%s imports %s, which is for tests", p.ImportPath, path)
			}
			if slices.Index(order, path) <= from {
				t.Errorf("%s imports %s, which does not stand below it", p.ImportPath, path)
			}
			if side(p.ImportPath) == "gateway" && side(path) == "roomsvc" && p.ImportPath != "roomcast/gateway" {
				t.Errorf("%s imports %s: the halves of Roomcast know each other only by NATS", p.ImportPath, path)
			}
		}
	}
}

// side returns the second element of an import path.
func side(path string) string {
	parts := strings.Split(path, "/")
	return parts[min(1, len(parts)-1)]
}

// The few packages that may know what the others must not.
func TestKnowledgeStaysWhereItBelongs(t *testing.T) {
	for prefix, knowers := range map[string][]string{
		"github.com/nats-io/nats.go": {
			"roomcast/gateway", "roomcast/gateway/bridge", "roomcast/proto/daemon", "roomcast/proto/history",
			"roomcast/roomsvc/service", "roomcast/roomsvc/owner", "roomcast/roomsvc/stream",
		},
		"github.com/nats-io/nats-server": {"roomcast/gateway"},
		"github.com/spf13/cobra":         {"roomcast/gateway", "roomcast/roomsvc", "roomcast/proto/daemon"},
		"github.com/golang-jwt":          {"roomcast/gateway/auth"},
		"github.com/gobwas":              {"roomcast/gateway/wire", "roomcast/gateway/client"},
		"golang.org/x/crypto":            {"roomcast/proto/seal"},
	} {
		for _, p := range packages(t) {
			if strings.HasPrefix(p.ImportPath, "roomcast/scripts/") || forTests(p.ImportPath) || slices.Contains(knowers, p.ImportPath) {
				continue
			}
			for _, path := range p.Imports {
				if strings.HasPrefix(path, prefix) {
					t.Errorf("%s imports %s; only %v may", p.ImportPath, path, knowers)
				}
			}
		}
	}
}

// In package main of the gateway, two files know the embedded server, and one of them the
// room service.
func TestTwoFilesKnowTheStandaloneForm(t *testing.T) {
	files, err := filepath.Glob("../gateway/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want the files of the gateway", files, err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		if name == "standalone.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{`"github.com/nats-io/nats-server`, `"roomcast/roomsvc`} {
			if bytes.Contains(b, []byte(secret)) && (name != "embedded.go" || strings.Contains(secret, "roomsvc")) {
				t.Errorf("%s imports %s; only standalone.go and, of the two, embedded.go may", path, strings.Trim(secret, `"`))
			}
		}
	}
}

// The contract needs nothing but the standard library.
func TestContractStandsAlone(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != "roomcast/proto" {
			continue
		}
		for _, path := range p.Imports {
			if strings.Contains(strings.Split(path, "/")[0], ".") || strings.HasPrefix(path, "roomcast/") {
				t.Errorf("proto imports %s", path)
			}
		}
	}
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// A file that has grown past this is a package that wants to exist.
func TestFilesStaySmall(t *testing.T) {
	const most = 600 // lines
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(b, []byte("\n")); n > most {
				t.Errorf("%s/%s has %d lines, %d are the most", p.ImportPath, name, n, most)
			}
		}
	}
}
