// timeline.js: shows a part of a room's log on the page, a window of at most MOST rows with
// contiguous seqs. When the reader scrolls, it reads messages above and below from the
// server. So ten thousand messages need no more memory than MOST.

import { dayOf, fullTime, hueOf, initialOf, nameOf, refusalText, timeOf, words } from "./words.js";

const MOST = 250; // rows at any time
const KEPT = 150; // rows that remain after a flood has filled the window
const PAGE = 60; // events read at once
const NEAR = 600; // px from an end; closer, the next page is read
const GROUP = 5 * 60_000; // ms within which messages of one sender form a group
const LONG = { chars: 1200, lines: 24 }; // a longer message is folded

const make = (tag, className, text) => {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text !== undefined) el.textContent = text;
  return el;
};

/** @typedef {import("./room.js").Event} Event @typedef {import("./room.js").Saying} Saying */

/**
 * The messages of one room in a scroller. It calls read(page) for more of the log, isMine(event),
 * seen(seq) when the newest message is visible, and changed() when unread or stuck may have changed.
 */
export class Timeline {
  unread = 0; // messages of others that were not visible yet
  stuck = true; // the newest message is visible and stays visible
  loaded = false; // the room's newest page has been read

  #scroll; #log; #outbox; #host;
  #top = 0; // last position of the scroller
  #queue = []; // events and notes not yet on the page, in order
  #due = 0; // timer of the next flush
  #live = true; // the window reaches the head; otherwise new events are read later
  #older = true; // there may be more above
  #newest = 0; // the highest known seq
  #read = 0; // the highest seq that was visible
  #mark = 0; // the first unread seq, below the divider; 0 = none
  #loading = 0; // a page is being read: +1 down, -1 up, 2 the newest
  #era = 0; // changes with the room, so that a late answer for another room is dropped
  #sayings = new Map(); // Saying -> its row in the outbox

