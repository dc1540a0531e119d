// The tests in this file check the page of a reader who leaves and returns: unread messages,
// people, messages that wait to be sent, and the memory of the page.
package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// enterRoom types the name of a room into the field.
func (p *tab) enterRoom(name string) {
	p.t.Helper()
	p.do(chromedp.Focus(chromedp.CSS("#room")))
	eval[chromedp.Void](p, `document.activeElement.select()`)
	p.insert(name)
	p.enter()
}

// back returns to a room of the list.
func (p *tab) back(name string) {
	p.t.Helper()
	quoted, _ := json.Marshal(name)
	eval[chromedp.Void](p, fmt.Sprintf(`[...document.querySelectorAll("#rooms li button")].find((b) => b.querySelector("bdi")?.textContent === %s).click()`, quoted))
	p.wait(fmt.Sprintf(`document.querySelector("#title").textContent === %s`, quoted))
}

const divider = `document.querySelector("#log .unread")?.parentElement.querySelector(".bubble").textContent`

func TestDividerStandsAboveTheMissedMessages(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p, bob := openTab(t).open(g, "/?group=d"), g.speaker(t, "d", "Bob")
	bob.say("seen")
	p.shows("seen")
	p.enterRoom("elsewhere")
	bob.say("m1", "m2", "m3", "m4", "m5", "m6")
	p.wait(`document.querySelector("#rooms b:not([hidden])")?.textContent === "6" && document.title.startsWith("(6) ") && document.querySelector("#icon").href.endsWith("unread.svg")`)
	p.back("d")
	p.shows("m6")
	p.wait(divider + ` === "m1" && !document.title.startsWith("(") && document.querySelector("#icon").href.endsWith("/icon.svg")`)
	p.do(chromedp.Navigate("about:blank"))
	bob.say("n1", "n2")
	p.open(g, "/?group=d")
	p.wait(divider + ` === "n1"`)
	// More than a page of unread messages: a button leads to the first one.
	p.back("elsewhere")
	for i := range 150 {
		bob.say(fmt.Sprint("long ", i))
	}
	p.wait(`document.querySelector("#rooms b:not([hidden])")?.textContent === "99+"`)
	p.back("d")
	p.wait(`document.querySelector("#toUnread").innerText.trim() === "150 unread messages" && !document.querySelector("#day").hidden`)
	p.do(chromedp.Click(chromedp.CSS("#toUnread")))
	p.wait(divider + ` === "long 0" && document.querySelector("#toUnread").hidden && document.activeElement.id === "scroll"`)
	if got := eval[float64](p, `document.querySelector("#log .unread").getBoundingClientRect().top - document.querySelector("#scroll").getBoundingClientRect().top`); got < -30 || got > 100 {
		t.Errorf("the divider is %v px below the top", got)
	}
	p.do(chromedp.Click(chromedp.CSS("#jump")))
	p.shows("long 149")
}

func TestPeopleAreListedAtOnceAndCountedExactly(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=many")
	p.wait(`document.querySelectorAll("#people li").length === 1 && document.querySelector("#present").textContent === "Just you"`)
	var speakers []*speaker
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait) // the test's context ends before the cleanup, and with it the reads
	for i := range 205 {
		s := g.speaker(t, "many", fmt.Sprint("speaker ", i))
		speakers = append(speakers, s)
		reading.Go(func() { // Read answers pings
			for err := error(nil); err == nil; {
				_, _, err = s.conn.Read(t.Context())
			}
		})
	}
	p.wait(`document.querySelector("#present").textContent === "206 people here" && document.querySelector("#count").textContent === "200 of 206"`)
	for _, s := range speakers[:100] {
		s.conn.CloseNow()
	}
	p.wait(`document.querySelector("#present").textContent === "106 people here" && document.querySelector("#count").textContent === "106" && document.querySelectorAll("#people li").length === 106`)
	late := openTab(t)
	var going sync.WaitGroup
	for _, s := range speakers[100:] {
		going.Go(func() { s.conn.CloseNow() })
	}
	late.open(g, "/?group=many") // while other members leave
	going.Wait()
	late.wait(`document.querySelectorAll("#people li").length === 2 && document.querySelector("#present").textContent === "2 people here"`)
}

