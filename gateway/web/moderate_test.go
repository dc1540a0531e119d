// The tests in this file check the menus for messages, people and the room, and how the page shows
// the acts of others.
package web_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// login opens a room with a token.
func login(t *testing.T, g *gateway, room, token string) *tab {
	t.Helper()
	return openTab(t).open(g, "/room/"+room+"/#token="+token)
}

// choose presses the button that a JavaScript expression finds, and chooses an item of its menu.
func (p *tab) choose(button, item string) {
	p.t.Helper()
	p.wait(button)
	eval[chromedp.Void](p, button+`.click()`)
	find := fmt.Sprintf(`[...document.querySelectorAll(".menu:popover-open [role=menuitem]")].find((b) => b.textContent.startsWith(%q))`, item)
	p.wait(find)
	eval[chromedp.Void](p, find+`.click()`)
}

// confirm fills in the dialog and presses Enter.
func (p *tab) confirm(reason string) {
	p.t.Helper()
	p.wait(`document.querySelector("dialog[open]")`)
	if reason != "" {
		p.wait(`document.activeElement.tagName === "INPUT" && document.activeElement.closest("dialog")`)
		p.insert(reason)
	}
	p.enter()
	p.wait(`!document.querySelector("dialog")`)
}

// messageMenu returns a JavaScript expression for the menu button of the message with that text.
func messageMenu(text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#log .bubble")].findLast((b) => b.firstChild.textContent === %q)?.parentElement.querySelector(".more")`, text)
}

const (
	personMenu = `[...document.querySelectorAll("#people li")].find((li) => li.innerText.includes("Bob"))?.querySelector(".more")`
	lastAct    = `[...document.querySelectorAll("#log .act p")].at(-1)?.firstChild.textContent`
	ended      = `document.querySelector("#ended:not([hidden]) span")?.textContent`
)

func TestOwnMessagesAreEditedAndDeleted(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	p, bob := openTab(t).open(g, "/?group=own"), openTab(t).open(g, "/?group=own")
	p.say("helo")
	p.say("wrong room")
	bob.shows("wrong room")
	if eval[bool](bob, `[...document.querySelectorAll("#log .theirs .more, #people .more, #moderate")].some((b) => b.checkVisibility())`) {
		t.Error("a guest is offered menus about others")
	}
	p.do(chromedp.Focus(chromedp.CSS("#text")))
	p.insert("a draft")
	p.choose(messageMenu("helo"), "Edit")
	p.wait(`document.querySelector("#text").value === "helo" && !document.querySelector("#editing").hidden && document.activeElement.id === "text"`)
	eval[chromedp.Void](p, `document.activeElement.select()`)
	p.insert("hello")
	p.enter()
	p.wait(`document.querySelector("#text").value === "a draft" && document.querySelector("#editing").hidden`)
	p.choose(messageMenu("wrong room"), "Delete")
	p.confirm("")
	for _, q := range []*tab{p, bob} {
		q.wait(`document.querySelector("#log .gone")`)
		wantSaid(t, q, "helloedited", "This message was deleted")
		q.do(chromedp.Reload())
		q.wait(`document.querySelectorAll("#log .bubble").length === 2`)
		wantSaid(t, q, "helloedited", "This message was deleted")
	}
	// Escape ends an edit without a change.
	p.choose(messageMenu("hello"), "Edit")
	p.insert("!")
	p.press("\x1b")
	p.wait(`document.querySelector("#text").value === "a draft" && document.querySelector("#editing").hidden`)
	wantSaid(t, p, "helloedited", "This message was deleted")
	// The page shows a refusal.
	p.choose(messageMenu("hello"), "Edit")
	p.insert(strings.Repeat("x", 70_000))
	p.enter()
	p.wait(`document.querySelector("#log .note:last-child")?.textContent.startsWith("Not done: ")`)
}

