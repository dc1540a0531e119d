// The tests in this file check what the page sends and receives, in a real browser with a real
// gateway. look_test.go checks its appearance.
package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// wantSaid waits until the page shows the wanted number of messages, and compares them.
func wantSaid(t *testing.T, p *tab, want ...string) {
	t.Helper()
	p.wait(fmt.Sprintf(`document.querySelectorAll("#log .bubble").length >= %d`, len(want)))
	if got := p.said(); !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
}

func rename(p *tab, name string) {
	p.t.Helper()
	p.do(chromedp.Focus(chromedp.CSS("#name")))
	eval[chromedp.Void](p, `document.activeElement.select()`)
	p.insert(name)
	p.enter()
	p.wait(`document.body.dataset.state === "open"`)
}

func TestTwoBrowsersExchangeMessages(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ann, bob := openTab(t).open(g, "/?group=聊天室1"), openTab(t).open(g, "/room/聊天室1/")
	rename(ann, "安娜")
	rename(bob, "Bob")
	for _, p := range []*tab{ann, bob} {
		p.wait(`document.querySelectorAll("#people li").length === 2 && document.querySelector("#people").innerText.includes("安娜") && document.querySelector("#people").innerText.includes("Bob")`)
	}
	ann.do(chromedp.Focus(chromedp.CSS("#text")))
	ann.insert("你")
	bob.wait(`document.querySelector("#typing").textContent === "安娜 is typing…"`)
	ann.say("好")
	bob.shows("你好")
	bob.wait(`document.querySelector("#typing").textContent === ""`)
	bob.say("hello")
	ann.shows("hello")
	for _, p := range []*tab{ann, bob} {
		wantSaid(t, p, "你好", "hello")
		p.wait(`document.querySelector("#outbox").children.length === 0`)
	}
	if got := eval[string](ann, `[...document.querySelectorAll("#log > li:not(.note)")].map((r) => r.className).join()`); got != "mine first,theirs first" {
		t.Errorf("ann's rows are %q", got)
	}
	if got := eval[string](bob, `document.querySelector("#log .theirs .name").textContent`); got != "安娜" {
		t.Errorf("bob sees the name %q, want 安娜", got)
	}
	if got := eval[int](ann, `document.querySelectorAll("#log .note").length`); got != 0 {
		t.Errorf("%d notes about a connection that was never lost", got)
	}
}

// The path comes from --path-prefix, or from a proxy that removes the path and pools its
// connections.
func TestPageWorksBelowAPath(t *testing.T) {
	t.Parallel()
	told, plain := startGateway(t, "--path-prefix", "/chat"), startGateway(t)
	pool := &http.Transport{MaxIdleConnsPerHost: 1}
	proxy := &httputil.ReverseProxy{Transport: pool, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: plain.addr})
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}}
	front := httptest.NewServer(http.StripPrefix("/chat", proxy))
	t.Cleanup(func() { front.Close(); pool.CloseIdleConnections() })
	for _, g := range []*gateway{told, {addr: strings.TrimPrefix(front.URL, "http://")}} {
		ann, bob := openTab(t).open(g, "/chat/room/below/"), openTab(t).open(g, "/chat/?group=below")
		ann.say("hello")
		bob.shows("hello")
		bob.do(chromedp.Focus(chromedp.CSS("#room")))
		bob.insert("另外")
		bob.enter()
		bob.wait(`document.querySelector("#title").textContent === "另外"`)
		if got := eval[string](bob, `decodeURIComponent(location.pathname + location.search)`); got != "/chat/?group=另外" {
			t.Errorf("the address of another room is %s", got)
		}
		eve := openTab(t).open(g, "/chat/room/另外")
		eve.say("in here")
		bob.shows("in here")
		if got := eval[string](eve, `getComputedStyle(document.querySelector(".brand img")).display + document.querySelector(".brand img").naturalWidth`); strings.HasSuffix(got, "k0") {
			t.Errorf("the page has no icon: %s", got)
		}
	}
}