func TestRoomsAreCountedAfterAReload(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=r0")
	p.say("here")
	p.shows("here")
	for i := 1; i < 12; i++ {
		p.enterRoom(fmt.Sprint("r", i))
		p.wait(fmt.Sprintf(`document.querySelector("#title").textContent === "r%d"`, i))
	}
	p.do(chromedp.Navigate("about:blank"))
	bob := g.speaker(t, "r0", "Bob")
	bob.say("one", "two")
	p.open(g, "/?group=r5")
	p.wait(`document.querySelector("#rooms li b:not([hidden])")?.textContent === "2" && document.title.startsWith("(2) ")`)
	bob.say("three")
	p.wait(`document.querySelector("#rooms li b:not([hidden])")?.textContent === "3"`)
	p.back("r0") // the room that was shown the longest ago is r1 now
	p.enterRoom("r12")
	p.wait(`(([...n]) => n.length === 12 && !n.includes("r1") && n.includes("r0"))([...document.querySelectorAll("#rooms bdi")].map((b) => b.textContent))`)
}

func TestDraftStaysInItsRoom(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=private")
	p.do(chromedp.Focus(chromedp.CSS("#text")))
	p.insert("a secret")
	p.enterRoom("public")
	p.wait(`document.querySelector("#title").textContent === "public" && document.querySelector("#text").value === ""`)
	p.enter()
	p.do(chromedp.Focus(chromedp.CSS("#text")))
	p.insert("half")
	p.do(chromedp.Reload())
	p.wait(`document.body.dataset.state === "open" && document.querySelector("#text").value === "half"`)
	p.back("private")
	p.wait(`document.querySelector("#text").value === "a secret"`)
	p.do(chromedp.Focus(chromedp.CSS("#text")))
	p.enter()
	p.shows("a secret")
	p.back("public")
	wantSaid(t, p)
}

func TestOutageIsShownWithTheWaitingMessages(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p, bob := openTab(t).open(g, "/?group=o"), openTab(t).open(g, "/?group=other")
	p.mayFail()
	bob.mayFail()
	p.say("before")
	p.shows("before")
	g.kill()
	p.wait(`!document.querySelector("#bar").hidden`)
	p.say("1")
	p.say("2")
	p.wait(`document.querySelector("#barText").textContent === "There is no connection. 2 messages wait to be sent."`)
	if got := eval[string](p, `document.querySelector("[role=status]").textContent + document.querySelector("#seconds").ariaHidden`); got != "Reconnectingtrue" && got != "Connecting…true" {
		t.Errorf("a screen reader reads %q", got)
	}
	// A message of another room is sent after a reload, too.
	p.enterRoom("other")
	p.wait(`document.querySelector("#barText").textContent.includes("2 messages wait in other rooms")`)
	p.say("3")
	g.start()
	p.do(chromedp.Reload())
	p.wait(`document.body.dataset.state === "open" && document.querySelector("#bar").hidden`)
	bob.shows("3")
	p.back("o")
	p.shows("2")
	wantSaid(t, p, "before", "1", "2")
}

// SIGSTOP makes a gateway silent, but keeps its connections open.
func TestSilentServerIsNoticedWhenTheNetworkComesBack(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=s")
	p.mayFail()
	g.cmd.Process.Signal(syscall.SIGSTOP)
	eval[chromedp.Void](p, `dispatchEvent(new Event("online"))`)
	p.wait(`document.body.dataset.state !== "open"`)
	p.say("meanwhile")
	g.cmd.Process.Signal(syscall.SIGCONT)
	p.wait(`document.body.dataset.state === "open"`)
	p.shows("meanwhile")
	if got := eval[int](p, `document.querySelectorAll("#log .note").length`); got < 2 {
		t.Errorf("%d notes are about the connection, want 2", got)
	}
}

