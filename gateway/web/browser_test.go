// The tests of the page, in a real browser, against the real gateway.
package web_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"roomcast/proto"
)

func wantSaid(t *testing.T, p *tab, want ...string) {
	t.Helper()
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

func TestTwoBrowsersTalk(t *testing.T) {
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
	if got := eval[string](ann, `document.querySelector("#log .note").lastChild.textContent`); got != "【Connected】" {
		t.Errorf("the first note is %q", got)
	}
}

func TestCloseWord(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ann, bob := openTab(t).open(g, "/"), openTab(t).open(g, "/?group=123")
	ann.say("关闭")
	ann.wait(`document.body.dataset.state === "closed" && !document.querySelector("#ended").hidden`)
	ann.wait(`document.querySelector("#log .note:last-child")?.textContent === "【Disconnected】"`)
	bob.wait(`document.querySelectorAll("#people li").length === 1`)
	bob.say("anybody?")
	bob.shows("anybody?")
	ann.do(chromedp.Click(chromedp.CSS("#again")))
	ann.shows("anybody?")
	ann.say("me")
	bob.shows("me")
	for _, p := range []*tab{ann, bob} {
		wantSaid(t, p, "anybody?", "me") // the close word neither shown nor said again
	}
	ann.do(chromedp.Click(chromedp.CSS("#close")))
	ann.wait(`document.body.dataset.state === "closed"`)
	bob.wait(`document.querySelectorAll("#people li").length === 1`)
}

func TestReloadResumes(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	ann := openTab(t).open(g, "/?group=r")
	rename(ann, "Ann")
	for _, text := range []string{"a1", "a2", "a3"} {
		ann.say(text)
	}
	ann.shows("a3")
	me := eval[string](ann, `sessionStorage.getItem("roomcast ws://`+g.addr+`/ws")`)
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

func TestTabsOfOneBrowser(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	first := openTab(t).open(g, "/?group=t")
	first.say("from the first")
	first.shows("from the first")
	second := first.beside().open(g, "/?group=t")
	second.say("from the second")
	first.shows("from the second")
	mine := `[...document.querySelectorAll("#log .mine .bubble")].map((b) => b.textContent).join()`
	for range 2 { // the second time after a reload
		for p, want := range map[*tab]string{first: "from the first", second: "from the second"} {
			p.shows("from the second")
			if got := eval[string](p, mine); got != want {
				t.Errorf("a tab takes %q for its own, want %q", got, want)
			}
			p.do(chromedp.Reload())
		}
	}
	// The browser's identity outlives its tab.
	first.do(chromedp.Navigate("about:blank"))
	third := first.beside().open(g, "/?group=t")
	third.shows("from the second")
	if got := eval[string](third, mine); got != "from the first" {
		t.Errorf("a new tab takes %q for its own, want what the closed one said", got)
	}
}

func TestServerKilledAndStartedAgain(t *testing.T) {
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
	bob.do(chromedp.Reload()) // the log has them in the same order, each once
	bob.shows("5")
	wantSaid(t, bob, "1", "2", "3", "4", "5")
}

// TestKilledInFullFlight kills the server while two browsers send without a pause: what
// was in flight then, nobody knows, and still each message is there once, in its order.
func TestKilledInFullFlight(t *testing.T) {
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
			t.Errorf("of %s the room has %q", name, got)
		}
	}
}

