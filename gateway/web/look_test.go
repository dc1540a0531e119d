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

// hostile holds texts that try to break a page.
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

func TestHostileTextsAndNamesStayInTheirPlace(t *testing.T) {
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
	if got := eval[string](p, `String(window.pwned) + document.querySelectorAll("script, h1, form, main").length`); got != "undefined7" {
		t.Errorf("the document has changed: %q", got)
	}
	if got := eval[[]string](p, `[...document.querySelectorAll("#log a")].map((a) => a.href)`); slices.ContainsFunc(got, func(href string) bool { return !strings.HasPrefix(href, "http") }) {
		t.Errorf("a link leads to %q", got)
	}
}

func TestPageStaysSmallAndQuickWithTenThousandMessages(t *testing.T) {
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

	// Scroll up: older rows come, the visible rows stay in place, the page stays small.
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
		if moved > 60 { // a day divider may have moved from this row to the row above
			t.Errorf("the visible rows moved by %v px when older ones came", moved)
		}
		if n := rows(above); n > 300 {
			t.Fatalf("%d rows are on the page, want at most 300", n)
		}
		if got := eval[int](above, seqs+`[0]`); got >= first {
			t.Fatalf("the first row is %d after reading up from %d", got, first)
		}
	}
	if !eval[bool](above, `!document.querySelector("#jump").hidden`) {
		t.Error("the page has no button that leads to the newest message")
	}
	// Scroll down again, page by page: the rows never have a hole.
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

func TestPageFitsAPhone(t *testing.T) {
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
	if !eval[bool](p, `document.querySelector("main").inert && document.activeElement.closest("#rooms") !== null`) {
		t.Error("the page behind the drawer can be reached, or the focus is not on the rooms")
	}
	p.do(chromedp.Click(chromedp.CSS("#room")))
	p.insert("elsewhere")
	p.enter()
	p.wait(`document.querySelector("#title").textContent === "elsewhere" && document.querySelector("#side").getBoundingClientRect().right <= 0`)
	p.do(chromedp.Click(chromedp.CSS("#menu")))
	p.wait(`document.querySelector("#side").getBoundingClientRect().left === 0`)
	p.do(chromedp.Click(chromedp.CSS("#name")))
	p.insert("Ann")
	p.enter()
	p.wait(`document.activeElement.id === "text" && document.querySelector("#side").getBoundingClientRect().right <= 0`)
	p.say("hi")
	p.shows("hi")
	if !eval[bool](p, fits) {
		t.Error("the page is wider or higher than the phone after using the menu")
	}
	s.say("meanwhile")
	p.wait(`!document.querySelector("#elsewhere").hidden && document.querySelector("#rooms b:not([hidden])").textContent === "1"`)
	eval[chromedp.Void](p, `history.back()`)
	p.shows("meanwhile")
}

func TestPageWorksWithAKeyboardOnly(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=kb")
	p.press("typed") // the message has the focus from the start
	p.enter(chromedp.ModifierShift)
	p.press("second line")
	p.enter()
	p.shows("typed\nsecond line")
	p.press("\t\x1b") // the focus moves away, and Escape brings it back
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
		t.Errorf("%q have no name for a screen reader", got)
	}
}

func TestPageUsesTheLanguageOfTheBrowser(t *testing.T) {
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

func TestPageShowsWhyARoomWasRefused(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=a.b*")
	p.wait(`!document.querySelector("#ended").hidden && document.querySelector("#ended span").textContent !== ""`)
	if !eval[bool](p, `document.querySelector("#again").hidden && !document.querySelector("#rooms li") && localStorage["roomcast.rooms"] === "[]"`) {
		t.Error("the page offers to retry or remembers a name that is no room name")
	}
	if got := eval[string](p, `document.querySelector("#title").textContent + ", " + document.querySelector("#stateText").textContent`); got != "a.b*, Not in the room" {
		t.Errorf("the header shows %q", got)
	}
	p.press("nothing")
	p.enter()
	wantSaid(t, p)
}