  constructor(scroll, log, outbox, host) {
    [this.#scroll, this.#log, this.#outbox, this.#host] = [scroll, log, outbox, host];
    scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#settle()).observe(scroll);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#setMark(0); // the next divider shows the messages that arrive meanwhile
      else this.#settle();
    });
  }

  /** Shows another room. The reader has seen its events up to read; undefined = all events. */
  begin(read) {
    this.#era++;
    clearTimeout(this.#due);
    this.#log.replaceChildren();
    this.#outbox.replaceChildren();
    this.#sayings.clear();
    Object.assign(this, { unread: 0, stuck: true, loaded: false });
    this.#queue = [];
    this.#due = this.#newest = this.#mark = this.#loading = 0;
    this.#live = this.#older = true;
    this.#read = read ?? Infinity;
  }

  /** Why there are no rows above the first one: "begin" of the room, "trimmed" log; "" if there may be some. */
  get top() { return !this.loaded || this.#older ? "" : this.#first > 1 ? "trimmed" : "begin"; }

  /** Adds the room's next event. @param {Event} event */
  add(event) {
    this.#newest = Math.max(this.#newest, event.seq);
    this.#count(event);
    this.#push(event);
  }

  /** Adds a line of the page between the messages. @param {string} text */
  note(text) { this.#push({ note: text }); }

  /** Shows the newest messages and keeps them visible. */
  async jump() {
    this.stuck = true;
    if (this.#live && this.loaded) return this.#settle();
    const away = !this.#live;
    this.#live = true; // events wait in the queue until the page is read
    await this.#page(2, {}, ({ events, more }) => {
      if (away) this.#log.replaceChildren(); // otherwise there are only notes
      this.loaded = true;
      this.#prepend(events);
      this.#older = more;
      if (this.#read === Infinity) this.#read = this.#last;
      const fresh = events.find((e) => e.seq > this.#read && !this.#host.isMine(e));
      if (fresh && !this.#mark) this.#setMark(fresh.seq);
    }, () => { this.#live = !away; this.#queue = away ? [] : this.#queue; });
  }

  /** Shows the state of one of our messages. @param {Saying} saying */
  outgoing(saying) {
    const old = this.#sayings.get(saying);
    if (saying.state === "sent" && (saying.seq <= this.#last || !this.#live) || saying.error?.code === "closed_by_word") {
      return this.discard(saying);
    }
    const row = this.#outgoingRow(saying);
    this.#sayings.set(saying, row);
    if (old) old.replaceWith(row);
    else this.#outbox.append(row);
    this.#settle();
  }

  /** Removes one of our messages from the page. @param {Saying} saying */
  discard(saying) {
    this.#sayings.get(saying)?.remove();
    this.#sayings.delete(saying);
  }

  /** Removes the divider, after the reader has seen the messages below it. */
  caughtUp() { this.#setMark(0); }

  get #rows() { return this.#log.children; }
  get #first() { return this.#edge(this.#log.firstElementChild, "nextElementSibling"); }
  get #last() { return this.#edge(this.#log.lastElementChild, "previousElementSibling"); }
  #edge(row, next) { // the seq nearest to an end; notes have no seq
    while (row && !row.event) row = row[next];
    return row?.event.seq ?? 0;
  }

  #count(event) {
    if (event.kind || event.seq <= this.#read || this.#host.isMine(event) || this.#inView()) return;
    this.unread++;
    if (!this.#mark) this.#setMark(event.seq);
    this.#host.changed();
  }

  #inView() { return this.stuck && this.#live && !document.hidden; }

  #push(item) {
    if (!this.#live) return;
    this.#queue.push(item);
    // A timer, because animation frames stop while the page is hidden.
    this.#due ||= setTimeout(() => { this.#due = 0; this.#flush(); }, 16);
  }

  #flush() {
    if (this.#loading === 2) return; // the page before them comes first
    const items = this.#queue.splice(0);
    if (!this.stuck && this.#rows.length + items.length > MOST) {
      this.#live = false; // the reader is higher up: leave the window there
      return;
    }
    if (items.length > MOST) {
      this.#log.replaceChildren();
      this.#older = true;
      items.splice(0, items.length - KEPT);
    }
    this.#append(items);
  }

  /** Adds rows below, and removes rows above if there are too many. */
  #append(items) {
    this.#hold(() => {
      let last = this.#last;
      const rows = items.filter((item) => item.note || (item.seq > last && (last = item.seq))).map((item) => this.#row(item));
      const prev = this.#log.lastElementChild;
      this.#log.append(...rows);
      rows.forEach((row, i) => this.#dress(row, i ? rows[i - 1] : prev));
      if (this.#rows.length > MOST) {
        while (this.#rows.length > KEPT) this.#log.firstElementChild.remove();
        this.#older = true;
        this.#dress(this.#log.firstElementChild, null);
      }
      this.#arrived(rows);
    });
  }

  /** Adds rows above, and removes rows below if there are too many. */
  #prepend(events) {
    this.#hold(() => {
      const next = this.#log.firstElementChild, first = this.#first;
      const rows = events.filter((e) => !first || e.seq < first).map((e) => this.#row(e));
      this.#log.prepend(...rows);
      rows.forEach((row, i) => this.#dress(row, rows[i - 1]));
      if (next) this.#dress(next, rows.at(-1));
      if (this.#rows.length > MOST) {
        while (this.#rows.length > MOST) this.#log.lastElementChild.remove();
        this.#live = false;
      }
      this.#arrived(rows);
    });
  }

  /** Changes the rows without moving the visible ones. */
  #hold(change) {
    const top = this.#scroll.getBoundingClientRect().top;
    const anchor = this.stuck ? null : Array.prototype.find.call(this.#rows, (row) => row.getBoundingClientRect().bottom > top);
    const before = anchor?.getBoundingClientRect().bottom;
    change();
    if (anchor?.isConnected) this.#scroll.scrollTop += anchor.getBoundingClientRect().bottom - before;
    this.#settle();
  }

  /** Updates the position, the unread count, and everything that depends on them. */
  #settle() {
    if (this.stuck) this.#scroll.scrollTop = this.#scroll.scrollHeight;
    if (this.#inView() && this.#loading !== 2) {
      this.unread = 0;
      if (this.#last) this.#host.seen((this.#read = this.#last));
    }
    this.#host.changed();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll, below = scrollHeight - clientHeight - scrollTop;
    if (below < 40) this.stuck = this.#live;
    else if (scrollTop < this.#top) this.stuck = false; // only the reader moves it up
    this.#top = scrollTop;
    if (this.stuck) this.#settle();
    else this.#host.changed();
    if (!this.#first || this.#loading) return;
    if (this.#older && scrollTop < NEAR) {
      this.#page(-1, { before: this.#first, limit: PAGE }, ({ events, more }) => {
        this.#older = more && events.length > 0;
        this.#prepend(events);
      });
    } else if (!this.#live && below < NEAR) {
      this.#page(1, { since: this.#last, limit: PAGE }, ({ events }) => {
        this.#append(events);
        this.#live = !events.length || this.#last >= this.#newest;
      });
    }
  }

  async #page(way, page, show, fail) {
    if (this.#loading === 2 || (this.#loading && way !== 2)) return;
    const era = way === 2 ? ++this.#era : this.#era;
    this.#loading = way;
    try {
      const answer = await this.#host.read(page);
      if (era !== this.#era) return;
      this.#loading = 0;
      this.#newest = Math.max(this.#newest, answer.events.at(-1)?.seq ?? 0);
      show(answer);
    } catch (refusal) {
      if (era !== this.#era) return;
      this.#loading = 0;
      fail?.();
      // After a lost connection, the next one asks again. So does scrolling.
      if (!refusal.code) throw refusal;
      return;
    }
    this.#flush();
    this.#scrolled();
  }

  #setMark(seq) {
    if (seq === this.#mark) return;
    this.#mark = seq;
    let prev = null;
    this.#hold(() => { for (const row of this.#rows) { this.#dress(row, prev); prev = row; } });
  }

  /** Removes a message from the outbox when its event has arrived. */
  #arrived(rows) {
    const events = rows.map((row) => row.event).filter((event) => event && this.#host.isMine(event));
    for (const [saying, row] of this.#sayings) {
      if (events.some((e) => e.seq === saying.seq)) this.discard(saying);
      // The event may arrive before the ack. If it was another message, the ack shows this one again.
      else if (saying.state === "pending") row.hidden ||= events.some((e) => e.text === saying.content.text);
    }
  }

  /** Updates what depends on the row before: the day, the divider, and whether a group begins. */
  #dress(row, prev) {
    row.querySelectorAll(".day, .unread").forEach((el) => el.remove());
    const before = prev?.event, { event } = row;
    const day = row.at.toDateString();
    const unread = this.#mark && event?.seq >= this.#mark && !(before?.seq >= this.#mark);
    const newDay = prev?.at.toDateString() !== day;
    const same = before && event && !before.kind && before.from.id === event.from.id && before.from.name === event.from.name;
    row.classList.toggle("first", newDay || unread || !same || row.at - prev.at > GROUP);
    if (unread) row.prepend(make("div", "unread", words.unread));
    if (newDay) row.prepend(make("div", "day", dayOf(row.at)));
  }

  #row(item) {
    if (item.note) {
      const row = make("li", "note", item.note);
      row.at = new Date();
      return row;
    }
    const row = make("li", item.kind ? "act" : this.#host.isMine(item) ? "mine" : "theirs");
    Object.assign(row, { event: item, at: new Date(item.at) });
    row.title = fullTime(row.at);
    if (item.kind) {
      row.append(make("p", "", item.kind === "closed" ? words.closedRoom(item.why) : item.kind === "reopened" ? words.reopenedRoom : words.act(item.kind, item.why)));
      return row;
    }
    row.append(this.#head(item.from, row.at), bubble(item));
    return row;
  }

  #head(from, at) {
    const head = make("div", "head"), name = nameOf(from), time = make("time", "", timeOf(at));
    time.dateTime = at.toISOString();
    const face = make("span", "face", initialOf(name));
    face.ariaHidden = "true";
    head.append(face, make("bdi", "name", name), time);
    head.style.setProperty("--hue", hueOf(from.id));
    return head;
  }

  #outgoingRow(saying) {
    const row = make("li", `mine first ${saying.state}`);
    row.append(bubble(saying.content));
    if (saying.state === "failed") {
      const line = make("p", "fate", words.failed(refusalText(saying.error)) + " ");
      const retry = make("button", "", words.retry), discard = make("button", "", words.discard);
      retry.onclick = () => this.#host.retry(saying);
      discard.onclick = () => this.discard(saying);
      line.append(retry, discard);
      row.append(line);
    } else {
      const line = make("p", "fate");
      if (saying.state === "pending") line.append(make("span", "there", words.sending), make("span", "away", words.queued));
      row.append(line);
    }
    return row;
  }
}

/** The content of a message, always shown as text. @param {import("./room.js").Content} content */
function bubble({ text, data, bin, type }) {
  const el = make("div", "bubble");
  el.dir = "auto";
  if (type) el.append(make("span", "type", type));
  if (text !== undefined) el.append(linked(text));
  else if (bin !== undefined) el.append(make("code", "", words.binary(Math.floor((bin.replace(/=+$/, "").length * 3) / 4))));
  else el.append(make("code", "", JSON.stringify(data, null, 2)));
  const shown = el.textContent;
  if (shown.length > LONG.chars || shown.split("\n").length > LONG.lines) {
    el.classList.add("long");
    const more = make("button", "", words.more);
    more.onclick = () => { el.classList.remove("long"); more.remove(); };
    el.append(more);
  }
  return el;
}

/** Text with web addresses as links. @param {string} text */
function linked(text) {
  const parts = document.createDocumentFragment();
  text.split(/(https?:\/\/[^\s<>"'，。；：！？、（）【】《》“”]*[^\s<>"'，。；：！？、（）【】《》“”.,;:!?)\]])/).forEach((part, i) => {
    if (i % 2 === 0 || !URL.canParse?.(part)) return parts.append(part);
    const a = make("a", "", part);
    Object.assign(a, { href: part, target: "_blank", rel: "noopener noreferrer nofollow" });
    parts.append(a);
  });
  return parts;
}