func TestRoomClosedAndReopened(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=c")
	p.say("before")
	p.shows("before")
	g.post(t, "/api/rooms/c/close", `{"why":"done for today"}`)
	closed := `!document.querySelector("#ended").hidden && document.querySelector("#ended span").textContent === "the room has been closed: done for today"`
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

// hostile is what people type who want to see a page break.
var hostile = []string{
	`<script>window.pwned=1;alert(1)</script>`,
	`<img src=x onerror="window.pwned=1;alert(1)">`,
	`<svg onload=alert(1)>`,
	`<svg><script>alert(1)</script></svg>`,
	`<iframe src="javascript:alert(1)"></iframe>`,
	`<a href="javascript:alert(1)">x</a>`,
	`javascript:alert(1)`,
	`"><script>alert(1)</script>`,
	`' onmouseover='alert(1)' x='`,
	`</li></ol></main><h1>gone</h1>`,
	`</textarea><script>alert(1)</script>`,
	`</title><script>alert(1)</script>`,
	`<style>*{display:none}</style>`,
	`<link rel=stylesheet href=//evil.example/x.css>`,
	`<meta http-equiv=refresh content="0;url=//evil.example">`,
	`<base href="//evil.example/">`,
	`<form action=//evil.example><button>Send</button></form>`,
	`<object data="data:text/html,<script>alert(1)</script>"></object>`,
	`<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>`,
	`<!--`, `]]>`, `&lt;b&gt; &amp; &#x3c;`,
	`{{constructor.constructor('alert(1)')()}}`, `${alert(1)}`,
	`__proto__`, `constructor`, `NaN`,
	`%00%0d%0aSet-Cookie: a=b`,
	"👩‍👩‍👧‍👦 \U0001F3F4\U000E0067\U000E0062 Z̸̢̛͙̖̻̖a̷̢̛͙l̵̡̛g̶̨̛o̷",
	"مرحبا <b>بالعالم</b> שלום",
	strings.Repeat("W", 120),
	`https://example.org/"onclick="alert(1) http://a.example/<b>`,
}

func TestHostileTextsAndNames(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=h")
	names, want := 0, []string{}
	for i, s := range hostile {
		name := s
		if proto.CheckName(name) != nil {
			name = fmt.Sprint("plain", i)
		} else {
			names++
		}
		g.speaker(t, "h", name).say(s)
		p.shows(s)
		want = append(want, name)
	}
	if len(hostile) < 30 || names < 28 {
		t.Errorf("%d texts and %d names are not enough", len(hostile), names)
	}
	wantSaid(t, p, hostile...)
	if got := eval[[]string](p, `[...document.querySelectorAll("#log .name")].map((n) => n.textContent)`); !slices.Equal(got, want) {
		t.Errorf("the page shows the names %q, want %q", got, want)
	}
	multiline := "two\nlines\t<b>\u0000\u0007\u202egnol\u2028\r\nend" + strings.Repeat("\n", 60) + "deep"
	g.speaker(t, "h", "").say(multiline)
	p.wait(`[...document.querySelectorAll("#log .bubble")].at(-1).textContent.startsWith("two")`)
	if got := p.said(); got[len(got)-1] != multiline {
		t.Errorf("the page shows %q, want %q", got[len(got)-1], multiline)
	}
	for _, s := range append(hostile, "a\u202eb\u0000\ufeffc", strings.Repeat("长", 100)) {
		rename(p, s)
		p.wait(`document.body.dataset.state === "open"`)
	}
	p.say("still here")
	p.shows("still here")
	if got := eval[string](p, `String(window.pwned) + document.querySelectorAll("script, h1, form, main").length`); got != "undefined6" {
		t.Errorf("the document has changed: %q", got)
	}
	if got := eval[[]string](p, `[...document.querySelectorAll("#log a")].map((a) => a.href)`); slices.ContainsFunc(got, func(href string) bool { return !strings.HasPrefix(href, "http") }) {
		t.Errorf("a link leads to %q", got)
	}
}

func TestTenThousandMessages(t *testing.T) {
	t.Parallel()
	g := startGateway(t, "--history-per-room", "20000")
	p, above := openTab(t).open(g, "/?group=big"), openTab(t)
	var all sync.WaitGroup
	for i := range 10 {
		s := g.speaker(t, "big", fmt.Sprint("speaker ", i))
		all.Go(func() {
			for j := range 1000 {
				s.say(fmt.Sprintf("message %d of %d", j, i))
			}
		})
	}
	all.Wait()
	g.speaker(t, "big", "").say("the last one")
	p.shows("the last one")
	rows := func(p *tab) int {
		return eval[int](p, `document.querySelectorAll("#log > li").length`)
	}
	if n := rows(p); n > 300 || n < 50 {
		t.Errorf("%d rows are on the page, want at most 300", n)
	}
	if n := eval[int](p, `document.querySelectorAll("*").length`); n > 3000 {
		t.Errorf("%d elements are on the page, want at most 3000", n)
	}

	// Reading upwards: older ones come, the place is kept, the page stays small.
	above.open(g, "/?group=big")
	above.shows("the last one")
	seqs := `[...document.querySelectorAll("#log > li")].filter((r) => r.event).map((r) => r.event.seq)`
	for above.do(); eval[int](above, seqs+`[0]`) > 9000; {
		first := eval[int](above, seqs+`[0]`)
		moved := eval[float64](above, `(async () => {
			const scroll = document.querySelector("#scroll"), row = document.querySelector("#log").firstElementChild;
			scroll.scrollTop = 300;
			await new Promise((r) => setTimeout(r));
			const before = row.getBoundingClientRect().top;
			while (document.querySelector("#log").firstElementChild === row) await new Promise((r) => setTimeout(r, 10));
			return Math.abs(row.getBoundingClientRect().bottom - row.getBoundingClientRect().height - before);
		})()`)
		if moved > 60 { // a day divider may have moved from this row to the one above
			t.Errorf("the rows moved by %v px when older ones came", moved)
		}
		if n := rows(above); n > 300 {
			t.Fatalf("%d rows are on the page, want at most 300", n)
		}
		if got := eval[int](above, seqs+`[0]`); got >= first {
			t.Fatalf("the first row is %d after reading up from %d", got, first)
		}
	}
	if !eval[bool](above, `!document.querySelector("#jump").hidden`) {
		t.Error("there is no way to the newest")
	}
	// Down again, page by page, without a hole.
	for !eval[bool](above, `document.querySelector("#jump").hidden`) {
		eval[chromedp.Void](above, `(async () => { const s = document.querySelector("#scroll"); s.scrollTop = s.scrollHeight; await new Promise((r) => setTimeout(r, 50)); })()`)
		if !eval[bool](above, `((s) => s.every((n, i) => !i || n === s[i - 1] + 1))(`+seqs+`)`) {
			t.Fatalf("the rows have a hole: %v", eval[[]int](above, seqs))
		}
	}
	above.shows("the last one")
	eval[chromedp.Void](above, `void (document.querySelector("#scroll").scrollTop = 0)`)
	above.wait(`!document.querySelector("#jump").hidden`)
	g.speaker(t, "big", "").say("even later")
	above.wait(`document.title.startsWith("(1) ") && document.querySelector("#jump").innerText.trim() === "1 new message"`)
	above.do(chromedp.Click(chromedp.CSS("#jump")))
	above.shows("even later")
	above.wait(`document.querySelector("#jump").hidden && !document.title.startsWith("(") && document.querySelector("#log .unread").parentElement.innerText.includes("even later")`)
}

func TestPhone(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t, chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)).open(g, "/?group=p")
	s := g.speaker(t, "p", strings.Repeat("long name ", 12))
	s.say(strings.Repeat("unbroken", 200), strings.Repeat("词", 500), "https://example.org/"+strings.Repeat("x", 300), "fine")
	p.shows("fine")
	fits := `document.documentElement.scrollWidth <= 390 && document.querySelector("#scroll").scrollWidth <= document.querySelector("#scroll").clientWidth && document.documentElement.scrollHeight <= 844`
	if !eval[bool](p, fits) {
		t.Error("the page is wider or higher than the phone")
	}
	p.do(chromedp.Click(chromedp.CSS("#menu")))
	p.wait(`document.querySelector("#side").getBoundingClientRect().left === 0`)
	p.insert("elsewhere")
	p.enter()
	p.wait(`document.querySelector("#title").textContent === "elsewhere" && document.querySelector("#side").getBoundingClientRect().right <= 0`)
	p.say("hi")
	p.shows("hi")
	if !eval[bool](p, fits) {
		t.Error("the page is wider or higher than the phone after using the menu")
	}
	s.say("meanwhile")
	p.wait(`!document.querySelector("#elsewhere").hidden && document.querySelector("#rooms b").textContent === "1"`)
	eval[chromedp.Void](p, `history.back()`)
	p.shows("meanwhile")
}