func TestFirstVisitExplainsItself(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=聊天")
	address := "http://" + g.addr + "/room/%E8%81%8A%E5%A4%A9/"
	p.wait(`!document.querySelector("#welcome").hidden`)
	card := eval[string](p, `document.querySelector("#welcome").innerText`)
	for _, want := range []string{"You are Guest ", address, "wscat -c 'ws" + strings.TrimPrefix(address, "http") + "?last=10'", "curl -N '" + address + "events'"} {
		if !strings.Contains(card, want) {
			t.Errorf("the card lacks %q: %s", want, card)
		}
	}
	p.do(chromedp.Click(chromedp.CSS("#welcome .link")))
	p.wait(`document.activeElement.id === "name"`)
	rename(p, "Ann")
	p.wait(`document.querySelector("#welcome").innerText.includes("You are Ann.")`)
	p.say("hello")
	p.wait(`document.querySelector("#welcome").hidden`)
}

func TestDetailsShowWhatTheServerGuarantees(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=x")
	p.mayFail()
	p.do(chromedp.Click(chromedp.CSS("#factsButton")))
	p.say("one")
	p.wait(`/#1 · stored after \d+ ms/.test(document.querySelector("#log .mine")?.dataset.fact)`)
	p.wait(`/Newest message\s*#1\b/.test(document.querySelector("#facts").innerText)`)
	g.kill()
	g.start()
	bob := g.speaker(t, "x", "Bob")
	bob.say("two", "three")
	p.wait(`/Last resume\s*exactly \d/.test(document.querySelector("#facts").innerText) && /Connections\s*[2-9]/.test(document.querySelector("#facts").innerText)`)
	p.shows("three")
}

func TestCodeLinksAndLongTextsAreNodes(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p, bob := openTab(t).open(g, "/?group=code"), g.speaker(t, "code", "Bob")
	bob.say("see:\n```go\nx := a[1]\n\n<b>\n```\nand `y` or ``z``")
	p.wait(`document.querySelector("#log pre code")?.textContent === "x := a[1]\n\n<b>"`)
	if got := eval[string](p, `[...document.querySelectorAll("#log .inline")].map((c) => c.textContent).join()`); got != "y" {
		t.Errorf("code in the line is %q, want y", got)
	}
	for text, want := range map[string]string{
		"https://en.wikipedia.org/wiki/Go_(programming_language)": "https://en.wikipedia.org/wiki/Go_(programming_language)",
		"(see https://a.example/b)":                               "https://a.example/b",
		"https://a.example/it's, HTTPS://B.example/x[1].":         "https://a.example/it's HTTPS://B.example/x[1]",
		"https://a.example/?q=(1)).":                              "https://a.example/?q=(1)",
		"看https://a.example/页。":                                   "https://a.example/页",
	} {
		bob.say(text)
		p.shows(text)
		if got := eval[string](p, `[...[...document.querySelectorAll("#log .bubble")].at(-1).querySelectorAll("a")].map((a) => a.textContent).join(" ")`); got != want {
			t.Errorf("%q has the links %q, want %q", text, got, want)
		}
	}
	bob.say(strings.Repeat("a\n", 1000))
	p.wait(`document.querySelector("#log .long button")`)
	height := `document.querySelector("#log .long, #log .open").getBoundingClientRect()`
	if w := eval[float64](p, height+`.width`); w < 80 {
		t.Errorf("the folded message is %v px wide", w)
	}
	eval[chromedp.Void](p, `document.querySelector("#log .long button").click()`)
	p.wait(height + `.height > 10000`)
	eval[chromedp.Void](p, `document.querySelector("#log .open button").click()`)
	p.wait(height + `.height < 1000`)
}

