// room.js: the Roomcast client for browsers and other JavaScript, without dependencies.
//
//   import { connect } from "./room.js";
//   const c = connect({ room: "lobby", name: "Ann", last: 50 });
//   c.addEventListener("event", (e) => console.log(e.detail.seq, e.detail.from.name, e.detail.text));
//   c.say("hello");
//
// It keeps the promises of the protocol over reconnects and restarts of the server. Events of
// a room arrive in order, each once, and continue where the last connection ended. The client
// sends a message again with the same key, in order, until it is acknowledged or refused.

/**
 * @typedef {{id: string, name?: string}} Identity
 *
 * @typedef {object} Event  a message or an act in a room
 * @property {string} room
 * @property {number} seq  1, 2, 3, … without holes
 * @property {string} at  RFC 3339 time
 * @property {string} [kind]  "closed", "reopened", …; missing on messages
 * @property {Identity} from
 * @property {string} [type]  of an application event
 * @property {string} [text]
 * @property {any} [data]
 * @property {string} [bin]  base64
 * @property {string} [why]  of a moderation act
 *
 * @typedef {{text?: string, data?: any, bin?: string, type?: string}} Content  one of text, data and bin
 *
 * @typedef {object} Saying  one of our messages; the same object from sending to the final state
 * @property {string} room
 * @property {string} key
 * @property {Content} content
 * @property {"pending"|"sent"|"failed"} state
 * @property {number} [seq]  once sent
 * @property {string} [at]  once sent
 * @property {Refusal} [error]  once failed
 *
 * @typedef {{code: string, message: string, retry_ms?: number}} Refusal
 *
 * @typedef {{since?: number, epoch?: string, at?: string, last?: number, after?: string}} From  the start of a replay:
 *   after the event with the number since, which had this epoch and time; with the newest last; after a time
 *
 * @typedef {object} Options
 * @property {string|URL} [url]  of the server (which may be below a path), its /ws or one of its
 *   /room/<group>/; default: the server of this file, or /ws of the page's server if the file is in a bundle
 * @property {string} [room]  joined at once, as with join()
 * @property {string} [name]  shown to others
 * @property {number} [since]
 * @property {string} [epoch]
 * @property {string} [at]
 * @property {number} [last]  begin with this number of the newest events
 * @property {string} [after]
 * @property {string} [resume]  the resume string of an earlier session, to be the same sender
 * @property {string|(() => string|Promise<string>)} [token]  a function is called before every connection
 * @property {Storage} [storage]  such as sessionStorage: identity and unsent messages survive a reload
 * @property {number} [timeout]  ms to wait for an answer before the connection counts as lost; default 15000
 * @property {typeof WebSocket} [WebSocket]  for environments without a global one
 */

