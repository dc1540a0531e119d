// moderate.js: the menus of a message, a person and the room, and the dialog that asks for the
// terms of an act. page.js loads this file when the reader opens the first menu.

import { make } from "./bubble.js";
import { words } from "./later.js";
import { nameOf, words as shared } from "./words.js";

const GAP = 6; // px between a button and its menu

/** The menu, one for the page. It closes with Escape, Tab and a click elsewhere. */
class Menu {
  #list = make("div", "menu"); #button = null;

  constructor() {
    Object.assign(this.#list, { popover: "auto", role: "menu" });
    this.#list.onkeydown = (e) => this.#key(e);
    this.#list.addEventListener("toggle", ({ newState }) => { if (newState === "closed") this.#closed(); });
  }

  /** Shows items at a button: {word, act, bad}. A second click on the button closes the menu. */
  open(button, label, items) {
    if (button === this.#button) return this.#list.hidePopover();
    this.#list.ariaLabel = label;
    this.#list.replaceChildren(...items.map(({ word, act, bad }) => {
      const item = make("button", bad ? "bad" : "", word);
      Object.assign(item, { role: "menuitem", tabIndex: -1, onclick: () => { this.#list.hidePopover(); act(); } });
      return item;
    }));
    button.closest("main, aside").append(this.#list); // screen readers expect content in a landmark, and the landmark of the button is not inert
    this.#list.showPopover();
    this.#button = button;
    button.ariaExpanded = "true";
    this.#place(button.getBoundingClientRect());
    this.#list.firstElementChild.focus();
  }

  #place({ left, right, top, bottom }) {
    const { offsetWidth: width, offsetHeight: height } = this.#list;
    const x = left + width > innerWidth - GAP ? right - width : left, below = bottom + GAP;
    this.#list.style.left = `${Math.max(GAP, x)}px`;
    this.#list.style.top = `${Math.max(GAP, below + height > innerHeight - GAP ? top - height - GAP : below)}px`;
  }

  #key(e) {
    const items = [...this.#list.children], at = items.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1 + items.length, Home: 0, End: items.length - 1 }[e.key];
    if (next !== undefined) items[next % items.length].focus();
    else if (e.key === "Tab" || e.key === "Escape") this.#list.hidePopover();
    else return;
    e.preventDefault();
    e.stopPropagation(); // so that Escape does nothing else
  }

  #closed() {
    const button = this.#button;
    this.#button = null;
    if (!button) return;
    button.ariaExpanded = "false";
    if (document.activeElement === document.body || this.#list.contains(document.activeElement)) button.focus();
  }
}

/** Asks for the terms of an act. Resolves with {for, why}, or with null if the reader cancels. */
function terms({ title, text, verb, times, reason, bad }) {
  const dialog = make("dialog", "terms"), form = make("form"), heading = make("h2", "", title);
  const field = (label, input) => {
    const line = make("label", "", label);
    line.append(input);
    form.append(line);
    return input;
  };
  heading.id = "termsTitle";
  dialog.setAttribute("aria-labelledby", heading.id);
  form.method = "dialog";
  form.append(heading);
  if (text) form.append(make("p", "soft", text));
  const time = times && field(words.forTime, make("select"));
  for (const [value, label] of times ?? []) time.append(Object.assign(make("option", "", label), { value }));
  const why = !reason ? undefined : field(words.reason, Object.assign(make("input"), { maxLength: 160, autocomplete: "off" }));
  const buttons = make("p", "buttons"), cancel = make("button", "quiet", shared.cancel), done = make("button", bad ? "done bad" : "done", verb);
  Object.assign(cancel, { type: "button", onclick: () => dialog.close() });
  done.value = "done";
  buttons.append(cancel, done);
  form.append(buttons);
  dialog.append(form);
  document.body.append(dialog);
  dialog.onkeydown = (e) => e.stopPropagation();
  dialog.showModal();
  (why ?? done).focus();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      dialog.remove();
      resolve(dialog.returnValue === "done" ? { for: time?.value || undefined, why: why?.value.trim() || undefined } : null);
    };
  });
}

/**
 * The acts of the reader on messages, people and the room. It calls room(), me(), moderator(),
 * edit(event) and failed(error).
 */
export class Moderation {
  #menu = new Menu(); #host;

  constructor(host) { this.#host = host; }

  /** The menu of a message. */
  message(button, event) {
    const { from, seq, text } = event, mine = from.id === this.#host.me()?.id, items = [];
    if (mine && text !== undefined) items.push({ word: words.edit, act: () => this.#host.edit(event) });
    items.push({ word: words.delete, bad: true, act: () => this.#ask("delete", { seq }, { title: words.deleteTitle, text: words.deleteText, verb: words.deleteVerb, reason: !mine, bad: true }) });
    if (!mine) items.push(...this.#about(from));
    this.#menu.open(button, shared.actions(nameOf(from)), items);
  }

  /** The menu of a person. */
  person(button, who) { this.#menu.open(button, shared.actions(nameOf(who)), this.#about(who)); }

  /** The menu of the room. */
  room(button) {
    const slow = words.slowTimes.map(([every, word]) => ({ word, act: () => this.#do("slow", { every }) }));
    const close = { word: words.closeRoom, bad: true, act: () => this.#ask("close", {}, { title: words.closeTitle(this.#host.room().name), text: words.closeText, verb: words.closeVerb, reason: true, bad: true }) };
    this.#menu.open(button, shared.moderate, [...slow, close]);
  }

  /** Undoes an act. */
  undo({ kind, member }) {
    const [act, terms] = { banned: ["unban", { member }], muted: ["unmute", { member }], slowed: ["slow", { every: "0" }], closed: ["reopen", {}] }[kind];
    this.#do(act, terms);
  }

  #about({ id: member, name }) {
    const who = nameOf({ id: member, name }), { kick, mute, ban } = words.about;
    return [
      { word: mute.word, act: () => this.#ask("mute", { member }, { title: mute.title(who), verb: mute.verb, times: words.times, reason: true }) },
      { word: kick.word, bad: true, act: () => this.#ask("kick", { member }, { title: kick.title(who), text: kick.text, verb: kick.verb, reason: true, bad: true }) },
      { word: ban.word, bad: true, act: () => this.#ask("ban", { member }, { title: ban.title(who), verb: ban.verb, times: words.times, reason: true, bad: true }) },
    ];
  }

  async #ask(act, fields, question) {
    const room = this.#host.room(), given = await terms(question);
    if (given) this.#do(act, { ...fields, ...given }, room);
  }

  async #do(act, fields, room = this.#host.room()) {
    try { await room.moderate(act, fields); } catch (error) { this.#host.failed(error); }
  }
}