func TestKeyboardOnly(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=kb")
	p.press("typed") // the message has the focus from the start
	p.enter(chromedp.ModifierShift)
	p.press("second line")
	p.enter()
	p.shows("typed\nsecond line")
	p.press("\t\x1b") // away, and back by Escape
	p.press("again")
	p.enter()
	p.shows("again")
	p.press("  ")
	p.enter() // nothing to say
	p.press("\b\b")
	p.insert("关闭")
	p.enter()
	p.wait(`document.body.dataset.state === "closed"`)
	eval[chromedp.Void](p, `document.querySelector("#again").focus()`)
	p.enter()
	p.wait(`document.body.dataset.state === "open" && document.activeElement.id === "text"`)
	p.press("back")
	p.enter()
	p.shows("back")
	wantSaid(t, p, "typed\nsecond line", "again", "back")
	unnamed := `[...document.querySelectorAll("button, input, textarea, [tabindex]")].filter((el) => !(el.ariaLabel || el.innerText) && el.checkVisibility()).map((el) => el.id)`
	if got := eval[[]string](p, unnamed); len(got) > 0 {
		t.Errorf("%q have no name for who cannot see them", got)
	}
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	for accept, want := range map[string][2]string{"zh-CN": {"发送", "关闭连接"}, "en-GB": {"Send", "Disconnect"}, "fr-FR": {"Send", "Disconnect"}} {
		p := openTab(t)
		agent := eval[string](p, `navigator.userAgent`)
		if _, err := chromedp.Call(p.ctx, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: agent, AcceptLanguage: accept}); err != nil {
			t.Fatal(err)
		}
		p.open(g, "/?group=l")
		if got := eval[string](p, `document.querySelector("#send").innerText + document.querySelector("#close").innerText`); got != want[0]+want[1] {
			t.Errorf("%s: got %s, want %s%s", accept, got, want[0], want[1])
		}
	}
}

func TestRefusedRoomSaysWhy(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=a.b*")
	p.wait(`!document.querySelector("#ended").hidden && document.querySelector("#ended span").textContent !== ""`)
	p.press("nothing")
	p.enter()
	wantSaid(t, p)
}
