// rooms.js: the list of rooms, and the memory of the page between visits.

import { make } from "./bubble.js";
import { keep, recall, session } from "./start.js";
import { words } from "./words.js";

const MOST_ROOMS = 12; // in the list; the page has joined all of them. A new room replaces the room that was not shown for the longest time

/** The names in the list, and for each room the last read seq and the number of unread messages. */
export class Rooms {
  names = recall("rooms", []).filter((name) => typeof name === "string");
  unread = new Map(); // name -> number of messages

  #read = recall("read", {}); // name -> the last seq that was in view
  #used = recall("used", {}); // name -> the time when it was shown last
  #drafts = recall("drafts", {}, session);
  #keeping = 0; #showing = 0; #list; #host; #items = new Map(); // name -> {item, go, count}

  /** It calls go(name), left(name) and changed(). */
  constructor(list, host) {
    [this.#list, this.#host] = [list, host];
    addEventListener("pagehide", () => keep("read", this.#read));
  }

  /** Adds a room that is shown now, or only listed. Returns the names that it removed from the list. */
  add(name, { shown = true } = {}) {
    if (shown) this.#used[name] = Date.now();
    if (!this.names.includes(name)) this.names.push(name);
    const gone = [];
    while (this.names.length > MOST_ROOMS) {
      const oldest = this.names.filter((n) => n !== name).reduce((a, b) => ((this.#used[b] ?? 0) < (this.#used[a] ?? 0) ? b : a));
      gone.push(oldest);
      this.remove(oldest);
    }
    keep("rooms", this.names);
    keep("used", this.#used);
    return gone;
  }

  remove(name) {
    this.names = this.names.filter((n) => n !== name);
    this.unread.delete(name);
    delete this.#used[name];
    keep("rooms", this.names);
  }

  /** The last seq that was in view; undefined = the reader has never opened the room. */
  readTo(name) { return this.#read[name]; }

  seen(name, seq) {
    if (this.#read[name] === seq) return;
    this.#read[name] = seq;
    this.#keeping ||= setTimeout(() => { this.#keeping = 0; keep("read", this.#read); }, 500);
  }

  /** Counts messages in a room that is not shown. */
  count(name, n) {
    if (n <= 0) return;
    this.unread.set(name, (this.unread.get(name) ?? 0) + n);
    this.#showing ||= setTimeout(() => { this.#showing = 0; this.show(); this.#host.changed(); }, 100);
  }

  draft(name) { return String(this.#drafts[name] ?? ""); }

  setDraft(name, text) {
    if (text) this.#drafts[name] = text;
    else delete this.#drafts[name];
    keep("drafts", this.#drafts, session);
  }

  /** Shows the list. It keeps existing items, so that the keyboard's focus stays. */
  show(current = this.current) {
    this.current = current;
    for (const [name, { item }] of this.#items) if (!this.names.includes(name)) { item.remove(); this.#items.delete(name); }
    this.names.forEach((name, i) => {
      if (!this.#items.has(name)) this.#items.set(name, this.#item(name));
      const { item, go, count, remove } = this.#items.get(name), n = this.unread.get(name) ?? 0;
      if (this.#list.children[i] !== item) this.#list.insertBefore(item, this.#list.children[i] ?? null);
      go.ariaCurrent = name === current ? "page" : null;
      remove.hidden = name === current;
      count.hidden = !n;
      count.textContent = n > 99 ? "99+" : n;
    });
    this.#items.get(current)?.item.scrollIntoView({ block: "nearest" });
  }

  #item(name) {
    const item = make("li"), go = make("button"), count = make("b"), remove = make("button", "remove", "×");
    go.append(make("bdi", "", name), count);
    go.onclick = () => this.#host.go(name);
    remove.ariaLabel = words.remove(name);
    remove.onclick = () => {
      const next = item.nextElementSibling ?? item.previousElementSibling;
      this.remove(name);
      this.#host.left(name);
      this.show();
      this.#host.changed();
      next?.firstElementChild.focus();
    };
    item.append(go, remove);
    return { item, go, count, remove };
  }
}

/** A similar name that a room may have; "" if every character is invalid. @param {string} name */
export function roomName(name) {
  return name.trim().replace(/\s+/gu, "_").replace(/[^\p{L}\p{M}\p{N}_:@+~=.-]/gu, "").replace(/\.+/g, ".").replace(/^[.\p{M}]+|\.+$/gu, "").slice(0, 64);
}