func TestBadRoomNameIsExplainedAtTheField(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=good")
	for name, want := range map[string]string{"my room": "my_room", "a..b/": "a.b", "?": ""} {
		p.enterRoom(name)
		quoted, _ := json.Marshal(want)
		p.wait(fmt.Sprintf(`document.querySelector("#room").value === %s && document.querySelector("#badRoom").textContent !== "" && document.querySelector("#room").ariaInvalid === "true"`, quoted))
		if got := eval[string](p, `document.querySelector("#title").textContent + location.search`); got != "good?group=good" {
			t.Errorf("%q leads to %s", name, got)
		}
	}
	p.enterRoom("my_room")
	p.wait(`document.querySelector("#title").textContent === "my_room" && document.querySelector("#badRoom").textContent === ""`)
}

func TestReopenedRoomIsEnteredWithoutAClick(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=c2")
	p.say("before")
	p.shows("before")
	g.post(t, "/api/rooms/c2/close", `{}`)
	p.wait(`document.body.dataset.room === "refused" && !document.querySelector("#ended").hidden && document.querySelector("#stateText").textContent === "Not in the room"`)
	g.post(t, "/api/rooms/c2/reopen", `{}`)
	p.wait(`document.body.dataset.room === "joined" && document.querySelector("#ended").hidden`)
	p.say("after")
	p.shows("after")
}

func TestDamagedMemoryIsIgnored(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=m")
	eval[chromedp.Void](p, `for (const key of ["rooms", "read", "used", "name", "resume", "facts"]) localStorage["roomcast." + key] = '"text"'`)
	eval[chromedp.Void](p, `sessionStorage["roomcast.drafts"] = "[1]"`)
	p.do(chromedp.Reload())
	p.wait(`document.body.dataset.state === "open"`)
	p.say("fine")
	p.shows("fine")
}

func TestCopiedTabBecomesSomebodyElse(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p := openTab(t).open(g, "/?group=twin")
	p.say("from the first")
	p.shows("from the first")
	twin := p.beside().open(g, "/?group=twin")
	eval[chromedp.Void](twin, fmt.Sprintf(`Object.assign(sessionStorage, %s)`, eval[string](p, `JSON.stringify(sessionStorage)`))) // as a browser does when it duplicates a tab
	twin.do(chromedp.Reload())
	twin.wait(`document.body.dataset.state === "open"`)
	twin.say("from the copy")
	p.shows("from the copy")
	twin.shows("from the copy")
	for q, want := range map[*tab]string{p: "from the first", twin: "from the copy"} {
		q.wait(`document.querySelectorAll("#people li").length === 2`)
		if got := q.mine(); got != want {
			t.Errorf("a tab shows %q as its own messages, want %q", got, want)
		}
	}
}

// Escape ends the composition of an input method, and nothing else.
func TestEscapeInACompositionStaysThere(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	lines := make([]string, 60)
	for i := range lines {
		lines[i] = fmt.Sprint("line ", i)
	}
	g.speaker(t, "ime", "Bob").say(lines...)
	p := openTab(t).open(g, "/?group=ime")
	p.shows("line 59")
	for _, field := range []string{"name", "room", "text"} {
		p.do(chromedp.Focus(chromedp.CSS("#" + field)))
		if _, err := chromedp.Call(p.ctx, input.ImeSetComposition, input.ImeSetCompositionParams{Text: "zhang'san", SelectionStart: 9, SelectionEnd: 9}); err != nil {
			t.Fatal(err)
		}
		got := eval[string](p, `(async () => {
			const el = document.activeElement, scroll = document.querySelector("#scroll");
			for (let still = 0; still < 5; still++) { // until nothing else moves the messages
				if (scroll.scrollTop !== 300) { scroll.scrollTop = 300; still = 0; }
				await new Promise(requestAnimationFrame);
			}
			const before = scroll.scrollTop;
			el.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", keyCode: 229, isComposing: true, bubbles: true, cancelable: true }));
			await new Promise(requestAnimationFrame);
			const moved = scroll.scrollHeight - scroll.clientHeight - before < 100 ? "at the end" : scroll.scrollTop - before;
			return document.activeElement.id + " " + el.value + " " + moved;
		})()`)
		if got != field+" zhang'san 0" {
			t.Errorf("after Escape in #%s the focus, the text and the movement of the messages are %q", field, got)
		}
	}
}