const PROTOCOL = "roomcast.v1";
const HOME = /^https?:[^?#]*\/room\.js([?#]|$)/.test(import.meta.url) ? new URL("ws", import.meta.url) : "/ws";
// Close codes below 4000 after which the client does not reconnect, each with the refusal of
// the message in flight. That message was the cause, so the client does not resend it.
const FINAL = { 1000: "closed_by_word", 1002: "bad_request", 1003: "unsupported", 1007: "bad_request", 1008: "forbidden", 1009: "too_large" };
const BACKOFF = { first: 500, most: 20_000, stable: 5_000 }; // ms
const MOST_PENDING = 256; // messages waiting for an ack; more are refused as "overloaded"
const TYPING_EVERY = 3_000; // ms between two typing signals of one room

/** Whether a client should reconnect by itself after this close code. @param {number} code */
export const reconnects = (code) => !(code in FINAL) && (code < 4100 || code > 4199);

/** Opens a connection that reconnects by itself. @param {string|Options} [options] an URL or options */
export const connect = (options) => new Connection(options);

/**
 * A connection, in any number of rooms. It dispatches these events, each with a detail:
 *
 *   state   {state, code?, reason?, ms?}  "connecting", "open", "waiting" (reconnects after ms), "closed"
 *   event   Event         a message or a moderation act, in order, each once
 *   saying  Saying        one of our messages was made, stored or refused
 *   joined, left          {room, id?, name?, count, reason?}
 *   signal  {room, type, from, data?}
 *   gap     {room, from, to, reason}  events that are not available; after the reason "reset" the whole room is replayed
 *   join    {room, seq, epoch}        we are in the room; events up to seq are the replay
 *   refused {room?, ...Refusal}       a join or a signal was refused, or the room was closed
 */
export class Connection extends EventTarget {
  /** @type {"connecting"|"open"|"waiting"|"closed"} */ state = "closed";
  /** Our identity, after the first hello. @type {Identity|null} */ you = null;
  /** Signed proof of our identity, for another connection. */ resume = "";
  /** Our name; a change counts from the next connection on. */ name = "";

  #options; #url; #key; #ws = null; #rooms = new Map(); #outbox = []; #calls = new Map();
  #token; #expired; #ids = 0; #tries = 0; #opened = 0; #retry; #watch; #turn = 0;

  /** @param {string|Options} [options] */
  constructor(options = {}) {
    super();
    if (!(options.WebSocket ?? globalThis.WebSocket)) throw new TypeError("there is no WebSocket here; give connect one, such as that of the ws package: { url, WebSocket }");
    if (typeof options === "string" || options instanceof URL) options = { url: options };
    const url = new URL(options.url ?? HOME, globalThis.location?.href);
    const [, base, room] = /^(.*)\/room\/([^/]+)\/?$/.exec(url.pathname) ?? [];
    url.pathname = (base ?? url.pathname.replace(/\/(ws)?$/, "")) + "/ws";
    url.protocol = url.protocol.replace("http", "ws");
    const asked = Object.fromEntries(url.searchParams);
    url.search = url.hash = "";
    for (const n of ["since", "last"]) if (n in asked) asked[n] = Number(asked[n]);
    this.#options = { room: room && decodeURIComponent(room), ...asked, ...options };
    this.#url = url;
    this.#key = "roomcast " + url;
    this.name = this.#options.name ?? "";
    this.#load();
    if (this.#options.room) this.join(this.#options.room, this.#options);
    queueMicrotask(() => this.reconnect()); // listeners set right after connect() miss nothing
  }

  /** Connects now: after close(), instead of waiting, or again under another name. */
  async reconnect() {
    this.#drop();
    const turn = ++this.#turn;
    this.#enter("connecting");
    try {
      let { token } = this.#options;
      if (typeof token === "function") token = await token();
      if (turn !== this.#turn) return; // closed or restarted while the token was fetched
      const url = new URL(this.#url);
      if (this.name) url.searchParams.set("name", this.name);
      // Logs keep URLs, so credentials travel as subprotocols that are never chosen.
      const offers = [PROTOCOL];
      if (this.resume) offers.push("resume." + this.resume);
      if (token) offers.push("bearer." + token);
      this.#token = token;
      this.#ws = new (this.#options.WebSocket ?? WebSocket)(url.href, offers);
    } catch (err) {
      if (turn === this.#turn) this.#lost(1006, String(err));
      return;
    }
    this.#ws.onmessage = (e) => this.#receive(e.data);
    this.#ws.onclose = (e) => this.#lost(e.code, e.reason);
    this.#ws.onerror = () => {}; // close follows; the ws package of Node would end the process at an unhandled error
    this.#expect();
  }

  /** Closes the connection. Unsent messages wait for reconnect(). */
  close() {
    this.#drop();
    this.#enter("closed", { code: 1000, reason: "" });
  }

  /**
   * Joins a room; without from, it begins with the next event. After a refusal, it tries again and
   * continues at the last event. @param {string} name @param {From} [from]
   */
  join(name, { since, epoch, at, last, after } = {}) {
    let room = this.#rooms.get(name);
    if (room && !room.error) return;
    // seq and at are of the last event shown; undefined = none yet, so a new connection asks for from again.
    // A close up to head is a past one.
    room ??= { name, seq: since, at, epoch, from: last ? { last } : after ? { after } : {}, head: 0, in: false, busy: false, timer: 0, typed: -Infinity };
    room.error = null;
    this.#rooms.set(name, room);
    if (this.state === "open") this.#enterRoom(room);
  }

  /** Leaves a room. Its unsent messages fail. @param {string} name */
  leave(name) {
    const room = this.#rooms.get(name);
    if (!room) return;
    this.#rooms.delete(name);
    if (this.state === "open" && !room.error) this.#call("leave", { room: name });
    this.#out(room, { code: "not_joined", message: "the room was left before the message was sent" });
  }

  /** The rooms that we have joined or are joining. @returns {string[]} */
  get rooms() { return [...this.#rooms.values()].filter((r) => !r.error).map((r) => r.name); }

  /** Our messages that are not answered yet. @param {string} room @returns {Saying[]} */
  pending(room) { return this.#outbox.filter((s) => s.room === room); }

  /**
   * Sends a message to a room, now or as soon as there is a connection.
   * @param {string|Content} content @param {string} [room] default: the first room @returns {Saying}
   */
  say(content, room = this.rooms[0]) {
    if (typeof content === "string") content = { text: content };
    if (content.text?.toWellFormed) content = { ...content, text: content.text.toWellFormed() };
    return this.retry({ room, key: random(), content, state: "failed" });
  }

  /** Sends a failed message again, under its old key. @param {Saying} saying @returns {Saying} */
  retry(saying) {
    if (saying.state !== "failed") return saying;
    const room = this.#rooms.get(saying.room);
    const error = !room ? { code: "not_joined", message: "join the room first" } : room.error ??
      (this.#outbox.length < MOST_PENDING ? null : { code: "overloaded", message: "too many messages are waiting to be sent" });
    if (error) return this.#settle(saying, "failed", { error });
    this.#outbox.push(saying);
    this.#settle(saying, "pending", { error: undefined });
    this.#flush(room);
    return saying;
  }

  /**
   * Reads a page of a room's log, oldest first; the newest page without before and since.
   * @param {{before?: number, since?: number, epoch?: string, at?: string, limit?: number}} [page] @param {string} [room]
   * @returns {Promise<{events: Event[], more: boolean, seq: number, epoch: string, gap?: object}>} rejects with a Refusal
   */
  history(page = {}, room = this.rooms[0]) { return this.#ask("history", { room, ...page }); }

  /** @param {string} [room] @returns {Promise<{count: number, members: Identity[]}>} rejects with a Refusal */
  members(room = this.rooms[0]) { return this.#ask("members", { room }); }

  /** Sends the members a signal, which is not stored. @param {string} type @param {any} [data] @param {string} [room] */
  signal(type, data, room = this.rooms[0]) {
    if (this.#rooms.get(room)?.in) this.#call("signal", { room, type, data });
  }

  /** Tells the members that we are typing. Call it on every key; it sends few signals. @param {string} [room] */
  typing(room = this.rooms[0]) {
    const r = this.#rooms.get(room), now = Date.now();
    if (!r || now - r.typed < TYPING_EVERY) return;
    r.typed = now;
    this.signal("typing", undefined, room);
  }

  // The methods below run to completion between two frames.

  #enter(state, detail = {}) {
    this.state = state;
    this.#emit("state", { state, ...detail });
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  /** Drops the socket and ignores its events. Commands without an answer fail with error. */
  #drop(error = { code: "disconnected", message: "the connection ended before the answer came" }) {
    this.#turn++;
    this.state = "closed";
    clearTimeout(this.#retry);
    clearTimeout(this.#watch);
    globalThis.removeEventListener?.("online", this.#now);
    const ws = this.#ws;
    this.#ws = null;
    if (ws) {
      ws.onmessage = ws.onclose = null;
      ws.close(1000);
    }
    for (const room of this.#rooms.values()) {
      clearTimeout(room.timer);
      Object.assign(room, { in: false, busy: false, timer: 0, typed: -Infinity });
    }
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const done of calls) done(error);
  }

  /** Handles a connection that the other side ended. */
  #lost(code, reason) {
    const turn = this.#turn + 1;
    this.#drop(code in FINAL ? { code: FINAL[code], message: reason || "the message ended the connection" } : undefined);
    if (turn !== this.#turn) return; // a listener has reconnected
    const again = code === 4003 && this.#token !== undefined && this.#token === this.#expired; // the same token has expired before
    if (code === 4003) this.#expired = this.#token;
    if (again || !reconnects(code)) return this.#enter("closed", { code, reason });
    if (this.#opened && Date.now() - this.#opened > BACKOFF.stable) this.#tries = 0;
    this.#opened = 0;
    const ms = Math.random() * Math.min(BACKOFF.most, BACKOFF.first * 2 ** this.#tries++);
    this.#retry = setTimeout(this.#now, ms);
    globalThis.addEventListener?.("online", this.#now);
    this.#enter("waiting", { code, reason, ms });
  }

  #now = () => this.reconnect();

  /** Drops a connection that is silent while an answer is missing. */
  #expect() {
    clearTimeout(this.#watch);
    if (this.#calls.size || this.state === "connecting") {
      this.#watch = setTimeout(() => this.#lost(1006, "no answer"), this.#options.timeout ?? 15_000);
    }
  }

  /** Sends a command. It calls done(error, ok) exactly once. */
  #call(verb, body, done = (error) => error && this.#ws && this.#emit("refused", { room: body.room, ...error })) {
    const id = ++this.#ids;
    this.#calls.set(id, done);
    // On a closing socket, the close event calls done.
    if (!(this.#ws.readyState > 1)) this.#ws.send(JSON.stringify({ id, [verb]: body }));
    this.#expect();
  }

  #ask(verb, body) {
    return new Promise((resolve, reject) => {
      if (this.state !== "open") return reject({ code: "disconnected", message: "there is no connection" });
      this.#call(verb, body, (error, ok) => (error ? reject(error) : resolve(ok)));
    });
  }

  #receive(text) {
    const frame = JSON.parse(text), room = frame.room;
    if (frame.hello) this.#welcome(frame.hello);
    else if (frame.seq) this.#show(frame);
    else if (frame.gap) this.#skip(room, frame.gap);
    else if (frame.ended) this.#ended(room, frame.ended.reason);
    else if (frame.ok || frame.error) {
      const done = this.#calls.get(frame.id);
      this.#calls.delete(frame.id);
      if (done) done(frame.error, frame.ok);
      else if (frame.error) this.#emit("refused", frame.error);
    } else {
      for (const what of ["signal", "joined", "left"]) if (frame[what]) this.#emit(what, { room, ...frame[what] });
    }
    if (this.#ws) this.#expect();
  }

  #welcome({ you, resume }) {
    Object.assign(this, { you, resume: resume ?? "" });
    this.#opened = Date.now();
    this.#save();
    this.#enter("open");
    for (const room of this.#rooms.values()) this.#enterRoom(room);
  }

  #enterRoom(room) {
    room.error = null;
    const from = room.seq === undefined ? room.from : { since: room.seq, epoch: room.epoch, at: room.at };
    this.#call("join", { room: room.name, ...from }, (error, ok) => {
      if (this.#rooms.get(room.name) !== room || !this.#ws) return;
      if (error?.retry_ms) {
        room.timer = setTimeout(() => this.#enterRoom(room), error.retry_ms);
      } else if (error) {
        this.#out(room, error);
        this.#emit("refused", { room: room.name, ...error });
      } else {
        if (room.seq === undefined && (!ok.seq || !Object.keys(room.from).length)) Object.assign(room, { seq: ok.seq, at: ok.at, epoch: ok.epoch });
        // A reset announces another epoch. If the connection ends before it, the next join must ask again.
        if (!room.seq || !room.epoch) room.epoch = ok.epoch;
        Object.assign(room, { in: true, head: ok.seq });
        this.#emit("join", { room: room.name, seq: ok.seq, epoch: ok.epoch });
        this.#flush(room);
      }
    });
  }

  #show(event) {
    const room = this.#rooms.get(event.room);
    if (!room || event.seq <= room.seq) return; // we have left the room, or this is a repeat
    if (event.seq > room.seq + 1) return this.#lost(4001, "missing events without a gap"); // ask again from seq
    Object.assign(room, { seq: event.seq, at: event.at, epoch: event.epoch || room.epoch });
    this.#emit("event", event);
    if (event.kind === "closed" && event.seq > room.head && room.in) { // not a past close: we have left the room
      const error = { code: "room_closed", message: `the room has been closed${event.why ? `: ${event.why}` : ""}` };
      this.#out(room, error);
      this.#emit("refused", { room: room.name, ...error });
    }
  }

  #skip(name, gap) {
    const room = this.#rooms.get(name);
    if (!room) return;
    if (gap.reason === "reset" || !gap.to) {
      // The room has another history: the next event is its oldest one.
      Object.assign(room, { seq: undefined, at: undefined, epoch: gap.epoch, head: gap.seq ?? 0, from: { since: 0 } });
    } else if (!(room.seq >= gap.to)) {
      Object.assign(room, { seq: gap.to, at: undefined });
    }
    this.#emit("gap", { room: name, ...gap });
  }

  /** Sends a room's oldest unsent message. One at a time, because a refusal could change the order. */
  #flush(room) {
    if (!room?.in || room.busy || room.timer) return;
    const saying = this.#outbox.find((s) => s.room === room.name);
    if (!saying) return;
    room.busy = true;
    this.#call("say", { room: room.name, ...saying.content, key: saying.key }, (error, ok) => {
      room.busy = false;
      if (error?.code === "disconnected") return; // the outcome is unknown: send again, with the same key
      if (error?.retry_ms) {
        room.timer = setTimeout(() => { room.timer = 0; this.#flush(room); }, error.retry_ms);
        return;
      }
      this.#outbox = this.#outbox.filter((s) => s !== saying);
      this.#settle(saying, error ? "failed" : "sent", error ? { error } : { seq: ok.seq, at: ok.at });
      this.#flush(room);
    });
  }

  /** The server ended our membership: we have lost the right. */
  #ended(name, message) {
    const room = this.#rooms.get(name), error = { code: "forbidden", message };
    if (!room) return;
    this.#out(room, error);
    this.#emit("refused", { room: name, ...error });
  }

  /** Handles the loss of a room: its unsent messages fail. */
  #out(room, error) {
    clearTimeout(room.timer);
    Object.assign(room, { error, in: false, busy: false, timer: 0 });
    const left = this.pending(room.name);
    this.#outbox = this.#outbox.filter((s) => s.room !== room.name);
    for (const saying of left) this.#settle(saying, "failed", { error });
  }

  #settle(saying, state, result) {
    Object.assign(saying, { state, ...result });
    this.#save();
    this.#emit("saying", saying);
    return saying;
  }

  // Storage may be missing, full or forbidden. Then a reload starts without it.

  #save() {
    const outbox = this.#outbox.map(({ room, key, content }) => ({ room, key, content, state: "pending" }));
    try { this.#options.storage?.setItem(this.#key, JSON.stringify({ resume: this.resume, outbox })); } catch {}
  }

  #load() {
    let kept;
    try { kept = JSON.parse(this.#options.storage?.getItem(this.#key) ?? "null"); } catch {}
    this.resume = this.#options.resume ?? kept?.resume ?? "";
    this.#outbox = kept?.outbox ?? [];
  }
}

/** A unique key of 96 random bits. crypto.randomUUID is missing on plain http. */
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
