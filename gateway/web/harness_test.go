package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"roomcast/proto/natstest"
)

// patience bounds every wait for a condition. It is generous for slow machines.
const patience = 60 * time.Second

// build makes the gateway's binary once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "roomcast-web-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "gateway")
	if out, err := exec.Command("go", "build", "-o", bin, "roomcast/gateway").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build gateway: %w\n%s", err, out)
	}
	return bin, nil
})

// gateway is a gateway process that a test can kill, and restart with the same address and data.
type gateway struct {
	t    *testing.T
	addr string
	args []string
	cmd  *exec.Cmd
}

func startGateway(t *testing.T, flags ...string) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	g := &gateway{t: t, addr: addr}
	g.args = append([]string{"--listen", addr, "--data-dir", t.TempDir(), "--ops-listen", "off", "--nats-monitor", "off",
		"--sync", "1s", "--rate", "0", "--log-level", "warn"}, flags...)
	g.start()
	t.Cleanup(g.kill)
	return g
}

func (g *gateway) start() {
	g.t.Helper()
	bin, err := build()
	if err != nil {
		g.t.Fatal(err)
	}
	g.cmd = exec.Command(bin, g.args...)
	g.cmd.Stderr = g.t.Output()
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	until(g.t, "the gateway to serve", func() bool {
		r, err := http.Get("http://" + g.addr + "/")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode < http.StatusInternalServerError // 404 is fine: with --path-prefix the page has another path
	})
}

// kill sends SIGKILL.
func (g *gateway) kill() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
}

// post sends a request to the HTTP API, which is open on loopback.
func (g *gateway) post(t *testing.T, path, body string) {
	t.Helper()
	r, err := http.Post("http://"+g.addr+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s %s", path, r.Status, answer)
	}
}

var until = natstest.Eventually

// speaker is a member without a browser: a JSON session that sends one command at a time.
type speaker struct {
	t    *testing.T
	conn *websocket.Conn
	id   int // of the newest command; the key of its message contains the same number
}

func (g *gateway) speaker(t *testing.T, room, name string) *speaker {
	t.Helper()
	u := fmt.Sprintf("ws://%s/room/%s/?name=%s", g.addr, url.PathEscape(room), url.QueryEscape(name))
	conn, _, err := websocket.Dial(t.Context(), u, &websocket.DialOptions{Subprotocols: []string{"roomcast.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return &speaker{t: t, conn: conn}
}

// say sends each text and waits until all are stored.
func (s *speaker) say(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		s.id++
		frame, _ := json.Marshal(map[string]any{"id": s.id, "say": map[string]string{"text": text, "key": fmt.Sprint("k", s.id)}})
		send := func() {
			if err := s.conn.Write(s.t.Context(), websocket.MessageText, frame); err != nil {
				s.t.Fatal(err)
			}
		}
		send()
		for done := false; !done; {
			_, b, err := s.conn.Read(s.t.Context())
			if err != nil {
				s.t.Fatal(err)
			}
			var f struct {
				ID    int
				OK    json.RawMessage
				Error *struct {
					Message string
					Retry   int `json:"retry_ms"`
				}
			}
			json.Unmarshal(b, &f)
			switch {
			case f.Error == nil:
			case f.Error.Retry > 0: // the server is not ready yet
				time.Sleep(time.Duration(f.Error.Retry) * time.Millisecond)
				send()
			default:
				s.t.Fatalf("say %q: %s", text, f.Error.Message)
			}
			done = f.OK != nil && f.ID == s.id
		}
	}
}

// chromium starts one browser for all tests; TestMain closes it.
var chromium = sync.OnceValues(func() (context.Context, error) {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		return nil, fmt.Errorf("these tests drive a browser and there is none: install chromium (apt-get install chromium)")
	}
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-US"),
		chromedp.Flag("ignore-certificate-errors", true)) // test certificates have no authority
	ctx, _ := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, closeBrowser = chromedp.NewContext(ctx)
	return ctx, chromedp.Do(ctx)
})

var closeBrowser = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	closeBrowser()
	if bin, err := build(); err == nil {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// tab is a tab of the browser. The test fails if the page in it opens a dialog or writes to its
// console.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	offline bool     // failed connections are expected
	noise   []string // lines on the console, and dialogs
}