func TestScreenReaderAnnouncesEachThingOnce(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p, bob := openTab(t).open(g, "/?group=sr"), g.speaker(t, "sr", "Bob")
	eval[chromedp.Void](p, `(window.told = [], new MutationObserver(() => told.push(document.querySelector("#announce").textContent)).observe(document.querySelector("#announce"), { childList: true }))`)
	bob.say("1", "2", "3", "4", "5")
	p.wait(`told.some((text) => /^Bob and [1-4] more$/.test(text)) || told.filter((text) => text.startsWith("Bob: ")).length === 5`)
	// The focus in the list stays when another room gets a message.
	p.enterRoom("second")
	p.wait(`document.querySelectorAll("#rooms li").length === 2`)
	eval[chromedp.Void](p, `document.querySelector("#rooms li:last-child button").focus()`)
	bob.say("6")
	p.wait(`document.querySelector("#rooms b:not([hidden])")?.textContent === "1"`)
	if got := eval[bool](p, `document.activeElement === document.querySelector("#rooms li:last-child button")`); !got {
		t.Error("the focus has left the list of rooms")
	}
	p.back("sr")
	p.say("mine")
	p.shows("mine")
	if got := eval[string](p, `(([a, b]) => a.title + b.title + b.querySelector(".name").textContent.slice(0, 5) + b.textContent.slice(-4))([...document.querySelectorAll("#log > li")].slice(-2))`); got != "Guestsent" {
		t.Errorf("a message tells a screen reader %q", got)
	}
	// A failure is announced.
	eval[chromedp.Void](p, `void (document.querySelector("#text").value = "x".repeat(70000))`)
	p.do(chromedp.Focus(chromedp.CSS("#text")))
	p.enter()
	p.wait(`told.some((text) => text.startsWith("Not sent: ")) && document.querySelector("#outbox .failed")`)
}

// installed runs npm ci for the tools of the JavaScript package, once.
var installed = sync.OnceValue(func() error {
	const dir = "../client/js"
	if _, err := os.Stat(dir + "/node_modules/axe-core/axe.min.js"); err == nil {
		return nil
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--silent")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return nil
})

// axe returns a function that reports the violations which axe-core finds on a page.
func axe(t *testing.T) (check func(p *tab, state string)) {
	t.Helper()
	if err := installed(); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../client/js/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	return func(p *tab, state string) {
		t.Helper()
		for _, line := range eval[[]string](p, string(source)+`;axe.run().then(({ violations }) => violations.flatMap((v) => v.nodes.map((n) => v.id + " " + n.target + " " + n.failureSummary)))`) {
			t.Errorf("%s: %s", state, line)
		}
	}
}

func TestAxeFindsNothing(t *testing.T) {
	t.Parallel()
	check := axe(t)
	g := startGateway(t)
	closed, _ := withTokens(t)
	for _, look := range []string{"light", "dark", "phone"} {
		p := openTab(t)
		p.mayFail()
		switch look {
		case "dark":
			p.dark()
		case "phone":
			p.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait))
		}
		p.open(g, "/?group="+look)
		p.wait(`!document.querySelector("#welcome").hidden`)
		check(p, look+", empty")
		bob := g.speaker(t, look, "Bob")
		bob.say("hello", "```\ncode\n```\nhttps://a.example/", "a\n"+strings.Repeat("b\n", 40))
		p.say("mine")
		p.shows("mine")
		eval[chromedp.Void](p, `document.querySelector("#factsButton").click()`)
		eval[chromedp.Void](p, `void (document.querySelector("#text").value = "x".repeat(70000))`)
		p.do(chromedp.Focus(chromedp.CSS("#text")))
		p.enter()
		p.wait(`document.querySelector("#outbox .failed")`)
		check(p, look+", busy")
		if look == "phone" {
			p.do(chromedp.Click(chromedp.CSS("#menu")))
			p.wait(`document.querySelector("#side").getBoundingClientRect().left === 0`)
			check(p, look+", drawer")
			eval[chromedp.Void](p, `document.querySelector("#shade").click()`)
		}
		g.kill()
		p.wait(`!document.querySelector("#bar").hidden`)
		p.say("waits")
		check(p, look+", outage")
		g.start()
		p.shows("waits")
		g.post(t, "/api/rooms/"+look+"/close", `{}`)
		p.wait(`!document.querySelector("#ended").hidden`)
		check(p, look+", closed")
		p.do(chromedp.Navigate("http://" + closed.addr + "/room/in/"))
		p.wait(`document.body.dataset.state === "closed"`)
		check(p, look+", login")
	}
}

