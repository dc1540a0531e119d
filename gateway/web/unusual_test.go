// The tests in this file check the page in unusual conditions: a slow server, a rate limit, a
// wrong clock, many rooms, wide scrollbars.
package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

func TestReaderSeesThatOlderMessagesAreLoading(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	bob := g.speaker(t, "older", "Bob")
	for i := range 200 {
		bob.say(fmt.Sprint("message ", i))
	}
	p := openTab(t).open(g, "/?group=older")
	p.shows("message 199")
	first := eval[int](p, `document.querySelector("#log > li").event.seq`)
	g.cmd.Process.Signal(syscall.SIGSTOP) // the connection stays, but no answer comes
	// The page may scroll to its newest message at this moment, so the reader scrolls again and
	// again.
	p.wait(`(document.querySelector("#scroll").scrollTop = 0, document.querySelector("#top").textContent === "Loading older messages…")`)
	inView := `((el, scroll) => el.getBoundingClientRect().bottom > scroll.top && el.getBoundingClientRect().top < scroll.bottom)`
	for _, el := range []string{"#top", "#log > li"} {
		if !eval[bool](p, fmt.Sprintf(inView+`(document.querySelector(%q), document.querySelector("#scroll").getBoundingClientRect())`, el)) {
			t.Errorf("%s is out of view while older messages are loading", el)
		}
	}
	g.cmd.Process.Signal(syscall.SIGCONT)
	p.wait(fmt.Sprintf(`document.querySelector("#top").textContent === "" && document.querySelector("#log > li").event.seq < %d`, first))
}

func TestWriterSeesThatMessagesAreTooFast(t *testing.T) {
	t.Parallel()
	g := startGateway(t, "--rate", "4", "--burst", "2")
	p := openTab(t).open(g, "/?group=fast")
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprint("message ", i))
		eval[chromedp.Void](p, fmt.Sprintf(`void (document.querySelector("#text").value = "message %d", document.querySelector("#composer").requestSubmit())`, i))
	}
	p.wait(`/^You write faster than allowed\. \d+ messages? waits? to be sent\.$/.test(document.querySelector("#bar:not([hidden]) #barText")?.textContent)`)
	p.wait(`document.querySelector("#announce").textContent.includes("You write faster than allowed.")`)
	p.wait(`document.querySelector("#bar").hidden && !document.querySelector("#outbox").children.length`)
	wantSaid(t, p, want...)
}

// The page takes the days in the log from the server's clock only.
func TestWrongClockOfTheReaderChangesNoDay(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t)
	p.mayFail()
	if _, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
		const Real = Date, ahead = 2 * 86_400_000;
		globalThis.Date = class extends Real {
			constructor(...args) { super(...(args.length ? args : [Real.now() + ahead])); }
			static now() { return Real.now() + ahead; }
		};
	}`}); err != nil {
		t.Fatal(err)
	}
	p.open(g, "/?group=clock")
	outage := func(notes int) {
		g.kill()
		p.wait(`document.body.dataset.state !== "open"`)
		g.start()
		p.wait(fmt.Sprintf(`document.body.dataset.state === "open" && document.querySelectorAll("#log .note").length >= %d`, notes))
	}
	outage(2) // in a room without messages
	for i, text := range []string{"one", "two"} {
		g.speaker(t, "clock", "Bob").say(text)
		p.shows(text)
		outage(4 + 2*i)
	}
	got := eval[[]string](p, `[...document.querySelectorAll("#log .day")].map((day) => day.textContent)`)
	want := eval[[]string](p, `[...new Set([...document.querySelectorAll("#log > li")].filter((row) => row.event)
		.map((row) => new Date(row.event.at).toLocaleDateString("en-US", { weekday: "long", day: "numeric", month: "long" })))]`)
	if !slices.EqualFunc(got, want, strings.HasPrefix) { // the page adds the year if it is not this year
		t.Errorf("the log has the days %q, want %q", got, want)
	}
}

// A gateway before version 0.2.0 sends the stub of a deleted edit without its time. One event that the
// page cannot read must not hide the others.
func TestEventsWithoutATimeOrWithUnknownContentHideNoOthers(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t)
	if _, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
		const parse = JSON.parse;
		JSON.parse = (text) => parse(text, (name, value) => {
			if (value?.deleted && value.seq) delete value.at;
			if (value?.text === "unreadable") value.text = 5;
			return value;
		});
		console.error = () => {};
	}`}); err != nil {
		t.Fatal(err)
	}
	g.speaker(t, "stubs", "Bob").say("one", "two", "unreadable", "four")
	g.post(t, "/api/rooms/stubs/delete", `{"seq":2}`)
	p.open(g, "/?group=stubs")
	for range 2 {
		p.shows("four")
		wantSaid(t, p, "one", "This message was deleted", "four")
		p.wait(`[...document.querySelectorAll("#log .note")].some((row) => row.textContent.includes("damaged"))`)
		if n := eval[int](p, `[...document.querySelectorAll("#log > li")].filter((row) => row.event && row.innerText.includes("undefined") || row.innerText.includes("Invalid")).length`); n > 0 {
			t.Errorf("%d rows show a value that is not known", n)
		}
		p.do(chromedp.Reload())
		p.wait(`document.body.dataset.state === "open"`)
	}
}

