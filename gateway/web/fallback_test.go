package web_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
)

var quiet = log.New(io.Discard, "", 0) // a gateway that is killed breaks the connections of its proxy

// front is a proxy before a gateway that can refuse WebSockets, as some networks do.
type front struct {
	*httptest.Server
	refuse  atomic.Bool
	sockets atomic.Int32 // WebSocket handshakes that came through
	streams atomic.Int32
}

func refusing(t *testing.T, g *gateway) *front {
	f := &front{}
	f.refuse.Store(true)
	proxy := &httputil.ReverseProxy{FlushInterval: -1, ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: g.addr})
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") == "":
			if strings.HasSuffix(r.URL.Path, "/events") {
				f.streams.Add(1)
			}
		case f.refuse.Load():
			http.Error(w, "no upgrades here", http.StatusForbidden)
			return
		default:
			f.sockets.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

// A page in a network that refuses WebSockets keeps all promises over plain HTTP, and returns
// to a WebSocket when it can.
func TestPageWorksWithoutWebSockets(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	f := refusing(t, g)
	p := openTab(t)
	p.mayFail()
	p.openAt(f.URL + "/?group=plain")
	bob := g.speaker(t, "plain", "Bob")
	bob.say("one")
	p.shows("one")
	p.say("two")
	p.wait(`document.querySelector("#log .mine")`)
	p.enterRoom("other") // another room on the same stream
	p.wait(`document.body.dataset.room === "joined"`)
	g.speaker(t, "other", "Eve").say("elsewhere")
	p.shows("elsewhere")
	p.back("plain")
	p.shows("two")
	p.wait(`document.querySelector("#present").textContent === "2 people here"`)
	g.kill()
	p.wait(`document.body.dataset.state !== "open"`)
	p.say("three")
	p.say("four")
	g.start()
	g.speaker(t, "plain", "Bob").say("five")
	p.wait(`document.querySelectorAll("#log .bubble").length === 5 && !document.querySelector("#outbox").children.length`)
	if n := f.sockets.Load(); n != 0 {
		t.Fatalf("%d WebSockets came through", n)
	}
	f.refuse.Store(false)
	until(t, "the page to use a WebSocket", func() bool { return f.sockets.Load() > 0 })
	p.wait(`document.body.dataset.state === "open"`)
	p.say("six")
	p.shows("six")
	said := p.said()
	at := func(text string) (n int) {
		for i, s := range said {
			if s == text {
				n = n*100 + i + 1
			}
		}
		return n
	}
	if len(said) != 6 || at("one") != 1 || at("two") != 2 || at("three") >= at("four") || at("five") < 3 || at("six") != 6 {
		t.Errorf("the page shows %q, want each message once and in order", said)
	}
	p.do(chromedp.Reload()) // the log has the messages in the same order
	p.shows("six")
	wantSaid(t, p, said...)
}

// A page of another origin uses the client with tokens that expire. The client reports a ban.
func TestClientOfAnotherOriginWorksWithoutWebSockets(t *testing.T) {
	t.Parallel()
	var g *gateway
	var f *front
	var token func(sub, name, rooms string) string
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			fmt.Fprint(w, token("ann", "Ann", "*=read say"))
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<link rel="icon" href="data:,"><script type="module">
			import { connect } from "%[1]s/room.js";
			Object.assign(window, { said: [], states: [], seqs: [] });
			const c = connect({ url: "%[1]s/", token: async () => (await fetch("/token")).text() });
			c.on("state", ({ state }) => states.push(state));
			window.room = c.room("cross", { last: 10 });
			room.on("event", (e) => said.push(e.kind ?? e.text));
			room.on("refused", (e) => { window.refused = e.code + " " + e.message; });
			room.on("joined", (who) => states.push("+" + who.id));
			window.c = c;
		</script>`, f.URL)
	}))
	t.Cleanup(site.Close)
	g, token = withTokens(t, "--allow-origin", site.URL, "--guest-rights", "")
	f = refusing(t, g)
	mod := login(t, g, "cross", token("mod", "Mod", "*=read say moderate"))
	mod.say("before")
	p := openTab(t)
	p.mayFail()
	p.do(chromedp.Navigate(site.URL))
	p.wait(`window.said?.join() === "before" && c.you.id === "ann"`)
	if got := eval[int](p, `room.say("from afar")`); got != 2 {
		t.Errorf("the message has the seq %d, want 2", got)
	}
	mod.shows("from afar")
	p.wait(`said.join() === "before,from afar"`)
	before := f.streams.Load()
	eval[chromedp.Void](p, `fetch("/token").then((r) => r.text()).then((token) => c.ask("auth", { token }))`)
	if f.streams.Load() <= before {
		t.Error("a fresh token came without another stream")
	}
	mod.say("later")
	p.wait(`said.join() === "before,from afar,later"`)
	mod.choose(`[...document.querySelectorAll("#people li")].find((li) => li.innerText.includes("Ann"))?.querySelector(".more")`, "Ban")
	mod.confirm("enough")
	p.wait(`/^banned .*enough/.test(window.refused)`)
	if got := eval[string](p, `room.say("again").catch((e) => e.code)`); got != "banned" {
		t.Errorf("a message after the ban ends with %q, want banned", got)
	}
}
