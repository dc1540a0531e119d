// timeline.js: shows a part of a room's log on the page, a window of at most MOST rows with
// contiguous seqs. When the reader scrolls, it reads messages above and below from the server. So
// ten thousand messages need no more memory than MOST rows.

import { bubble, make } from "./bubble.js";
import { dayOf, failureText, fullTime, hueOf, initialOf, nameOf, timeOf, whenOf, words } from "./words.js";

const MOST = 250; // rows at any time
const KEPT = 150; // rows that remain after a flood has filled the window
const PAGE = 60; // events read at once
const NEAR = 600; // px; when the reader is closer to an end, the next page is read
const TOGETHER = 100; // ms between two updates of the page with new messages
const GROUP = 5 * 60_000; // ms within which messages of one sender form a group

/** @typedef {import("../client/js/room.js").Event} Event @typedef {import("../client/js/room.js").Message} Message */

/**
 * The messages of one room in a scroller. It calls read(page) for more of the log, isMine(event),
 * seen(seq) when the newest message is visible, and changed() when unread or stuck may have changed.
 * menu(button, event) shows what the reader can do with a message, undo(event) undoes an act, and
 * named(id) returns the name of somebody who is known.
 */
export class Timeline {
  unread = 0; // messages of others that were not visible yet
  stuck = true; // the newest message is visible and stays visible
  loaded = false; // the room's newest page has been read

  #scroll; #log; #outbox; #host;
  #top = 0; // last position of the scroller
  #queue = []; // events and notes not yet on the page, in order
  #due = 0; // timer of the next flush
  #flushed = -Infinity; // time of the last flush
  #live = true; // the window reaches the head; otherwise new events are read later
  #older = true; // there may be more rows above
  #newest = 0; // the highest known seq
  #read = 0; // the highest seq that was visible
  #mark = 0; // the first unread seq, below the divider; 0 = none
  #unseen = 0; // the first seq that was unread when the reader entered the room; 0 = all was read, or the reader has gone there
  #loading = 0; // a page is being read: +1 down, -1 up, 2 the newest
  #era = 0; // another number for each room, by which a late answer for an earlier room is recognised and dropped
  #messages = new Map(); // Message -> its row in the outbox
  #noted = null; // the time of the newest event, by the server's clock; the reader's clock may be wrong
  #took = new Map(); // seq -> ms until our message was stored

