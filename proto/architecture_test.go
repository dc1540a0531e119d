package proto_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// order lists the packages, from the programs down to the contract. A package may import only
// packages that come later in this list.
var order = []string{
	"roomcast/gateway",
	"roomcast/gateway/console",
	"roomcast/gateway/server",
	"roomcast/gateway/session",
	"roomcast/gateway/hub",
	"roomcast/gateway/hub/replay",
	"roomcast/gateway/hub/ring",
	"roomcast/gateway/hub/outbox",
	"roomcast/gateway/hub/fifo",
	"roomcast/gateway/bridge",
	"roomcast/gateway/presence",
	"roomcast/gateway/follow",
	"roomcast/gateway/publish",
	"roomcast/gateway/reads",
	"roomcast/gateway/backend",
	"roomcast/gateway/loop",
	"roomcast/gateway/mailbox",
	"roomcast/gateway/wire",
	"roomcast/gateway/auth",
	"roomcast/gateway/limit",
	"roomcast/gateway/web",
	"roomcast/gateway/client",
	"roomcast/gateway/client/js",
	"roomcast/roomsvc",
	"roomcast/roomsvc/service",
	"roomcast/roomsvc/owner",
	"roomcast/roomsvc/events",
	"roomcast/roomsvc/webhook",
	"roomcast/roomsvc/stream",
	"roomcast/roomsvc/room",
	"roomcast/proto/daemon",
	"roomcast/proto/history",
	"roomcast/proto/seal",
	"roomcast/proto/grant",
	"roomcast/proto/webhook",
	"roomcast/proto",
}

// pkg is what go list prints for a package without its tests.
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

// forTests reports whether the package is imported only by tests.
func forTests(path string) bool { return strings.HasSuffix(path, "test") }

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.ImportPath, "roomcast/scripts/") || forTests(p.ImportPath) {
			continue
		}
		from := slices.Index(order, p.ImportPath)
		if from < 0 {
			t.Errorf("%s is missing from the list in this test", p.ImportPath)
			continue
		}
		for _, path := range p.Imports {
			if !strings.HasPrefix(path, "roomcast/") {
				continue
			}
			if forTests(path) {
				t.Errorf("%s imports %s, a package for tests", p.ImportPath, path)
			}
			if slices.Index(order, path) <= from {
				t.Errorf("%s imports %s, which is not below it in the list", p.ImportPath, path)
			}
			if side(p.ImportPath) == "gateway" && side(path) == "roomsvc" && p.ImportPath != "roomcast/gateway" {
				t.Errorf("%s imports %s: gateway and roomsvc may meet only in NATS", p.ImportPath, path)
			}
		}
	}
}

// side returns the second element of an import path: gateway, roomsvc, proto or scripts.
func side(path string) string {
	parts := strings.Split(path, "/")
	return parts[min(1, len(parts)-1)]
}

// Only a few packages may use NATS, the command line, tokens and cryptography.
func TestOnlyTheListedPackagesImportALibrary(t *testing.T) {
	for prefix, allowed := range map[string][]string{
		"github.com/nats-io/nats.go": {
			"roomcast/gateway", "roomcast/gateway/console", "roomcast/gateway/bridge", "roomcast/gateway/presence", "roomcast/gateway/follow",
			"roomcast/gateway/publish", "roomcast/gateway/reads", "roomcast/proto/daemon", "roomcast/proto/history",
			"roomcast/roomsvc/service", "roomcast/roomsvc/owner", "roomcast/roomsvc/events", "roomcast/roomsvc/stream",
		},
		"github.com/nats-io/nats-server": {"roomcast/gateway"},
		"github.com/spf13/cobra":         {"roomcast/gateway", "roomcast/gateway/console", "roomcast/roomsvc", "roomcast/proto/daemon"},
		"github.com/golang-jwt":          {"roomcast/gateway/auth"},
		"github.com/go-jose":             {"roomcast/gateway/auth"},
		"github.com/gobwas":              {"roomcast/gateway/wire", "roomcast/gateway/client"},
		"golang.org/x/crypto":            {"roomcast/proto/seal"},
	} {
		for _, p := range packages(t) {
			if strings.HasPrefix(p.ImportPath, "roomcast/scripts/") || forTests(p.ImportPath) || slices.Contains(allowed, p.ImportPath) {
				continue
			}
			for _, path := range p.Imports {
				if strings.HasPrefix(path, prefix) {
					t.Errorf("%s imports %s; only %v may", p.ImportPath, path, allowed)
				}
			}
		}
	}
}

