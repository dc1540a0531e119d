package web_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// The hooks run in React's strict mode, which runs every effect twice.
func TestHooksWorkInStrictMode(t *testing.T) {
	t.Parallel()
	if err := installed(); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "app.js")
	cmd := exec.Command("node", "bundle.mjs", script)
	cmd.Dir = "../client/js/testdata"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bundle the app: %v\n%s", err, out)
	}
	app, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/app.js" {
			w.Header().Set("Content-Type", "text/javascript")
			w.Write(app)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(`<link rel="icon" href="data:,"><script>__REACT_DEVTOOLS_GLOBAL_HOOK__ = { isDisabled: true, supportsFiber: true, inject() {} }</script><div id="root"></div><script src="/app.js"></script>`))
	}))
	t.Cleanup(site.Close)
	g := startGateway(t, "--allow-origin", site.URL)
	bob := g.speaker(t, "react", "Bob")
	p := openTab(t)
	p.mayFail()
	p.do(chromedp.Navigate(site.URL + "/?" + g.addr))
	shows := func(want string) {
		t.Helper()
		p.wait(`document.querySelector("#seen")?.textContent === "` + want + `"`)
	}
	shows("open joined 2 people:")
	bob.say("one", "two")
	shows("open joined 2 people: one two")
	p.do(chromedp.Click(chromedp.CSS("#say")))
	shows("open joined 2 people: one two hello")
	if got := eval[string](p, `document.querySelector("#said").textContent + " " + opened`); got != "stored as 3 1" {
		t.Errorf("got %q, want the seq 3 and one WebSocket", got)
	}
	// Two components share the room. The hooks leave the room with the last one.
	p.do(chromedp.Click(chromedp.CSS("#more")))
	p.wait(`document.querySelector("#again")?.textContent === "joined one two hello"`)
	p.do(chromedp.Click(chromedp.CSS("#less")))
	p.wait(`!document.querySelector("#again") && connection.rooms.length === 1`)
	g.kill()
	p.wait(`document.querySelector("#seen").textContent.startsWith("waiting joining")`)
	p.do(chromedp.Click(chromedp.CSS("#say")))
	g.start()
	p.wait(`document.querySelector("#seen").textContent.endsWith(": one two hello hello") && document.querySelector("#said").textContent === "stored as 4"`)
	p.do(chromedp.Click(chromedp.CSS("#away")))
	p.wait(`!document.querySelector("#seen") && connection.rooms.length === 0 && connection.state === "open"`)
	p.do(chromedp.Click(chromedp.CSS("#end")))
	p.wait(`connection.state === "closed"`)
}
