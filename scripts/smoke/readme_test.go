//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// inNamespace is an environment variable. It is set in the process that runs the blocks in its own
// network namespace.
const inNamespace = "ROOMCAST_README_NAMESPACE"

// TestREADME runs the code blocks of README.md as written, from the root of the repository. The
// blocks use fixed ports, so they run in a process with its own network namespace. The test differs
// from a human reader in three things. It keeps the log in a temporary directory, it replaces the
// programs wscat and nats by stand-ins, and its browser has no window.
func TestREADME(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		args := []string{"-n"}
		if os.Getuid() != 0 {
			args = []string{"-r", "-n"}
		}
		args = append(args, "sh", "-c", `ip link set lo up && exec "$0" "$@"`, os.Args[0], "-test.run=^TestREADME$", "-test.v")
		cmd := exec.Command("unshare", args...)
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	blocks := readBlocks(t, "../../README.md")
	for _, language := range []string{"sh", "js", "go"} {
		if !slices.ContainsFunc(blocks, func(b block) bool { return b.language == language }) {
			t.Fatalf("README.md has no block of %s", language)
		}
	}
	r := newReader(t)
	r.start(blocks[0])
	for _, b := range blocks[1:] {
		switch b.language {
		case "sh":
			r.shell(b)
		case "js":
			r.page(b)
		case "go":
			r.program(b)
		default:
			t.Errorf("a block of %q cannot be run", b.language)
		}
	}
	r.browse("http://localhost:8000/room/lobby/")
	// Wait until the followers have received the messages that the later blocks have sent.
	for _, f := range r.followers {
		f.process.says(f.last)
	}
}

// block is one fenced block of a Markdown file.
type block struct{ language, text string }

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func readBlocks(t *testing.T, path string) (blocks []block) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fence.FindAllStringSubmatch(string(b), -1) {
		blocks = append(blocks, block{m[1], m[2]})
	}
	return blocks
}

// follower is a command of the README that follows a room, and so runs until the test ends.
type follower struct {
	prefix string // how the command begins
	ready  string // its output contains this text when it has joined the room
	last   string // its output contains this text after the last block
}

var followers = []follower{
	{"wscat ", "connected", " hello"},
	{"curl -N ", "event: hello", `"name":"bot"`},
	{"go run ./gateway tail ", ": hello", " bot: hello"},
	{"nats sub ", "connected", `"name":"bot"`},
}

type running struct {
	follower
	process *process
}

// reader acts as a person who follows the README.
type reader struct {
	t         *testing.T
	env       []string
	followers []running
	browser   context.Context
}

func newReader(t *testing.T) *reader {
	bin := t.TempDir()
	for name := range standIns {
		if err := os.Symlink(os.Args[0], filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "GATEWAY_DATA_DIR="+t.TempDir())
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU)
	browser, closeBrowser := chromedp.NewExecAllocator(context.Background(), flags...)
	t.Cleanup(closeBrowser)
	return &reader{t: t, env: env, browser: browser}
}

// commands returns the commands of a block. A command continues on the next line after a backslash.
func commands(b block) []string {
	return strings.Split(strings.TrimSpace(strings.ReplaceAll(b.text, "\\\n", "")), "\n")
}

// run starts a command line in the background, at the root of the repository.
func (r *reader) run(command string) *process {
	r.t.Helper()
	return launch(r.t, r.env, "/bin/sh", "-c", "cd ../.. && exec "+command)
}

// start runs the line that starts Roomcast.
func (r *reader) start(b block) {
	r.t.Helper()
	r.run(strings.TrimSpace(b.text)).serves()
}

// shell runs a block of commands.
func (r *reader) shell(b block) {
	r.t.Helper()
	for _, command := range commands(b) {
		i := slices.IndexFunc(followers, func(f follower) bool { return strings.HasPrefix(command, f.prefix) })
		if i >= 0 {
			p := r.run(command)
			p.says(followers[i].ready)
			r.followers = append(r.followers, running{followers[i], p})
			continue
		}
		cmd := exec.Command("/bin/sh", "-c", command)
		cmd.Dir, cmd.Env = "../..", r.env
		out, err := cmd.CombinedOutput()
		if err != nil || len(out) == 0 || strings.Contains(string(out), `"error"`) {
			r.t.Errorf("%s: got %v, %s", command, err, out)
		}
	}
}

// page runs a block of JavaScript in a page that another port of this machine serves. The room has
// a message of a guest without a name, a message without text, and an act.
func (r *reader) page(b block) {
	r.t.Helper()
	for _, request := range []struct{ path, body string }{
		{"messages?from=zed", `{"text":"hi"}`},
		{"messages?from=zoe", `{"data":1}`},
		{"mute", `{"member":"zed","for":"1s"}`}, // last, because zed says something above
	} {
		resp, err := http.Post("http://localhost:8000/api/rooms/lobby/"+request.path, "application/json", strings.NewReader(request.body))
		if err != nil {
			r.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			r.t.Errorf("POST %s: got status %d", request.path, resp.StatusCode)
		}
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<script>window.lines = []; console.log = (...a) => lines.push(a.join(' '))</script>\n<script type=module>\n%s</script>", b.text)
	}))
	defer site.Close()
	_, port, err := net.SplitHostPort(site.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.inTab("http://localhost:"+port, `[/^stored as \d+$/, /^\d+ Ann hello$/, /^\d+ zed hi$/, /^\d+ zoe \[no text\]$/, /^\d+ api muted$/].every((want) => lines.some((l) => want.test(l)))
		&& !lines.some((l) => l.includes("undefined"))`)
}