func TestCloseWordClosesTheConnection(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ann, bob := openTab(t).open(g, "/"), openTab(t).open(g, "/?group=123")
	ann.say("关闭")
	ann.wait(`document.body.dataset.state === "closed" && !document.querySelector("#ended").hidden`)
	ann.wait(`document.querySelector("#log .note:last-child")?.lastChild.textContent === "Disconnected"`)
	bob.wait(`document.querySelectorAll("#people li").length === 1`)
	bob.say("anybody?")
	bob.shows("anybody?")
	ann.do(chromedp.Click(chromedp.CSS("#again")))
	ann.shows("anybody?")
	ann.say("me")
	bob.shows("me")
	for _, p := range []*tab{ann, bob} {
		wantSaid(t, p, "anybody?", "me") // the close word is neither shown nor sent again
	}
	ann.do(chromedp.Click(chromedp.CSS("#close")))
	ann.wait(`document.body.dataset.state === "closed"`)
	bob.wait(`document.querySelectorAll("#people li").length === 1`)
}

func TestReloadedPageKeepsIdentityAndMessages(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ann := openTab(t).open(g, "/?group=r")
	rename(ann, "Ann")
	for _, text := range []string{"a1", "a2", "a3"} {
		ann.say(text)
	}
	ann.shows("a3")
	me := eval[string](ann, `sessionStorage.getItem("roomcast ws://`+g.addr+`/ws ")`)
	bob := g.speaker(t, "r", "Bob")
	done := make(chan struct{})
	go func() {
		defer close(done)
		bob.say("b1", "b2", "b3", "b4", "b5")
	}()
	ann.do(chromedp.Reload())
	<-done
	ann.wait(`document.body.dataset.state === "open"`)
	ann.shows("b5")
	wantSaid(t, ann, "a1", "a2", "a3", "b1", "b2", "b3", "b4", "b5")
	if got := eval[int](ann, `document.querySelectorAll("#log .mine").length`); got != 3 {
		t.Errorf("%d messages are Ann's own after the reload, want 3 (before: %s)", got, me)
	}
	if got := eval[string](ann, `document.querySelector("#name").value`); got != "Ann" {
		t.Errorf("the name is %q after the reload, want Ann", got)
	}
}

// The page changes a typed name only where the server would not accept it.
func TestPageSendsAcceptableNames(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=names")
	for name, want := range map[string]string{
		"Ann \U0001fae9": "Ann \U0001fae9", // a character that Go's Unicode tables lack
		"\U0002ebf0明":    "\U0002ebf0明",    // likewise
		"a\u0378b":       "a\u0378b",       // Unicode has not assigned U+0378
		"\U0001f3f4\U000e0067\U000e0062\U000e007f": "\U0001f3f4\U000e0067\U000e0062\U000e007f",
		"a\u202eb\u2066c\u200f":                    "abc",
		"a\u0085b\u0007":                           "ab",
		"  a \u3000 b ":                            "a b",
		"\u3164\u200d ":                            "",
	} {
		rename(p, name)
		if got := eval[string](p, `document.querySelector("#name").value`); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
		p.say("as " + want)
		p.shows("as " + want)
	}
}

func TestTabsOfOneBrowserHaveTheirOwnIdentities(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	first := openTab(t).open(g, "/?group=t")
	first.say("from the first")
	first.shows("from the first")
	second := first.beside().open(g, "/?group=t")
	second.say("from the second")
	first.shows("from the second")
	for range 2 { // the second time after a reload
		for p, want := range map[*tab]string{first: "from the first", second: "from the second"} {
			p.shows("from the second")
			if got := p.mine(); got != want {
				t.Errorf("a tab shows %q as its own messages, want %q", got, want)
			}
			p.do(chromedp.Reload())
		}
	}
}