func TestModeratorsActFromTheirMenus(t *testing.T) {
	t.Parallel()
	g, tokenOf := withTokens(t, "--guest-rights", "read")
	ann, bob := login(t, g, "acts", tokenOf("ann", "Ann", "*=read say moderate")), login(t, g, "acts", tokenOf("bob", "Bob", "*=read say"))
	bob.say("hello")
	bob.say("spam")
	ann.shows("spam")
	ann.choose(messageMenu("spam"), "Delete")
	ann.confirm("off topic")
	bob.wait(`document.querySelector("#log .gone")`)

	ann.choose(personMenu, "Mute")
	ann.confirm("calm down")
	bob.wait(`/^You cannot write here until .*calm down/.test(document.querySelector("#muted:not([hidden])")?.textContent)`)
	bob.say("unheard")
	bob.do(chromedp.Reload()) // the mute is shown again, and the draft is kept
	bob.wait(`!document.querySelector("#muted").hidden && document.querySelector("#text").value === "unheard"`)
	bob.wait(lastAct + `.startsWith("Bob was muted until ")`)
	ann.wait(lastAct + `.startsWith("Bob was muted until ")`)
	eval[chromedp.Void](ann, `[...document.querySelectorAll("#log .undo")].at(-1).click()`)
	bob.wait(`document.querySelector("#muted").hidden && ` + lastAct + ` === "Bob is no longer muted"`)
	bob.do(chromedp.Focus(chromedp.CSS("#text")))
	bob.enter()
	ann.shows("unheard")

	ann.choose(`document.querySelector("#moderate")`, "Slow: one message in 10 s")
	bob.wait(lastAct + ` === "Everybody may write one message in 10 seconds"`)
	ann.choose(`document.querySelector("#moderate")`, "Not slow")
	bob.wait(lastAct + ` === "The room is no longer slow"`)

	ann.choose(messageMenu("unheard"), "Remove from the room")
	ann.confirm("a break")
	bob.wait(ended + `?.includes("a break")`)
	bob.do(chromedp.Click(chromedp.CSS("#again")))
	bob.wait(`document.body.dataset.room === "joined"`)
	ann.wait(personMenu)
	ann.choose(personMenu, "Ban")
	ann.confirm("enough")
	bob.wait(`document.body.dataset.room === "refused" && /banned/.test(` + ended + `)`)
	ann.wait(lastAct + `?.startsWith("Bob was banned until ")`)

	ann.choose(`document.querySelector("#moderate")`, "Close the room")
	ann.confirm("for today")
	ann.wait(ended + `?.includes("for today") && document.querySelector("#again").textContent === "Open the room again"`)
	ann.do(chromedp.Click(chromedp.CSS("#again")))
	ann.wait(`document.body.dataset.room === "joined" && document.querySelector("#ended").hidden`)
	ann.say("open again")
	ann.shows("open again")
}

// The keyboard can open, use and close the menus. After that, the focus is on the button again.
func TestMenusWorkWithAKeyboardOnly(t *testing.T) {
	t.Parallel()
	g, tokenOf := withTokens(t, "--guest-rights", "read say")
	p := login(t, g, "keys", tokenOf("ann", "Ann", "*=read say moderate"))
	g.speaker(t, "keys", "Bob").say("one", "two")
	p.shows("two")
	p.do(chromedp.Focus(chromedp.CSS("#scroll")))
	p.press("\t")
	p.wait(`document.activeElement === ` + messageMenu("two"))
	p.do(chromedp.KeyEvent("\u0304")) // up
	p.wait(`document.activeElement === ` + messageMenu("one"))
	p.enter()
	p.wait(`document.activeElement.textContent === "Delete…" && document.activeElement.role === "menuitem"`)
	p.do(chromedp.KeyEvent("\u0301")) // down
	p.wait(`document.activeElement.textContent === "Mute…"`)
	p.press("\x1b")
	p.wait(`document.activeElement === ` + messageMenu("one") + ` && !document.querySelector(".menu:popover-open") && document.activeElement.ariaExpanded === "false"`)
	p.enter()
	p.wait(`document.activeElement.textContent === "Delete…"`)
	p.enter()
	p.wait(`document.querySelector("dialog[open] h2").textContent === "Delete this message?"`)
	p.press("\x1b")
	p.wait(`!document.querySelector("dialog")`)
	p.press("\t\t")
	wantSaid(t, p, "one", "two")
}

func TestAxeFindsNothingInMenus(t *testing.T) {
	t.Parallel()
	check := axe(t)
	g, tokenOf := withTokens(t, "--guest-rights", "read say")
	for _, scheme := range []string{"light", "dark"} {
		ann, bob := openTab(t), openTab(t)
		if scheme == "dark" {
			ann.dark()
			bob.dark()
		}
		ann.open(g, "/room/"+scheme+"/#token="+tokenOf("ann", "Ann", "*=read say moderate"))
		bob.open(g, "/room/"+scheme+"/#token="+tokenOf("bob", "Bob", "*=read say"))
		bob.say("hello")
		bob.say("mine")
		ann.shows("mine")
		eval[chromedp.Void](ann, messageMenu("mine")+`.click()`)
		ann.wait(`document.querySelector(".menu:popover-open")`)
		check(ann, scheme+", menu")
		eval[chromedp.Void](ann, `document.querySelector(".menu:popover-open").hidePopover()`)
		ann.choose(personMenu, "Mute")
		ann.wait(`document.querySelector("dialog[open]")`)
		check(ann, scheme+", dialog")
		ann.confirm("loud")
		bob.wait(`!document.querySelector("#muted").hidden`)
		check(bob, scheme+", muted")
		eval[chromedp.Void](ann, `document.querySelector("#log .undo").click()`)
		bob.wait(`document.querySelector("#muted").hidden`)
		bob.choose(messageMenu("hello"), "Edit")
		bob.insert("!")
		bob.enter()
		ann.choose(messageMenu("mine"), "Delete")
		ann.confirm("off topic")
		bob.wait(`document.querySelector("#log .edited") && document.querySelector("#log .gone")`)
		check(bob, scheme+", edited and deleted")
		check(ann, scheme+", act")
	}
}
