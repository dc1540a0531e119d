// membership.js: a room that we are in. It reports the room's events in order, sends our messages
// one after the other, and keeps the list of members. The connection sends the commands of the
// room, and receives the frames of the room.

import { CLOSES, Emitter, Message, contentOf, failure, now } from "./message.js";

const MOST_QUEUED = 10_000; // events that an iterator keeps for a slow reader; then it fails
const PAGES = 64; // pages of history in which the client looks for a message
const TYPING_EVERY = 3_000; // ms between two typing signals of one room
const MOST_LISTED = 200; // people that a server names
const ASK_EVERY = 2_000; // ms between two questions for the members of a room

/** A unique key of 96 random bits. crypto.randomUUID is missing on plain http. */
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

/** A room that we are in. */
export class Room extends Emitter {
  state = "joining";
  error = null;

  // _seq, _at and _epoch are those of the last reported event; undefined = there was none, and the
  // next join sends #from. A close with a seq up to _head was undone before our join. The last
  // event of the replay has the seq _until.
  _seq; _at; _epoch; _head = 0; _until = 0; #from; #busy = null; #timer = 0; #typed = -Infinity; #replay = null;
  #people = { count: 0, list: [], more: false }; #watched = false; #asking = 0; #asked = -Infinity; #due = 0; #moved = false; #connection;

  constructor(connection, name, { since, epoch, at, last, after } = {}) {
    super();
    this.name = name;
    this.#connection = connection;
    Object.assign(this, { _seq: since, _epoch: epoch, _at: at });
    this.#from = last ? { last } : after ? { after } : {};
  }

  /** The seq of the newest reported event. */
  get seq() { return this._seq ?? 0; }

  /** Our messages in this room that are not answered yet. */
  get pending() { return this.#connection._outbox.filter((m) => m.room === this.name); }

  /** Sends a message now or as soon as possible. Resolves with its seq when it is stored. */
  say(content) { return this.send(content).done; }

  /** Like say, but returns the message, which has a state. */
  send(content) {
    const { key = random(), ...rest } = contentOf(content);
    return this.#queue(new Message(this.name, key, rest));
  }

  /** Sends a failed message again, under its old key. */
  retry(message) {
    if (message.state !== "failed") return message;
    return this.#queue(message);
  }

  #queue(message) {
    this.#connection._queue(message, this.error ?? (this.state === "left" ? failure("not_joined", "the room was left") : undefined));
    this.#flush();
    return message;
  }

