package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
)

// Messages that wait in IndexedDB go out after a reload, in order and once, from the same sender.
func TestMessagesInIndexedDBOutliveAReload(t *testing.T) {
	t.Parallel()
	var g *gateway
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<link rel="icon" href="data:,"><script type="module">
			import { connect, indexedDBStore } from "http://%[1]s/room.js";
			window.c = connect({ url: "http://%[1]s/", storage: indexedDBStore("outbox") });
			window.room = c.room("kept", { last: 50 });
			window.said = [];
			room.on("event", (e) => said.push(e.text));
		</script>`, g.addr)
	}))
	t.Cleanup(site.Close)
	g = startGateway(t, "--allow-origin", site.URL)
	p := openTab(t)
	p.mayFail()
	p.do(chromedp.Navigate(site.URL))
	p.wait(`window.room?.state === "joined"`)
	me := eval[string](p, `room.say("before").then(() => c.you.id)`)
	eval[chromedp.Void](p, `(c.close(), ["one", "two", "three"].forEach((text) => { room.send(text); }))`)
	p.wait(`c.pending.length === 3 && c.pending.every((m) => m.stored)`)
	eval[int](p, `new Promise((done) => { // behind the writes
		const opening = indexedDB.open("outbox");
		opening.onsuccess = () => { const all = opening.result.transaction("records").objectStore("records").getAllKeys(); all.onsuccess = () => { opening.result.close(); done(all.result.length); }; };
	})`)
	p.do(chromedp.Reload())
	p.wait(`window.said?.join() === "before,one,two,three" && c.pending.length === 0`)
	if got := eval[string](p, `c.you.id`); got != me {
		t.Errorf("after the reload we are %s, want %s", got, me)
	}
	p.do(chromedp.Reload())
	p.wait(`window.said?.join() === "before,one,two,three" && c.pending.length === 0`)
}