// withTokens starts a gateway that takes tokens, and returns how to make one.
func withTokens(t *testing.T, flags ...string) (g *gateway, token func(sub, name, rooms string) string) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return startGateway(t, append(flags, "--auth-key-file", secret)...), func(sub, name, rooms string) string {
		t.Helper()
		token, err := exec.Command(bin, "token", "--key-file", secret, "--sub", sub, "--name", name, "--rooms", rooms).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(token))
	}
}

// A ticket logs in once. After a reload, the page is still the same person.
func TestTicketInTheFragmentLogsIn(t *testing.T) {
	t.Parallel()
	api := filepath.Join(t.TempDir(), "api")
	if err := os.WriteFile(api, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, "--api-token-file", api, "--guest-rights", "")
	r, err := http.NewRequest("POST", "http://"+g.addr+"/api/tickets", strings.NewReader(`{"id":"ann","name":"Ann","rooms":{"*":"read say"},"ttl":"60s"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer 0123456789abcdef0123456789abcdef")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ OK struct{ Ticket string } }
	if err := json.NewDecoder(answer.Body).Decode(&made); err != nil || made.OK.Ticket == "" {
		t.Fatalf("make ticket: %s, %v", answer.Status, err)
	}
	answer.Body.Close()
	address := "http://" + g.addr + "/room/in/#ticket=" + url.QueryEscape(made.OK.Ticket)
	p := openTab(t)
	p.do(chromedp.Navigate(address))
	p.wait(`document.body.dataset.state === "open" && location.hash === "" && document.querySelector("#people").innerText.includes("Ann")`)
	p.say("hello")
	p.shows("hello")
	p.do(chromedp.Reload())
	p.wait(`document.body.dataset.state === "open" && document.querySelectorAll("#log .mine").length === 1`)
	late := openTab(t)
	late.do(chromedp.Navigate(address))
	late.wait(`document.body.dataset.state === "closed" && document.querySelector("#ended span").textContent.length > 20`)
}

func TestFragmentLogsIn(t *testing.T) {
	t.Parallel()
	g, tokenOf := withTokens(t, "--auth-timeout", "1m")
	token := tokenOf("ann", "Ann", "read say")
	p := openTab(t)
	p.do(chromedp.Navigate("http://" + g.addr + "/room/in/"))
	p.wait(`document.body.dataset.state === "closed" && document.querySelector("#ended span").textContent.includes("#token=")`)
	if got := eval[string](p, `import("/start.js").then(({ newest }) => newest.reason)`); !strings.Contains(got, "send ") {
		t.Errorf("the gateway waited for a token: %q", got)
	}
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate("http://"+g.addr+"/room/in/#token=nonsense"))
	p.wait(`document.body.dataset.state === "closed" && /^Your token is not accepted: .{5}/.test(document.querySelector("#ended span").textContent)`)
	for range 2 { // the second time after a reload
		p.do(chromedp.Navigate("about:blank"), chromedp.Navigate("http://"+g.addr+"/room/in/#token="+token))
		p.wait(`document.body.dataset.state === "open" && location.hash === "" && document.querySelector("#people").innerText.includes("Ann")`)
		p.do(chromedp.Reload())
		p.wait(`document.body.dataset.state === "open"`)
		p.say("hello")
		p.shows("hello")
	}
}