  /** Reads a page of the room's log, oldest event first. Without before and since, it is the newest page. */
  history(page = {}) { return this.#connection.ask("history", { room: this.name, ...page }); }

  /** The members. The first use asks the server; the event "members" reports changes. */
  get members() {
    if (!this.#watched) { this.#watched = true; this.#askWho(); }
    return this.#people;
  }

  on(type, listener) {
    const off = super.on(type, listener);
    if (type === "members") this.members;
    return off;
  }

  /** Sends the members a signal if there is a connection. Signals are not stored. */
  signal(type, data) {
    if (this.state === "joined") this.#connection._call("signal", { room: this.name, type, data }, (error) => error && error.code !== "disconnected" && this._emit("refused", error));
  }

  /** Tells the members that we are typing. Call it on every key: it sends at most one signal in 3 s. */
  typing() {
    if (now() - this.#typed < TYPING_EVERY) return;
    this.#typed = now();
    this.signal("typing");
  }

  /** Requests an act of moderation, such as "close", with the fields that the act needs. */
  moderate(act, fields = {}) { return this.#connection.ask("moderate", { room: this.name, act, ...(fields.seq && { epoch: this._epoch }), ...fields }); }

  /** Replaces the text of one of our messages. */
  edit(seq, text) { return this.#connection.ask("edit", { room: this.name, seq, epoch: this._epoch, text }); }

  /** Joins again after a refusal, and continues at the last event. */
  join() {
    if (this.state !== "refused") return;
    this.error = null;
    this.#enter("joining");
    if (this.#connection.state === "open") this._enter();
  }

  /** Leaves the room. Its waiting messages fail: as "uncertain" if they were sent and not answered. */
  leave() {
    if (this.state === "left") return;
    const there = this.state !== "refused" && this.#connection.state === "open";
    this.#out("left", failure("not_joined", "the room was left before the message was sent"));
    this.#connection._forget(this);
    if (there) this.#connection._call("leave", { room: this.name }, () => {});
  }

  /** Resolves when we are in the room; rejects when that is refused. */
  ready() {
    return new Promise((resolve, reject) => {
      const offs = [], settle = (error = this.error) => {
        if (this.state === "joined") resolve(this);
        else if (error || this.state === "left") reject(error ?? failure("not_joined", "the room was left"));
        else return;
        for (const off of offs) off();
      };
      offs.push(this.on("state", () => settle()), this.#connection.on("fatal", settle));
      settle();
    });
  }

  /** The events from now on. The loop ends when we leave the room or close the connection, and throws when the server ends the membership or the connection. */
  async *[Symbol.asyncIterator]() {
    const queue = [], c = this.#connection;
    let wake, end = this.state === "left", error = this.error;
    const stop = (err) => { end = true; error ??= err; wake?.(); };
    const offs = [
      this.on("event", (event) => {
        if (queue.push(event) > MOST_QUEUED) stop(failure("overloaded", "the reader of events is too slow"));
        wake?.();
      }),
      this.on("state", ({ state, error: err }) => { if (state === "left" || state === "refused") stop(err); }),
      c.on("fatal", (err) => stop(err.close === 1000 ? undefined : err)), c.on("state", ({ state, code }) => { if (state === "closed" && code === 1000) stop(); }),
    ];
    try {
      for (;;) {
        while (queue.length && queue.length <= MOST_QUEUED) yield queue.shift();
        if (error) throw error;
        if (end) return;
        await new Promise((resolve) => { wake = resolve; });
      }
    } finally { for (const off of offs) off(); }
  }

  // The connection calls the methods below.

  /** The fields of a join: the room, and our position in it. */
  get _where() { return { room: this.name, ...(this._seq === undefined ? this.#from : { since: this._seq, epoch: this._epoch, at: this._at }) }; }

  /** Sends the join. */
  _enter() {
    const c = this.#connection, resumed = this._seq !== undefined, from = this.#from;
    clearTimeout(this.#timer);
    this.#timer = 0;
    c._call("join", this._where, (error, ok) => {
      if (this.state !== "joining" || c.state !== "open") return;
      if (error?.retry_ms) {
        this.#timer = setTimeout(() => this._enter(), error.retry_ms);
        return;
      }
      if (error) return this.#refused(error);
      if (!resumed && (!ok.seq || !Object.keys(from).length)) Object.assign(this, { _seq: ok.seq, _at: ok.at, _epoch: ok.epoch });
      // If the connection ends before the replay begins, asking for the last N again could skip events. So the next join names a seq.
      else if (!resumed && from.last) this.#from = { since: Math.max(0, ok.seq - from.last), epoch: ok.epoch };
      // Otherwise keep the old epoch until the gap of a reset arrives. If the connection ends
      // before that, the next join must name the old epoch.
      if (!this._seq || !this._epoch) this._epoch = ok.epoch;
      this._head = ok.seq;
      this._until = !resumed && from.after ? 0 : ok.seq; // after a time there may be no event to replay
      this.#replay = { events: 0, resumed, exact: true };
      this.#enter("joined", ok);
      this.#asked = -Infinity;
      this.#askWho();
      this.#advance();
      this.#flush();
    });
  }

  /** Handles the end of the connection. */
  _drop() {
    this.#reset();
    if (this.state === "joined") this.#enter("joining");
  }

  #reset() {
    clearTimeout(this.#timer);
    clearTimeout(this.#asking);
    this.#timer = this.#asking = 0;
    this.#typed = -Infinity;
    this.#replay = null;
  }

  /** Handles a frame of the room. Frames before the ok of our join belong to an earlier membership. */
  _receive(frame) {
    if (this.state !== "joined") return;
    if (frame.seq) this.#show(frame);
    else if (frame.gap) this.#skip(frame.gap);
    else if (frame.ended) this.#refused(failure(CLOSES[frame.ended.code] ?? "forbidden", frame.ended.reason));
    else if (frame.signal) this._emit("signal", frame.signal);
    else if (frame.joined) this.#came(frame.joined);
    else if (frame.left) this.#went(frame.left);
  }

  #enter(state, detail) {
    this.state = state;
    this._emit("state", { state, ...detail });
  }

  #refused(error) {
    this.#out("refused", error);
    this._emit("refused", error);
  }

  /** Handles the loss of the room: its waiting messages fail. */
  #out(state, error) {
    this.#reset();
    this.#busy = null;
    this.error = state === "refused" ? error : null;
    this.#enter(state, { error: this.error ?? undefined });
    for (const message of this.pending) this.#connection._settle(message, error);
  }

  #show(event) {
    if (event.seq <= this._seq) return; // a repeat
    if (event.seq > this._seq + 1) return this.#connection._resync(); // events are missing, and no gap was announced: ask again from _seq
    if (event.seq <= this._until) event.replay = true;
    Object.assign(this, { _seq: event.seq, _at: event.at, _epoch: event.epoch || this._epoch });
    if (this.#replay) this.#replay.events++;
    // The event of our message may arrive without the ack.
    const mine = event.key && this.pending.find((m) => m.key === event.key && m._sent?.as === event.from.id);
    if (mine) this.#connection._settle(mine, null, event);
    this._emit("event", event);
    if (event.kind === "closed" && event.seq > this._head && this.state === "joined") { // closed after our join: we have left the room
      return this.#refused(failure("room_closed", `the room has been closed${event.why ? `: ${event.why}` : ""}`));
    }
    this.#advance();
  }

  #skip(gap) {
    if (this.#replay) this.#replay.exact = false;
    if (gap.reason === "reset" || !gap.to) {
      // The room has a new history. The next event is the oldest one in it.
      Object.assign(this, { _seq: undefined, _at: undefined, _epoch: gap.epoch, _head: gap.seq ?? 0, _until: 0 });
      this.#from = { since: 0 };
    } else if (!(this._seq >= gap.to)) {
      Object.assign(this, { _seq: gap.to, _at: undefined });
    }
    this._emit("gap", gap);
    this.#advance();
  }

  /** Reports the end of the replay once, after its last event. */
  #advance() {
    if (!this.#replay || this.state !== "joined" || this._until > this.seq) return;
    const replay = this.#replay;
    this.#replay = null;
    this._emit("replayed", replay);
    this.#flush();
  }

  /** Sends the room's oldest waiting message. It waits for each ack before it sends the next message. Otherwise a refusal could change the order. */
  #flush() {
    const c = this.#connection, message = this.pending[0];
    if (this.state !== "joined" || this.#busy || this.#timer || !message) return;
    if (message._sent && this.#replay) return; // wait: the replay may contain it
    this.#busy = message;
    if (message._sent && c._forgotten(message._sent)) return void this.#find(message);
    const body = { room: this.name, ...message.content, key: message.key };
    const refusal = this.#tooLong(body), again = message._sent;
    if (refusal) return this.#answered(message, refusal);
    if (!again) {
      message._began = now();
      message._sent = { as: c.you.id, time: c._time(), seq: this._seq ?? 0, epoch: this._epoch, at: this._at };
      c._keep(message);
    }
    c._call("say", body, (error, ok) => this.#answered(message, error, ok, again));
  }

  #answered(message, error, ok, again) {
    if (this.#busy !== message) return;
    this.#busy = null;
    if (error?.code === "disconnected") return; // the outcome is unknown: send again, with the same key
    if (error?.retry_ms) {
      this.#timer = setTimeout(() => { this.#timer = 0; this.#flush(); }, error.retry_ms);
      this._emit("delayed", error);
      return;
    }
    if (message.state === "pending") {
      // A refused message is not stored. But the server checks the right before it looks for the key: after a resend, the first message may be stored.
      if (error && !(again && error.code === "forbidden")) message._sent = undefined;
      this.#connection._settle(message, error, ok);
    }
    this.#flush();
  }

  #tooLong(body) {
    const { message: most } = this.#connection._limits, bytes = (text) => new TextEncoder().encode(text).length;
    if (!most) return;
    const long = body.bin !== undefined ? body.bin.length * 0.75 - 2 : bytes(body.text ?? JSON.stringify(body.data));
    if (long > most || bytes(JSON.stringify(body)) > most * 6 + 4000) return failure("too_large", `the message is longer than ${most} bytes`);
  }

  /** Searches the log for a message whose key the server may have forgotten. Sends the message only if it is not in the log. */
  async #find(message) {
    let { seq: since, epoch, at, as } = message._sent, whole = true, error, found;
    try {
      for (let i = 0, more = true; more && !found; i++) {
        const page = await this.history({ since, epoch: epoch || undefined, at, limit: 256 });
        found = page.events.find((e) => e.key === message.key && e.from.id === as);
        whole &&= !page.gap && i < PAGES;
        more = whole && page.more;
        for (const event of page.events) [since, epoch, at] = [event.seq, event.epoch || epoch, event.at];
      }
    } catch (err) { [error, whole] = [err, false]; }
    if (this.#busy !== message) return;
    if (found || error?.retry_ms || error?.code === "disconnected") return this.#answered(message, error, found);
    if (!whole) this.#connection._settle(message, { code: "uncertain" });
    message._sent = undefined; // it was not stored, or the app decides whether to send it
    this.#busy = null;
    this.#flush();
  }

  // Members

  /** Asks for the members. The first time it asks at once. After that it asks rarely and after a random delay, because all members of a room ask. */
  #askWho() {
    if (!this.#watched || this.state !== "joined") return;
    const { list, more } = this.#people;
    const due = Math.max(this.#asked + (more ? 15 : 1) * ASK_EVERY, now()) + Math.random() * Math.min(30_000, list.length * 20);
    if (this.#asking && due >= this.#due) return;
    clearTimeout(this.#asking);
    this.#due = due;
    this.#asking = setTimeout(async () => {
      this.#asked = now();
      this.#due = -Infinity; // no question is due
      this.#moved = false;
      try {
        const { count, members = [], more = false } = await this.#connection.ask("members", { room: this.name });
        const newest = this.#moved ? this.#people.count : count; // a count that arrived with a join or a leave meanwhile is newer than the answer
        this.#setPeople({ count: newest, list: members, more: more && newest > MOST_LISTED });
      } catch {} // the next join asks again
      this.#asking = 0;
      if (this.#moved) this.#askWho();
    }, due - now());
  }

  #setPeople(people) {
    this.#people = people;
    this._emit("members", people);
  }

  #check() { if (this.#people.more || this.#people.list.length !== this.#people.count) this.#askWho(); }

  #came(who) {
    this._emit("joined", who);
    this.#moved = true;
    if (!this.#watched) return;
    const { id, name, count } = who, { list, more } = this.#people;
    this.#setPeople({ count, more: more || !id, list: id && !more ? [...list.filter((m) => m.id !== id), { id, name }] : list });
    this.#check();
  }

  #went(who) {
    this._emit("left", who);
    this.#moved = true;
    if (!this.#watched) return;
    const { id, count } = who, { list, more } = this.#people;
    this.#setPeople({ count, more: more && count > MOST_LISTED, list: list.filter((m) => m.id !== id) });
    this.#check();
  }
}