// In the main package of the gateway, only two files contain the standalone form. Only they may
// import the embedded NATS server, and only one of them may import the room service.
func TestOnlyTwoFilesImportTheStandaloneForm(t *testing.T) {
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
				t.Errorf("%s imports %s; only standalone.go may, and embedded.go may import the NATS server", path, strings.Trim(secret, `"`))
			}
		}
	}
}

func TestContractImportsOnlyTheStandardLibrary(t *testing.T) {
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

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// The walk of a message in docs/architecture.md must name files that exist. Each row must name a
// function of its file.
func TestTheWalkNamesFilesAndFunctions(t *testing.T) {
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`([a-z_/]+/[a-z_]+\\.go)`").FindAllSubmatch(doc, -1) {
		if _, err := os.Stat(filepath.Join("..", string(m[1]))); err != nil {
			t.Error(err)
		}
	}
	rows := regexp.MustCompile("(?m)^\\|[ 0-9]*\\|(?: ⇒)? `([a-z_/]+\\.go)` \\| `(\\w+)`").FindAllSubmatch(doc, -1)
	if len(rows) < 12 {
		t.Fatalf("found %d rows, want the rows of the walk", len(rows))
	}
	for _, row := range rows {
		b, err := os.ReadFile(filepath.Join("..", string(row[1])))
		if err == nil && !regexp.MustCompile(`(?m)^func (\([^)]*\) )?`+string(row[2])+`\(`).Match(b) {
			t.Errorf("%s has no function %s", row[1], row[2])
		}
	}
}

// A type with more methods should be divided. The test counts methods in all files of a package.
func TestTypesStaySmall(t *testing.T) {
	const limit = 25
	methods := make(map[string]int) // by directory and type
	for path, file := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil {
				methods[filepath.ToSlash(filepath.Dir(path))+"."+receiver(f.Recv.List[0].Type)]++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		if n := methods[name]; n > limit {
			t.Errorf("%s has %d methods, the limit is %d: divide it", name, n, limit)
		}
	}
}

// receiver returns the name of the type of a method's receiver.
func receiver(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return "?"
		}
	}
}

// A longer file should be divided. The lines of tables in tests are not counted.
func TestFilesStaySmall(t *testing.T) {
	const limit = 600 // lines
	parsed := goFiles(t)
	for _, path := range sources(t) {
		b, err := os.ReadFile(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		n := bytes.Count(b, []byte("\n"))
		if file := parsed[path]; file != nil && strings.HasSuffix(path, "_test.go") {
			n -= tableLines(file)
		}
		if n > limit {
			t.Errorf("%s has %d lines, the limit is %d: divide it", path, n, limit)
		}
	}
}

// tableLines returns the number of lines in the composite literals of a file.
func tableLines(file *ast.File) (n int) {
	ast.Inspect(file, func(node ast.Node) bool {
		lit, ok := node.(*ast.CompositeLit)
		if !ok {
			return true
		}
		n += positions.Position(lit.Rbrace).Line - positions.Position(lit.Lbrace).Line
		return false // the count includes the literals inside this one
	})
	return n
}

var positions = token.NewFileSet()

// goFiles returns the syntax of all Go files, by path below the root.
func goFiles(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := make(map[string]*ast.File)
	for _, path := range sources(t) {
		if filepath.Ext(path) != ".go" {
			continue
		}
		f, err := parser.ParseFile(positions, filepath.Join("..", path), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = f
	}
	return files
}

// sources returns the paths below the root of all source files.
func sources(t *testing.T) (paths []string) {
	t.Helper()
	root := os.DirFS("..")
	for _, dir := range []string{"gateway", "roomsvc", "proto", "scripts"} {
		err := fs.WalkDir(root, dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			if slices.Contains([]string{".go", ".js", ".css", ".html", ".sh"}, filepath.Ext(path)) {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(paths) < 100 {
		t.Fatalf("found %d source files, want all files of the repository", len(paths))
	}
	return paths
}