  constructor(scroll, log, outbox, host) {
    [this.#scroll, this.#log, this.#outbox, this.#host] = [scroll, log, outbox, host];
    scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => {
      document.body.style.setProperty("--gutter", `${(scroll.offsetWidth - scroll.clientWidth) / 2}px`);
      this.#settle();
    }).observe(scroll);
    log.addEventListener("click", ({ target }) => {
      if (target.className === "more") host.menu(target, target.parentElement.event);
      else if (target.className === "undo") host.undo(target.closest("li").event);
    });
    // The Tab key reaches only one button of all messages. The arrow keys move from one button to the next.
    scroll.addEventListener("focus", () => this.#stop(this.#buttons.findLast((b) => b.getBoundingClientRect().top < scroll.getBoundingClientRect().bottom)));
    log.addEventListener("keydown", (e) => {
      const all = this.#buttons, at = all.indexOf(e.target), next = at < 0 ? undefined : all[{ ArrowUp: at - 1, ArrowDown: at + 1 }[e.key]];
      if (!next) return;
      e.preventDefault();
      this.#stop(next);
      next.focus();
    });
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
    this.#messages.clear();
    Object.assign(this, { unread: 0, stuck: true, loaded: false });
    this.#queue = [];
    this.#due = this.#newest = this.#mark = this.#loading = this.#unseen = 0;
    this.#live = this.#older = true;
    this.#noted = null;
    this.#read = read ?? Infinity;
  }

  /** Why there are no rows above the first one: "begin" of the room, "trimmed" log, or "loadingOlder"; "" if there may be some. */
  get top() { return this.#loading === -1 ? "loadingOlder" : !this.loaded || this.#older ? "" : this.#first > 1 ? "trimmed" : "begin"; }

  /** Whether the room has no messages. */
  get empty() { return this.loaded && !this.#older && !this.#last && !this.#messages.size; }

  /** The number of messages since the first unread message, if that message is above the visible part; otherwise 0. */
  get above() {
    const row = this.#unseen && this.#rowAt(this.#scroll.getBoundingClientRect().top);
    return row?.event && row.event.seq > this.#unseen ? this.#newest - this.#unseen + 1 : 0;
  }

  /** The day of the first visible message, unless a divider there shows it. */
  get day() {
    const top = this.#scroll.getBoundingClientRect().top, row = this.#rowAt(top + 8);
    return row?.at && !(row.firstElementChild?.className === "day" && row.getBoundingClientRect().top >= top - 8) ? dayOf(row.at) : "";
  }

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
      if (away) this.#log.replaceChildren(); // otherwise the rows are only notes
      this.loaded = true;
      const read = this.#read; // the value before the new page is visible
      this.#prepend(events);
      this.#older = more;
      if (read === Infinity) this.#read = this.#last;
      const fresh = events.find((e) => e.seq > read && !this.#host.isMine(e));
      if (!fresh || this.#mark) return;
      this.#setMark(fresh.seq);
      this.#unseen = fresh === events[0] ? read + 1 : fresh.seq;
      this.#host.changed();
    }, () => { this.#live = !away; this.#queue = away ? [] : this.#queue; });
  }

  /** Goes to the first message that was unread when the room was entered. */
  async toUnread() {
    const seq = this.#unseen;
    if (!seq) return;
    this.stuck = false;
    if (this.#first > seq) {
      this.#live = false;
      this.#queue = [];
      await this.#page(2, { since: seq - 1, limit: PAGE }, ({ events }) => {
        this.#log.replaceChildren();
        this.#older = seq > 1;
        this.#append(events);
        this.#live = this.#last >= this.#newest;
      });
    }
    this.#unseen = 0;
    this.#setMark(seq);
    this.#log.querySelector(".unread")?.scrollIntoView({ block: "start" });
    this.#host.changed();
  }

  /** Shows the state of one of our messages. @param {Message} message */
  outgoing(message) {
    const old = this.#messages.get(message);
    if (message.state === "sent") this.#remember(message);
    if (message.state === "sent" && (message.seq <= this.#last || !this.#live) || message.error?.code === "closed_by_word") {
      return this.discard(message);
    }
    const row = this.#outgoingRow(message);
    this.#messages.set(message, row);
    if (old) old.replaceWith(row);
    else this.#outbox.append(row);
    this.#settle();
  }

  /** Removes one of our messages from the page. @param {Message} message */
  discard(message) {
    this.#messages.get(message)?.remove();
    this.#messages.delete(message);
  }

  #remember({ seq, took }) {
    if (took === undefined) return;
    this.#took.set(seq, Math.round(took));
    if (this.#took.size > MOST) this.#took.delete(this.#took.keys().next().value);
    for (const row of this.#rows) if (row.event?.seq === seq) this.#fact(row);
  }

  #fact(row) {
    const { seq } = row.event, took = this.#took.get(seq);
    row.dataset.fact = `#${seq}${took === undefined ? "" : ` · ${words.stored(took)}`}`;
  }

  /** Removes the divider, after the reader has seen the messages below it. */
  caughtUp() {
    this.#unseen = 0;
    this.#setMark(0);
  }

  /** The visible buttons of messages and acts. */
  get #buttons() { return [...this.#log.querySelectorAll(".more, .undo")].filter((b) => b.checkVisibility()); }

  #stop(button) {
    for (const other of this.#log.querySelectorAll('[tabindex="0"]')) if (other !== button && other.tagName === "BUTTON") other.tabIndex = -1;
    if (button) button.tabIndex = 0;
  }

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
    // A timer, because animation frames stop while the page is hidden. The first item appears at
    // once. Items that follow closely share one flush, because each flush lays out the page again.
    this.#due ||= setTimeout(() => {
      this.#due = 0;
      this.#flushed = performance.now();
      this.#flush();
    }, Math.max(16, this.#flushed + TOGETHER - performance.now()));
  }

  #flush() {
    if (this.#loading === 2) return; // wait, because the newest page must come before the queued items
    const items = this.#queue.splice(0);
    if (!this.stuck && this.#rows.length + items.length > MOST) {
      this.#live = false; // the reader is far above: keep the window there
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

  /** The first row whose lower edge is below y. */
  #rowAt(y) {
    let low = 0, high = this.#rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#rows[middle].getBoundingClientRect().bottom > y) high = middle;
      else low = middle + 1;
    }
    return this.#rows[low];
  }

  /** Changes the rows without moving the visible ones. */
  #hold(change) {
    const anchor = this.stuck ? null : this.#rowAt(this.#scroll.getBoundingClientRect().top);
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
    else if (scrollTop < this.#top) this.stuck = false; // only the reader scrolls up
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
    this.#host.changed();
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
      // After a lost connection, the next connection or the next scroll reads again.
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

  /** Removes messages whose events have arrived from the outbox, and applies edits and deletions to rows. */
  #arrived(rows) {
    const events = rows.flatMap((row) => row.event ?? []), keys = new Set(events.map((e) => e.key));
    for (const message of this.#messages.keys()) if (keys.has(message.key)) this.discard(message);
    for (const { kind, of, ...change } of events) {
      const row = (kind === "deleted" || kind === "edited") && Array.prototype.find.call(this.#rows, (r) => r.event?.seq === of);
      if (!row) continue;
      row.event = kind === "deleted" ? { ...row.event, deleted: true } : { ...row.event, text: change.text ?? row.event.text, edited: change.at };
      row.querySelector(".bubble")?.replaceWith(bubble(row.event));
    }
  }

  /** Updates the parts of a row that depend on the row before: the day, the divider, and whether a group begins. */
  #dress(row, prev) {
    row.querySelectorAll(".day, .unread").forEach((el) => el.remove());
    const before = prev?.event, { event } = row;
    let dated = prev; // a note before the first event has no time
    while (dated && !dated.at) dated = dated.previousElementSibling;
    const unread = this.#mark && event?.seq >= this.#mark && !(before?.seq >= this.#mark);
    const newDay = row.at && dated?.at.toDateString() !== row.at.toDateString();
    const same = before && event && !before.kind && before.from.id === event.from.id && before.from.name === event.from.name;
    row.classList.toggle("first", newDay || unread || !same || row.at - prev.at > GROUP);
    if (unread) row.prepend(make("div", "unread", words.unread));
    if (newDay) row.prepend(make("div", "day", dayOf(row.at)));
  }

  /** The row of an event or a note. An event that the page cannot show gets a line in its place, because the other rows must not be lost. */
  #row(item) {
    try {
      return this.#made(item);
    } catch (err) {
      console.error(err);
      return Object.assign(make("li", "note", words.damaged(1)), { event: { seq: item.seq, kind: "unreadable" } });
    }
  }

  #made(item) {
    if (item.note) {
      const row = make("li", "note", item.note);
      row.at = this.#noted;
      return row;
    }
    if (item.deleted) item = { ...item, from: { name: this.#host.named(item.from.id), ...item.from } }; // a stub has only the id
    const row = make("li", item.kind ? "act" : this.#host.isMine(item) ? "mine" : "theirs");
    const at = new Date(item.at);
    Object.assign(row, { event: item, at: isNaN(at) ? undefined : at }); // servers before version 0.2.0 send some deleted messages without a time
    if (row.at && item.seq >= this.#newest) this.#noted = row.at;
    this.#fact(row);
    if (item.kind === "deleted" || item.kind === "edited") row.className = "change"; // the row of its message shows the change
    else if (item.kind) {
      row.append(this.#act(item));
    } else {
      const more = make("button", "more", "⋯");
      Object.assign(more, { tabIndex: -1, ariaLabel: words.actions(nameOf(item.from)), ariaHasPopup: "menu" });
      row.append(this.#head(item.from, row.at), bubble(item), more);
      if (row.className === "mine") row.append(make("span", "unseen", words.sent));
    }
    return row;
  }

  /** The line of an act, with a button that undoes it. */
  #act(event) {
    const { kind, member, until, every, why, from } = event, line = make("p");
    const who = member && !member.startsWith("*") ? nameOf({ id: member, name: this.#host.named(member) }) : member;
    line.append(kind === "closed" ? words.closedRoom(why) : kind === "reopened" ? words.reopenedRoom : words.act(event, who, until && whenOf(new Date(until))));
    line.title = nameOf(from);
    if (kind === "banned" || kind === "muted" || (kind === "slowed" && every !== "0s")) line.append(" ", Object.assign(make("button", "undo", words.undo), { tabIndex: -1 }));
    return line;
  }

  #head(from, at) {
    const head = make("div", "head"), name = nameOf(from), time = make("time", "", at && timeOf(at));
    if (at) Object.assign(time, { dateTime: at.toISOString(), title: fullTime(at) });
    const face = make("span", "face", initialOf(name));
    face.ariaHidden = "true";
    head.append(face, make("bdi", "name", name), time);
    head.style.setProperty("--hue", hueOf(from.id));
    return head;
  }

  #outgoingRow(message) {
    const row = make("li", `mine first ${message.state}`), line = make("p", "fate");
    row.append(bubble(message.content), line);
    if (message.state === "failed") {
      const retry = make("button", "", words.retry), discard = make("button", "", words.discard);
      retry.onclick = () => this.#host.retry(message);
      discard.onclick = () => this.discard(message);
      line.append(failureText(message.error) + " ", retry, discard);
    } else if (message.state === "pending") {
      line.append(make("span", "there", words.sending), make("span", "away", words.queued));
    }
    return row;
  }
}
