//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// These tests run the applications in scripts/examples with their real frameworks and a real
// gateway. A browser logs in, sends messages and logs out. Other clients try to connect without a
// login.

// application is a running example with a web page.
type application struct {
	t       *testing.T
	url     string // the URL of the page
	gateway string
	token   string // a token for the gateway's HTTP API, with the rights that the README gives it
	browser context.Context
}

// prepare copies an example to an empty folder and runs the commands that install its dependencies
// there.
func prepare(t *testing.T, name string, commands ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("../examples", name))); err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		inFolder(t, dir, command)
	}
	return dir
}

// inFolder runs a command line in a folder and returns its output.
func inFolder(t *testing.T, dir, command string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", command)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// documentedFlags returns the flags with which the README of the examples starts the gateway. It
// looks for the code block that contains part.
func documentedFlags(t *testing.T, part string) []string {
	t.Helper()
	for _, command := range commands(block{text: documented(t, "../examples/README.md", "sh", part)}) {
		if _, flags, ok := strings.Cut(command, "go run ./gateway "); ok {
			return strings.Fields(strings.TrimSuffix(flags, "&"))
		}
	}
	t.Fatalf("the block with %s starts no gateway", part)
	return nil
}

// documentedTokens returns the token file of the README of the examples, with the given token.
func documentedTokens(t *testing.T, token string) string {
	t.Helper()
	m := regexp.MustCompile(`echo "(.*\$API_TOKEN .*)" >tokens`).FindStringSubmatch(documented(t, "../examples/README.md", "sh", ">tokens"))
	if m == nil {
		t.Fatal("the README writes no file tokens")
	}
	return strings.Replace(m[1], "$API_TOKEN", token, 1) + "\n"
}

// With the token lines of the documents, an application gets tickets and can revoke them.
func TestDocumentedTokenMakesTickets(t *testing.T) {
	const token = "a-token-of-this-test"
	page, err := os.ReadFile("../../proto/docs/login.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("`(app 41d0… [^`]*)`").FindSubmatch(page)
	if m == nil {
		t.Fatal("login.md has no line of a token file")
	}
	for name, line := range map[string]string{
		"README.md": documentedTokens(t, token), "login.md": strings.Replace(string(m[1]), "41d0…", token, 1),
	} {
		tokens := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(tokens, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		gateway := start(t, nil, "gateway", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--nats-monitor", "off",
			"--data-dir", t.TempDir(), "--guest-rights=", "--api-token-file", tokens)
		base := gateway.serves()
		for path, body := range map[string]string{
			"tickets": `{"id":"ann","name":"Ann","rooms":{"lobby":"read say"}}`,
			"revoke":  `{"id":"ann","reconnect":true}`,
		} {
			answer := inFolder(t, ".", fmt.Sprintf("curl -sS -H 'Authorization: Bearer %s' -d '%s' %sapi/%s", token, body, base, path))
			if !strings.Contains(answer, `"ok"`) {
				t.Errorf("%s: the answer to %s is %s", name, path, answer)
			}
		}
	}
}

// serve starts a gateway with the flags of the README for this example, and the application with a
// command in dir. Both have the host localhost, so that the browser sends the application's cookie
// to the gateway too.
func serve(t *testing.T, name, dir, command string, env ...string) *application {
	t.Helper()
	keys, port := t.TempDir(), freePort(t)
	a := &application{t: t, url: "http://localhost:" + port, token: "a-token-of-this-test"}
	file := func(name, text string) string {
		path := filepath.Join(keys, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret, tokens := file("secret", "whsec_c2VjcmV0cyBvZiB0aGlzIHRlc3QgYXJlIG5vbmU=\n"), file("tokens", documentedTokens(t, a.token))
	flags := documentedFlags(t, "scripts/examples/"+name)
	for i, flag := range flags {
		switch flag {
		case "secret":
			flags[i] = secret
		case "tokens":
			flags[i] = tokens
		default:
			flags[i] = strings.Replace(flag, "http://localhost:3000", a.url, 1)
		}
	}
	if !slices.Contains(flags, tokens) {
		flags = append(flags, "--api-token-file", tokens)
	}
	gateway := start(t, nil, "gateway", append(flags, "--listen", "127.0.0.1:0", "--ops-listen", "off", "--nats-monitor", "off",
		"--data-dir", t.TempDir(), "--auth-timeout", "1s")...)
	a.gateway = strings.Replace(strings.TrimSuffix(gateway.serves(), "/"), "127.0.0.1", "localhost", 1)
	env = append(env, "PORT="+port, "GATEWAY="+a.gateway, "SECRET_FILE="+secret, "API_TOKEN="+a.token)
	launch(t, env, "/bin/sh", "-c", "cd "+dir+" && exec "+strings.ReplaceAll(command, "PORT", port))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU)...)
	t.Cleanup(stop)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(closeBrowser)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start a browser: %v", err)
	}
	a.browser = browser
	return a
}

// visitor is a browser with its own cookies.
type visitor struct {
	a   *application
	ctx context.Context
}

// visit opens the application in a new browser.
func (a *application) visit() *visitor {
	ctx, cancel := chromedp.NewContext(a.browser, chromedp.WithNewBrowserContext())
	a.t.Cleanup(cancel)
	v := &visitor{a, ctx}
	v.open()
	return v
}

// newTab opens the application in another tab of the same browser.
func (v *visitor) newTab() *visitor {
	ctx, cancel := chromedp.NewContext(v.ctx)
	v.a.t.Cleanup(cancel)
	tab := &visitor{v.a, ctx}
	tab.open()
	return tab
}

// open opens the page of the application. It tries again until the application serves.
func (v *visitor) open() {
	v.a.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := chromedp.Do(v.ctx, chromedp.Navigate(v.a.url+"/"))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			v.a.t.Fatalf("open %s: %v", v.a.url, err)
		}
	}
}

// until waits until a JavaScript expression is true. It also works if the browser loads another
// page meanwhile.
func (v *visitor) until(js string) {
	v.a.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		is, err := chromedp.Run(v.ctx, chromedp.Evaluate[bool]("!!("+js+")"))
		if err == nil && is {
			return
		}
		if time.Now().After(end) {
			v.a.t.Fatalf("wait for %s: %v\nthe page shows %q", js, err, v.eval("document.documentElement.innerText"))
		}
	}
}

func (v *visitor) eval(js string) string {
	v.a.t.Helper()
	text, err := chromedp.Run(v.ctx, chromedp.Evaluate[string](js, chromedp.EvalAwaitPromise))
	if err != nil {
		v.a.t.Fatalf("%s: %v", js, err)
	}
	return text
}

// fill fills in the form with the given fields (name, value, name, value, …) and submits it.
func (v *visitor) fill(fields ...string) {
	v.a.t.Helper()
	js := fmt.Sprintf("((f) => { if (f) { %%s f.requestSubmit(); } return f ? 'sent' : ''; })(document.querySelector('[name=%s]')?.form)", fields[0])
	set := ""
	for i := 0; i < len(fields); i += 2 {
		set += fmt.Sprintf("f.elements[%q].value = %q; ", fields[i], fields[i+1])
	}
	v.until(fmt.Sprintf("document.querySelector('[name=%s]')", fields[0]))
	if v.eval(fmt.Sprintf(js, set)) == "" {
		v.a.t.Fatalf("there is no form with %s", fields[0])
	}
}

// sees waits until the page contains a message.
func (v *visitor) sees(message string) {
	v.a.t.Helper()
	v.until(fmt.Sprintf("document.body.innerText.includes(%q)", message))
}

// says sends a message in the chat. The page must have joined the room before.
func (v *visitor) says(text string) {
	v.a.t.Helper()
	v.fill("text", text)
}

// press presses the button with a label.
func (v *visitor) press(label string) {
	v.a.t.Helper()
	button := fmt.Sprintf("[...document.querySelectorAll('button')].find((b) => b.textContent === %q)", label)
	v.until(button)
	v.eval(button + ".click(), ''")
}

// connects opens a session in the lobby, with the origin of the application's page. It returns the
// first frame, or the reason why no frame came.
func (a *application) connects(query, cookie string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	header := http.Header{"Origin": {a.url}}
	if cookie != "" {
		header.Set("Cookie", cookie)
	}
	c, _, err := websocket.Dial(ctx, strings.Replace(a.gateway, "http", "ws", 1)+"/room/lobby/"+query, &websocket.DialOptions{Subprotocols: []string{"roomcast.v1"}, HTTPHeader: header})
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.CloseNow()
	_, frame, err := c.Read(ctx)
	if err != nil {
		return err.Error()
	}
	return string(frame)
}

// members waits until exactly the people with the given ids are in the lobby.
func (a *application) members(want ...string) {
	a.t.Helper()
	var body string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		body = inFolder(a.t, ".", fmt.Sprintf("curl -sS -H 'Authorization: Bearer %s' %s/api/rooms/lobby/members", a.token, a.gateway))
		var list struct{ Members []struct{ ID string } }
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			a.t.Fatalf("%v: %s", err, body)
		}
		var ids []string
		for _, m := range list.Members {
			ids = append(ids, m.ID)
		}
		slices.Sort(ids)
		if slices.Equal(ids, want) {
			return
		}
	}
	a.t.Fatalf("got %s, want %v", body, want)
}

// talk lets Ann and Ben log in and exchange messages, and returns their browsers.
func (a *application) talk(field string) (ann, ben *visitor) {
	a.t.Helper()
	ann, ben = a.visit(), a.visit()
	ann.fill(field, "ann", "password", "ann's password")
	a.members("ann")
	ann.says("hello")
	ann.sees("ann: hello")
	ben.fill(field, "ben", "password", "a wrong password")
	ben.until(fmt.Sprintf("document.querySelector('[name=%s]')", field))
	ben.fill(field, "ben", "password", "ben's password")
	ben.sees("ann: hello")
	a.members("ann", "ben")
	ben.says("hi")
	ann.sees("ben: hi")
	return ann, ben
}

// refuses checks that the gateway refuses a session with this query and cookie.
func (a *application) refuses(want, query, cookie string) {
	a.t.Helper()
	if got := a.connects(query, cookie); !strings.Contains(got, want) {
		a.t.Errorf("%s%s: got %s, want %s", query, cookie, got, want)
	}
}

// The gateway asks the Express application who the user of a browser is, and the application
// answers by its session cookie. A logout ends all sessions of the user on the gateway. Another
// browser of the same user, which is still logged in, reconnects.
func TestExampleExpress(t *testing.T) {
	dir := prepare(t, "express", "npm ci --silent --no-audit --no-fund")
	a := serve(t, "express", dir, "node server.mjs")
	ann, ben := a.talk("user")
	a.refuses("4107", "", "")
	a.refuses("log in first", "", "connect.sid=s%3Aforged.forged")
	ann.newTab().sees("ben: hi")
	ann.press("Log out")
	a.members("ben")
	ann.fill("user", "ann", "password", "ann's password")
	a.members("ann", "ben")
	phone := a.visit()
	phone.fill("user", "ann", "password", "ann's password")
	phone.sees("ben: hi")
	phone.eval("(() => { const W = WebSocket; WebSocket = class extends W { constructor(...a) { super(...a); window.again = true; } }; return ''; })()")
	ann.press("Log out")
	phone.until("window.again")
	phone.says("still here")
	ben.sees("ann: still here")
}

// The Django site answers the gateway by the session of django.contrib.auth. Its webhook receives
// each event once.
func TestExampleDjango(t *testing.T) {
	dir := prepare(t, "django", "python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check -r requirements.txt", "echo whsec_AAAA >secret; "+djangoUsers)
	a := serve(t, "django", dir, "venv/bin/python -u manage.py runserver --noreload 127.0.0.1:PORT")
	ann, _ := a.talk("username")
	a.refuses("4107", "", "")
	a.refuses("log in first", "", "sessionid=forged")
	const count = `(await (await fetch("/heard")).json()).heard.filter((e) => %s).length`
	hears := func(event, want string) {
		t.Helper()
		for end := time.Now().Add(patience); ann.eval(fmt.Sprintf("(async () => '' + ("+count+want+"))()", event)) != "true"; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the number of events with %s is not %s; the site has heard %s", event, want, ann.eval(`(async () => (await fetch("/heard")).text())()`))
			}
		}
	}
	hears(`e.data.text === "hello"`, " === 1")
	hears(`e.data.text === "hi"`, " === 1")
	// Just after the start, roomsvc may not know yet who was in the room before. Then an event
	// present, with all people, takes the place of joined.
	for _, id := range []string{"ann", "ben"} {
		hears(fmt.Sprintf(`(e.data.joined?.id === %[1]q || e.data.present?.members?.some((m) => m.id === %[1]q))`, id), " > 0")
	}
	forged := `fetch("/roomcast/hear", { method: "POST", body: '{"events":[{"id":"forged"}]}' }).then((r) => r.ok + "")`
	if got := ann.eval(forged); got != "false" {
		t.Error("the site accepts events without a signature")
	}
}

const djangoUsers = `venv/bin/python manage.py migrate -v 0
for user in ann ben; do
	DJANGO_SUPERUSER_PASSWORD="$user's password" venv/bin/python manage.py createsuperuser --noinput --username $user --email $user@example.org
done`

// The Next.js application gives its users tickets. Each ticket can open only one session.
func TestExampleNext(t *testing.T) {
	dir := prepare(t, "next", "npm ci --silent --no-audit --no-fund", "npm install --silent --no-audit --no-fund --no-save "+clientTarball(t))
	a := serve(t, "next", dir, "node_modules/.bin/next dev --hostname 127.0.0.1 --port PORT", "SESSION_SECRET=of-this-test", "NEXT_TELEMETRY_DISABLED=1")
	ann, _ := a.talk("user")
	mint := `fetch("/api/ticket", { method: "POST" }).then(async (r) => r.status + " " + await r.text())`
	ticket, ok := strings.CutPrefix(ann.eval(mint), "200 ")
	if !ok || ticket == "" {
		t.Fatalf("got no ticket: %s", ticket)
	}
	a.refuses(`"you":{"id":"ann"`, "?ticket="+ticket, "") // a new ticket opens one session
	a.refuses("4003", "?ticket="+ticket, "")
	a.refuses("4103", "?ticket="+ticket[1:], "")
	a.refuses("4107", "", "")
	if got := a.visit().eval(mint); !strings.HasPrefix(got, "401 ") {
		t.Errorf("got %s, want no ticket without a login", got)
	}
}

// clientTarball packs the npm package of the JavaScript client.
func clientTarball(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../gateway/client/js")); err != nil {
		t.Fatal(err)
	}
	out := inFolder(t, dir, "npm ci --silent --no-audit --no-fund && npm run --silent build >&2 && npm pack --silent --ignore-scripts")
	return filepath.Join(dir, strings.TrimSpace(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]))
}

// An example needs at most 25 lines of code for Roomcast. Two comments mark these lines.
func TestExamplesAreShort(t *testing.T) {
	for name, patterns := range map[string][]string{
		"express": {"server.mjs"},
		"django":  {"shop/*.py", "templates/*.html"},
		"next":    {"app/*.jsx", "app/api/*/*.js"},
		"login":   {"main.go"},
	} {
		lines := 0
		for _, pattern := range patterns {
			files, err := filepath.Glob(filepath.Join("../examples", name, pattern))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s: got %v, %v, want files", pattern, files, err)
			}
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range integration.FindAllStringSubmatch(string(b), -1) {
					for line := range strings.Lines(m[1]) {
						if strings.TrimSpace(line) != "" {
							lines++
						}
					}
				}
			}
		}
		if lines == 0 || lines > 25 {
			t.Errorf("%s has %d lines of integration, want 1 to 25", name, lines)
		}
	}
}

// integration matches the code between the two comments of an example.
var integration = regexp.MustCompile(`(?s)roomcast begins[^\n]*\n(.*?)[^\n]*roomcast ends`)