// The first tab has the browser's identity. After the first tab is closed, a new tab has this
// identity.
func TestIdentityOfTheBrowserOutlivesItsTab(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	first := openTab(t).open(g, "/?group=t")
	first.say("from the first")
	first.shows("from the first")
	second := first.beside().open(g, "/?group=t")
	second.shows("from the first")
	first.do(chromedp.Navigate("about:blank"))
	// The browser frees the locks of a page some time after it has left the page.
	eval[chromedp.Void](second, `(async () => {
		while ((await navigator.locks.query()).held.some((lock) => lock.name === "roomcast.identity")) await new Promise((r) => setTimeout(r, 20));
	})()`)
	third := second.beside().open(g, "/?group=t")
	third.shows("from the first")
	if got := third.mine(); got != "from the first" {
		t.Errorf("a new tab shows %q as its own messages, want those of the closed tab", got)
	}
}

func TestPageContinuesAfterTheServerWasKilled(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ann, bob := openTab(t).open(g, "/?group=k"), openTab(t).open(g, "/?group=k")
	ann.mayFail()
	bob.mayFail()
	ann.say("1")
	bob.shows("1")
	bob.say("2")
	ann.shows("2")
	g.kill()
	ann.wait(`document.body.dataset.state === "waiting"`)
	ann.say("3")
	ann.say("4")
	ann.wait(`document.querySelectorAll("#outbox .pending").length === 2`)
	g.start()
	for _, p := range []*tab{ann, bob} {
		p.wait(`document.body.dataset.state === "open"`)
		p.shows("4")
	}
	bob.say("5")
	for _, p := range []*tab{ann, bob} {
		p.shows("5")
		p.wait(`document.querySelector("#outbox").children.length === 0`)
		wantSaid(t, p, "1", "2", "3", "4", "5")
	}
	bob.do(chromedp.Reload()) // after that, the page shows the messages of the log
	bob.shows("5")
	wantSaid(t, bob, "1", "2", "3", "4", "5")
}

// The test kills the server while two browsers send without a pause. The browsers cannot know
// which of the messages in flight are stored.
func TestMessagesInFlightAreStoredOnceAfterAKill(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ann, bob := openTab(t).open(g, "/?group=f"), openTab(t).open(g, "/?group=f")
	const each = 60
	for p, name := range map[*tab]string{ann: "ann", bob: "bob"} {
		p.mayFail()
		eval[chromedp.Void](p, fmt.Sprintf(`void (async () => {
			for (let i = 0; i < %d; i++) {
				document.querySelector("#text").value = "%s " + i;
				document.querySelector("#composer").requestSubmit();
				await new Promise((r) => setTimeout(r, 40));
			}
		})()`, each, name))
	}
	for _, n := range []int{15, 45} {
		bob.wait(fmt.Sprintf(`document.querySelectorAll("#log .bubble").length >= %d`, n))
		g.kill()
		g.start()
	}
	for _, p := range []*tab{ann, bob} {
		p.wait(fmt.Sprintf(`document.querySelectorAll("#log .bubble").length >= %d && document.querySelector("#outbox").children.length === 0`, 2*each))
	}
	said := ann.said()
	wantSaid(t, bob, said...)
	for _, name := range []string{"ann", "bob"} {
		var got, want []string
		for _, text := range said {
			if strings.HasPrefix(text, name) {
				got = append(got, text)
			}
		}
		for i := range each {
			want = append(want, fmt.Sprint(name, " ", i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("the room has these messages of %s: %q", name, got)
		}
	}
}

func TestPageShowsThatARoomWasClosedAndReopened(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=c")
	p.say("before")
	p.shows("before")
	g.post(t, "/api/rooms/c/close", `{"why":"done for today"}`)
	closed := `!document.querySelector("#ended").hidden && document.querySelector("#ended span").textContent === "This room has been closed: done for today"`
	p.wait(`document.querySelector("#log .act")?.textContent.includes("done for today") && ` + closed)
	p.do(chromedp.Click(chromedp.CSS("#again"))) // still closed: the join is refused
	p.wait(closed)
	p.do(chromedp.Reload())
	p.wait(closed)
	g.post(t, "/api/rooms/c/reopen", `{}`)
	p.do(chromedp.Click(chromedp.CSS("#again")))
	p.wait(`document.querySelector("#ended").hidden`)
	p.say("after")
	p.shows("after")
	wantSaid(t, p, "before", "after")
}