func openTab(t *testing.T, steps ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	return newTab(t, browser, []chromedp.ContextOption{chromedp.WithNewBrowserContext()}, steps...)
}

// beside opens another tab in the same profile.
func (p *tab) beside() *tab {
	p.t.Helper()
	return newTab(p.t, p.ctx, nil)
}

func newTab(t *testing.T, parent context.Context, opts []chromedp.ContextOption, steps ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, opts...)
	p := &tab{t: t, ctx: ctx}
	p.do(append([]chromedp.Action[chromedp.Void]{chromedp.EmulateViewport(1280, 800)}, steps...)...)
	messages, dialogs := chromedp.Console(ctx), chromedp.Events(ctx, page.JavascriptDialogOpening)
	var reading sync.WaitGroup
	reading.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			p.heard(fmt.Sprintf("%s %s: %s", m.Type, m.Source, m.Text))
		}
	})
	reading.Go(func() {
		for d, err := range dialogs {
			if err != nil {
				return
			}
			p.heard("dialog: " + d.Message)
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		for _, line := range p.noise {
			t.Errorf("the page wrote to the console: %s", line)
		}
	})
	return p
}

func (p *tab) heard(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, failure := range []string{"ERR_CONNECTION_REFUSED", "WebSocket connection to", "ERR_INCOMPLETE_CHUNKED_ENCODING", "status of 502"} {
		if p.offline && strings.Contains(line, failure) {
			return
		}
	}
	p.noise = append(p.noise, line)
}

// mayFail allows the page to report failed connections.
func (p *tab) mayFail() {
	p.mu.Lock()
	p.offline = true
	p.mu.Unlock()
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// open goes to the page of a room and waits until it is connected.
func (p *tab) open(g *gateway, path string) *tab {
	p.t.Helper()
	return p.openAt("http://" + g.addr + path)
}

// openAt is like open, for any address.
func (p *tab) openAt(url string) *tab {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
	p.wait(`document.body.dataset.state === "open"`)
	return p
}

// wait waits until a JavaScript expression is true.
func (p *tab) wait(js string) {
	p.t.Helper()
	if _, err := chromedp.Run(p.ctx, chromedp.Poll[chromedp.Void]("!!("+js+")", chromedp.WithPollingInterval(30*time.Millisecond), chromedp.WithPollingTimeout(patience))); err != nil {
		p.t.Fatalf("wait for %s: %v\nthe page shows %q", js, err, eval[string](p, `document.body.innerText.slice(-1500)`))
	}
}

func eval[T any](p *tab, js string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// mine returns the texts that the page shows as the user's own messages.
func (p *tab) mine() string {
	p.t.Helper()
	return eval[string](p, `[...document.querySelectorAll("#log .mine .bubble")].map((b) => b.textContent).join()`)
}

// press sends keys to the focused element.
func (p *tab) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// enter presses Enter as a keyboard does: if the page handles the key, no text follows.
func (p *tab) enter(modifiers ...chromedp.Modifier) {
	p.t.Helper()
	key := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "Enter", Code: "Enter", Text: "\r", WindowsVirtualKeyCode: 13}
	for _, m := range modifiers {
		key.Modifiers |= int64(m)
	}
	for _, key.Type = range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		if _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, key); err != nil {
			p.t.Fatal(err)
		}
		key.Text = ""
	}
}

// insert inserts text at the focus, as an input method does.
func (p *tab) insert(text string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		p.t.Fatal(err)
	}
}

// say types a message and presses Enter.
func (p *tab) say(text string) {
	p.t.Helper()
	p.do(chromedp.Focus(chromedp.CSS("#text")))
	p.insert(text)
	p.enter()
}

// said returns the messages on the page, one line each, without notes.
func (p *tab) said() []string {
	p.t.Helper()
	return eval[[]string](p, `[...document.querySelectorAll("#log .bubble")].map((b) => [...b.childNodes].filter((n) => n.tagName !== "BUTTON").map((n) => n.textContent).join(""))`)
}

// shows waits until the log's last message is text.
func (p *tab) shows(text string) {
	p.t.Helper()
	quoted, _ := json.Marshal(text)
	p.wait(fmt.Sprintf(`[...document.querySelectorAll("#log .bubble")].at(-1)?.textContent === %s`, quoted))
}

// dark makes the browser report that its user prefers dark colours.
func (p *tab) dark() {
	p.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		p.t.Fatal(err)
	}
}
