// people.js: the list of people, the line about typing, and the announcements for screen readers.

import { make } from "./bubble.js";
import { hueOf, initialOf, nameOf, words } from "./words.js";

const TYPING = 5_000; // ms after a typing signal during which somebody counts as typing

/** Makes the circle of a person, or fills in an existing circle. */
export function face(who, el = make("span", "face")) {
  el.ariaHidden = "true";
  el.textContent = initialOf(nameOf(who));
  el.style.setProperty("--hue", hueOf(who.id));
  return el;
}

/** The list of people. */
export class People {
  #list; #count; #present; #line; #typers = new Map(); // id -> {name, timer}
  #due = 0; #members; #you;

  /** It calls menu(button, who), which shows the acts of a moderator on a person. */
  constructor(list, count, present, line, menu) {
    [this.#list, this.#count, this.#present, this.#line] = [list, count, present, line];
    list.onclick = ({ target }) => { if (target.className === "more") menu(target, target.parentElement.who); };
  }

  /** The name of somebody in the room. */
  named(id) { return this.#members?.list.find((m) => m.id === id)?.name; }

  /** Shows the people of another room. */
  begin(members, you) {
    for (const { timer } of this.#typers.values()) clearTimeout(timer);
    this.#typers.clear();
    this.#tell();
    [this.#members, this.#you] = [members, you];
    this.#draw();
  }

  /** Shows a change of the people, after a short while. */
  show(members, you) {
    [this.#members, this.#you] = [members, you];
    this.#due ||= setTimeout(() => { this.#due = 0; this.#draw(); }, 50);
  }

  #draw() {
    const { count, list } = this.#members, you = this.#you;
    const known = list.length || !you ? list : [you]; // until the server has sent the list
    const people = [...known].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
    this.#list.replaceChildren(...people.map((who) => {
      const item = make("li");
      item.append(face(who), make("bdi", "", nameOf(who)));
      item.who = who;
      item.append(who.id === you?.id ? make("small", "", words.you) : Object.assign(make("button", "more", "⋯"), { ariaLabel: words.actions(nameOf(who)), ariaHasPopup: "menu" }));
      return item;
    }));
    this.#count.textContent = count > list.length && list.length ? words.partial(list.length, count) : count || "";
    this.#present.textContent = count ? words.present(count) : "";
  }

  typing(who) {
    clearTimeout(this.#typers.get(who.id)?.timer);
    this.#typers.set(who.id, { name: nameOf(who), timer: setTimeout(() => this.stopTyping(who.id), TYPING) });
    this.#tell();
  }

  stopTyping(id) {
    clearTimeout(this.#typers.get(id)?.timer);
    if (this.#typers.delete(id)) this.#tell();
  }

  #tell() {
    const names = [...this.#typers.values()].map(({ name }) => name);
    this.#line.textContent = names.length ? words.typing(names) : "";
  }
}

/** Announces messages to a screen reader, at most once a second. It announces the text of a single message, or the number of several messages. */
export class Announcer {
  #element; #due = 0; #events = []; #texts = [];

  constructor(element) { this.#element = element; }

  said(event) {
    this.#events.push(event);
    this.#later();
  }

  say(text) {
    this.#texts.push(text);
    this.#later();
  }

  #later() {
    this.#due ||= setTimeout(() => {
      const [events, texts] = [this.#events.splice(0), this.#texts.splice(0)];
      this.#due = 0;
      const last = events.at(-1);
      if (last) texts.push(events.length > 1 ? words.roomSaid(nameOf(last.from), events.length) : `${nameOf(last.from)}: ${(last.text ?? "").slice(0, 300)}`);
      this.#element.textContent = texts.join(". ");
    }, 1000);
  }
}