// A message that was edited and deleted leaves two stubs. The page shows them after a reload.
func TestEditedAndDeletedMessageHidesNoOthers(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	bob := g.speaker(t, "uno", "Bob")
	bob.say("one")
	g.post(t, "/api/rooms/uno/messages?from=ann", `{"text":"two"}`)
	g.post(t, "/api/rooms/uno/edit?from=ann", `{"seq":2,"text":"dos"}`)
	g.post(t, "/api/rooms/uno/delete", `{"seq":2}`)
	bob.say("five")
	p := openTab(t).open(g, "/?group=uno")
	for range 2 {
		p.shows("five")
		wantSaid(t, p, "one", "This message was deleted", "This message was deleted", "five")
		p.wait(`[...document.querySelectorAll("#log .gone")].every((el) => el.parentElement.querySelector("time").dateTime)`)
		p.do(chromedp.Reload())
		p.wait(`document.body.dataset.state === "open"`)
	}
}

func TestCopiedMessagesAreOnlyTheirTexts(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=copy")
	long := strings.TrimSuffix(strings.Repeat("line\n", 60), "\n")
	g.speaker(t, "copy", "Bob").say("hello", long)
	p.say("mine")
	p.shows("mine")
	p.wait(`document.querySelector("#log .long")`)
	got := eval[string](p, `(getSelection().selectAllChildren(document.querySelector("#log")), getSelection().toString())`)
	lines := strings.FieldsFunc(got, func(r rune) bool { return r == '\n' })
	day := eval[string](p, `document.querySelector("#log .day").textContent`)
	lines = slices.DeleteFunc(lines, func(line string) bool { return line == day || line == "line" })
	if !slices.Equal(lines, []string{"hello", "mine"}) {
		t.Errorf("beside the long message, a copy has the lines %q", lines)
	}
}

func TestLongListOfRoomsIsNotCut(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=r0")
	for i := 1; i < 12; i++ {
		p.enterRoom(fmt.Sprint("r", i))
		p.wait(fmt.Sprintf(`document.querySelector("#title").textContent === "r%d"`, i))
	}
	for _, height := range []int64{800, 620, 500} {
		p.do(chromedp.EmulateViewport(1280, height))
		p.back("r3")
		p.back("r11")
		got := eval[map[string]float64](p, `(() => {
			const box = (css) => document.querySelector(css).getBoundingClientRect(), list = box("#rooms"), current = document.querySelector("#rooms [aria-current]").parentElement.getBoundingClientRect();
			return { rows: list.height / current.height, above: current.top - list.top, below: list.bottom - current.bottom, gap: box("#room").top - list.bottom };
		})()`)
		if rows := got["rows"]; rows != float64(int(rows)) || rows < 3 || got["above"] < 0 || got["below"] < 0 || got["gap"] < 4 {
			t.Errorf("at a height of %d, the list of rooms has %v", height, got)
		}
	}
}

func TestMessagesAndFieldHaveTheSameEdges(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t)
	if _, err := chromedp.Call(p.ctx, emulation.SetScrollbarsHidden, emulation.SetScrollbarsHiddenParams{Hidden: false}); err != nil {
		t.Fatal(err)
	}
	p.open(g, "/?group=edges")
	for i := range 40 {
		p.say(fmt.Sprint("message ", i))
	}
	p.shows("message 39")
	for _, width := range []int64{1280, 800} {
		p.do(chromedp.EmulateViewport(width, 800))
		got := eval[map[string]float64](p, `(() => {
			const box = (css) => document.querySelector(css).getBoundingClientRect(), log = box("#log"), field = box("#composer"), scroll = document.querySelector("#scroll");
			return { left: log.left - field.left, right: log.right - field.right, scrollbar: scroll.offsetWidth - scroll.clientWidth };
		})()`)
		if got["scrollbar"] == 0 {
			t.Fatal("the browser shows no scrollbar that takes space")
		}
		if max(got["left"], got["right"]) > 1 || min(got["left"], got["right"]) < -1 {
			t.Errorf("at a width of %d, log and field differ by %v", width, got)
		}
	}
}

// A page of any origin can import the client. The client connects to the server that has served it.
func TestClientWithoutAnAddressDialsItsOwnServer(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "/chat"} {
		g := startGateway(t, "--path-prefix", prefix)
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprintf(w, `<link rel="icon" href="data:,"><script type="module">
				import { connect } from "http://%s%s/room.js";
				window.room = connect().room("far", { last: 5 });
			</script>`, g.addr, prefix)
		}))
		t.Cleanup(site.Close)
		p := openTab(t)
		p.do(chromedp.Navigate(site.URL))
		p.wait(`window.room`)
		if got := eval[int](p, `room.say("from afar")`); got != 1 {
			t.Errorf("with the prefix %q, the message has the seq %d, want 1", prefix, got)
		}
	}
}