// browse opens the page of Roomcast and waits for the messages of the other blocks.
func (r *reader) browse(url string) {
	r.t.Helper()
	r.inTab(url, `["Shop", "Ann", "bot"].every((name) => document.body.innerText.includes(name))`)
}

func (r *reader) inTab(url, until string) {
	r.t.Helper()
	ctx, cancel := chromedp.NewContext(r.browser)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		r.t.Fatalf("%s: %v", url, err)
	}
	if _, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](until, chromedp.WithPollingTimeout(patience))); err != nil {
		r.t.Errorf("%s: wait for %s: %v", url, until, err)
	}
}

// program runs a block of Go as the body of a program.
func (r *reader) program(b block) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "main.go")
	source := "package main\n\nimport (\n\"context\"\n\"fmt\"\n\n\"roomcast/gateway/client\"\n\"roomcast/proto\"\n)\n\n" +
		"func main() {\nctx := context.Background()\n" + b.text + "}\n"
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("go", "run", path)
	cmd.Dir, cmd.Env = "../..", r.env
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "<nil>") {
		r.t.Errorf("the Go block: got %v, %s", err, out)
	}
}

// If a document contains "go test PACKAGE -run NAME", the package has such a test.
func TestDocumentsNameExistingTests(t *testing.T) {
	files, err := filepath.Glob("../../proto/docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want documents", files, err)
	}
	named := regexp.MustCompile(`go test \./(\S+) -run (\w+)`)
	found := 0
	for _, path := range append(files, "../../README.md", "../../CONTRIBUTING.md", "../examples/README.md") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			found++
			if !hasTest(t, filepath.Join("../..", m[1]), strings.TrimPrefix(m[2], "Test")) {
				t.Errorf("%s: %s has no test %s", path, m[1], m[2])
			}
		}
	}
	if found == 0 {
		t.Error("the documents name no tests, so this test checks nothing")
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	test := regexp.MustCompile(`(?m)^func Test\w*` + name)
	return slices.ContainsFunc(files, func(path string) bool {
		b, err := os.ReadFile(path)
		return err == nil && test.Match(b)
	})
}

// Every file to which a document links exists.
func TestDocumentsLinkToExistingFiles(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, pattern := range []string{"../../*.md", "../../proto/*.md", "../../proto/docs/*.md", "../examples/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: got %v, %v, want documents", pattern, files, err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range link.FindAllStringSubmatch(string(b), -1) {
				if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
		}
	}
}

// The programs in scripts/examples do what their comments say.
func TestExamples(t *testing.T) {
	gateway := start(t, nil, "gateway", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--nats-monitor", "off", "--data-dir", t.TempDir())
	url := gateway.serves()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "../examples/bot").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bot := func() *process {
		return launch(t, nil, filepath.Join(dir, "bot"), "-url", strings.Replace(strings.TrimSuffix(url, "/"), "http", "ws", 1), "-state", filepath.Join(dir, "bot.json"))
	}
	chat := func(lines string) string {
		cmd := exec.Command("node", "--experimental-websocket", "../examples/chat/chat.mjs", url+"room/lobby/", "Ann")
		cmd.Stdin = strings.NewReader(lines)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("chat: %v\n%s", err, out)
		}
		return string(out)
	}
	answers := func(want int) {
		t.Helper()
		var out string
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			out = fetch(t, url+"api/rooms/lobby/messages?last=100")
			if got := strings.Count(out, "Ann rolls a "); got == want || time.Now().After(end) {
				if got != want {
					t.Fatalf("got %d answers, want %d: %s", got, want, out)
				}
				return
			}
		}
	}
	old := exec.Command("node", "--no-experimental-websocket", "../examples/chat/chat.mjs", url+"room/lobby/")
	if out, err := old.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "chat.mjs needs Node 22") {
		t.Errorf("chat without WebSocket: got %v, %s", err, out)
	}
	first := bot()
	for end := time.Now().Add(patience); !strings.Contains(fetch(t, url+"api/rooms/lobby/members"), `"bot"`); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the bot does not join: %s", first.said())
		}
	}
	if out := chat("hello\n!roll\n"); !strings.Contains(out, "Ann: hello") {
		t.Errorf("got %q, want Ann's message", out)
	}
	answers(1)
	if err := first.ends(syscall.SIGKILL); err == nil {
		t.Error("got no error, want the bot to be killed")
	}
	chat("!roll\n")
	bot()
	answers(2)
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	out, err := exec.Command("curl", "-sS", url).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", url, err, out)
	}
	return string(out)
}
