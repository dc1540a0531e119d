// room.js: the Roomcast client for browsers and other JavaScript, without dependencies.
//
//   import { connect } from "@roomcast/client"; // or the address of /room.js on a gateway
//   const room = connect("http://localhost:8000/").room("lobby", { last: 50 });
//   room.on("event", ({ seq, from, kind, text }) => console.log(seq, from.name ?? from.id, kind ?? text ?? "[no text]"));
//   const seq = await room.say("hello"); // it is stored
//
// It keeps the promises of the protocol over reconnects and restarts of the server. Events of
// a room arrive in order, each once, and continue where the last connection ended. The client
// sends a message again with the same key, in order, until it is acknowledged or refused.
//
// This file has the connection, membership.js a room, and message.js the rest. events.js replaces
// a WebSocket where none opens. room.d.ts describes all exports. Names that begin with _ are for
// these files only; the build shortens them.

import { Room } from "./membership.js";
import { CLOSES, Emitter, Message, RoomcastError, failure, now, storeOf } from "./message.js";

export { Room } from "./membership.js";
export { RoomcastError, indexedDBStore } from "./message.js";

const PROTOCOL = "roomcast.v1";
const HOME = /^https?:[^?#]*\/room\.js([?#]|$)/.test(import.meta.url) ? new URL("ws", import.meta.url) : "/ws";

// If the server closes the connection with such a code, the message in flight was the cause. The
// message fails with this error code, and the client does not send it again.
const CAUSES = { 1000: "closed_by_word", 1002: "bad_request", 1003: "unsupported", 1007: "bad_request", 1008: "forbidden", 1009: "too_large" };
const BACKOFF = { first: 500, most: 20_000, stable: 5_000 }; // ms
const IDLE = 25_000; // ms without a frame, after which the client sends a ping
const PROBE = 5_000; // ms within which the answer to a ping must come
const WINDOW = 120_000; // ms for which a server remembers keys, if hello names no other time
const MOST_PENDING = 256; // messages waiting for an ack; more are refused as "overloaded"
const MOST_DELAY = 2 ** 31 - 1; // ms; timers allow no more

const held = new Set(); // keys of the messages that the connections of this page will send

/** Reports whether a client should reconnect by itself after this close code. */
export const reconnects = (code) => !(code in CLOSES && code !== 4003) && !(code >= 4100 && code <= 4199);

/** Opens a connection that reconnects by itself. */
export const connect = (options) => new Connection(options);

/** A connection, in any number of rooms. */
export class Connection extends Emitter {
  state = "connecting";
  you = null;
  name = "";
  resume = "";
  session = "";

  #options; #url; #home; #store; #loading; #ws = null; #rooms = new Map(); #calls = new Map();
  #given; #expired; #ids = 0; #tries = 0; #misses = 0; #http = false; #opened = 0; #dialed = 0; #retry; #watch; #fresh; #probing = false; #turn = 0; #clock; #wakers;
  #order = 0; _outbox = []; _limits = {};

  constructor(options = {}) {
    super();
    if (typeof options === "string" || options instanceof URL) options = { url: options };
    if (!(options.WebSocket ?? globalThis.WebSocket)) throw new TypeError("there is no WebSocket here; pass one: connect({ url, WebSocket })");
    const url = new URL(options.url ?? HOME, globalThis.location?.href);
    url.protocol = url.protocol.replace(/^http/, "ws");
    if (!/^wss?:$/.test(url.protocol)) throw new TypeError(`give connect the url of a server, not ${url.protocol}`);
    const asked = url.searchParams, [, base, room] = /^(.*)\/room\/([^/]+)\/?$/.exec(url.pathname) ?? [];
    const from = { room: room ? decodeURIComponent(room) : asked.get("group") ?? undefined };
    for (const name of ["since", "last"]) if (asked.has(name)) from[name] = Number(asked.get(name));
    for (const name of ["epoch", "at", "after"]) if (asked.has(name)) from[name] = asked.get(name);
    this.name = options.name ?? asked.get("name") ?? "";
    url.pathname = (base ?? url.pathname.replace(/\/(ws)?$/, "")) + "/ws";
    url.search = url.hash = "";
    this.#url = url;
    this.#home = from;
    this.#options = options;
    this.#store = options.storage && storeOf(options.storage);
    this.#load();
    const turn = this.#turn; // connect later, so that the caller can set listeners before the first event
    queueMicrotask(() => { if (turn === this.#turn) this.reconnect(); });
  }

  /** Joins a room and returns it; by default the one in the URL. The argument from counts only at the first join. */
  room(name = this.#home.room, from = name === this.#home.room ? this.#home : {}) {
    if (!name) throw new TypeError("give room() a name");
    let room = this.#rooms.get(name);
    if (!room) {
      this.#rooms.set(name, room = new Room(this, name, from));
      if (this.state === "open") room._enter();
    }
    room.join(); // again, after a refusal
    return room;
  }

  /** The rooms that we are in or are joining. */
  get rooms() { return [...this.#rooms.values()]; }

  /** Our messages without an answer, in all rooms. After a reload it includes rooms that are not joined yet. */
  get pending() { return [...this._outbox]; }

  /** Resolves when the connection is open; rejects when it is closed. */
  ready() {
    if (this.state === "open") return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle = (code, reason) => {
        if (this.state === "open") resolve();
        else if (this.state === "closed") reject(failure(CLOSES[code] ?? "closed", reason || "the connection is closed"));
        else return;
        off();
      };
      const off = this.on("state", ({ code, reason }) => settle(code, reason));
      settle();
    });
  }

  /** Connects now. Call it after close(), to end a wait, or to connect with another name. */
  async reconnect() {
    this.#drop();
    const turn = ++this.#turn;
    for (const message of this._outbox) held.add(message.key);
    this.#listen();
    this.#enter("connecting");
    this.#dialed = now();
    try {
      let { token, ticket, WebSocket: Socket = WebSocket } = this.#options, Events;
      if (this.#loading) await this.#loading;
      if (this.you?.id && (this.resume || typeof ticket !== "function")) ticket = ""; // a ticket works only once; after that, resume is our credential
      let given = token || ticket;
      if (typeof given === "function") {
        given = await given();
        if (turn === this.#turn && !given) return this.#fatal(0, failure("no_token", "the function gave no token"));
      }
      // The network may refuse WebSockets. If the module cannot be loaded, the network is down.
      if (this.#misses > 1) ({ EventsSocket: Events } = await import("./events.js").catch(() => ({})));
      if (turn !== this.#turn) return; // closed or restarted meanwhile
      const url = new URL(this.#url);
      if (this.name || this.you?.name) url.searchParams.set("name", this.name); // an empty name removes the name of an earlier session
      token = token && given;
      if (given && !token) url.searchParams.set("ticket", given);
      // Servers log URLs. So the resume string is offered as a subprotocol, which the server never chooses, and a token is sent in the first frame.
      const offers = this.resume && !token ? [PROTOCOL, "resume." + this.resume] : [PROTOCOL];
      const ws = Events ? new Events(url.href, offers, Socket, () => this.rooms.filter((r) => r.state === "joining").map((r) => r._where)) : new Socket(url.href, offers);
      this.#http = !!Events;
      this.#given = given;
      ws.onbetter = (better, frames) => { // a WebSocket has opened after all
        this.#drop();
        this.#http = false;
        this.#enter("connecting");
        this.#attach(better);
        for (const frame of frames) this.#receive(frame);
      };
      // A server that needs a token waits for it. If we have no token, a ping makes the server refuse at once.
      if (token || !Events) ws.onopen = () => ws.send(JSON.stringify(token ? { auth: { token } } : { ping: {} }));
      this.#attach(ws);
    } catch (err) {
      if (turn !== this.#turn) return;
      return err?.final ? this.#fatal(0, failure(err.code ?? "no_token", err.message)) : this.#lost(1006, String(err?.message ?? err));
    }
    this.#expect();
  }

  /** Closes the connection. Waiting messages are sent after reconnect(); with discard they fail: as "uncertain" if they were sent and not answered, else as "closed". */
  close({ discard = false } = {}) {
    this.#drop();
    this.#mute();
    this.#enter("closed", { code: 1000, reason: "" });
    for (const message of this._outbox) held.delete(message.key);
    if (discard) for (const message of this.pending) this._settle(message, failure("closed", "the connection was closed before the message was sent"));
  }

  // No frame is handled while one of the methods below runs.

  #attach(ws) {
    this.#ws = ws;
    ws.onmessage = (e) => this.#receive(e.data);
    ws.onclose = (e) => this.#lost(e.code ?? 1006, e.reason);
    ws.onerror = () => {}; // close follows; in the ws package of Node, an unhandled error would end the process
  }

  #enter(state, detail = {}) {
    this.state = state;
    this._emit("state", { state, ...detail });
  }

  /** Stops connecting, because another attempt would fail for the same reason. */
  #fatal(code, error) {
    this.#drop();
    this.#mute();
    this.#enter("closed", { code, reason: error.message });
    if (this._has("fatal")) this._emit("fatal", error);
    else if (code !== 1000) console.error(error);
  }

  /** Drops the socket and ignores its events. Commands without an answer fail with error. */
  #drop(error = failure("disconnected", "the connection ended before the answer")) {
    this.#turn++;
    this.state = "closed";
    this.#probing = false;
    for (const timer of [this.#retry, this.#watch, this.#fresh]) clearTimeout(timer);
    const ws = this.#ws;
    this.#ws = null;
    if (ws) {
      ws.onopen = ws.onmessage = ws.onclose = null;
      ws.close(1000);
    }
    for (const room of this.rooms) room._drop();
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const done of calls) done(error);
  }

  /** Handles a connection that the other side ended. */
  #lost(code, reason) {
    const turn = this.#turn + 1, waiting = this._outbox.length;
    this.#drop(code in CAUSES ? failure(CAUSES[code], reason || "the message ended the connection") : undefined);
    if (turn !== this.#turn) return; // a listener has reconnected
    const expired = code === 4003, again = expired && this.#given && this.#given === this.#expired; // the same token or ticket has expired before
    if (expired) this.#expired = this.#given;
    if (expired || code === 4103) this.#save("", { resume: this.resume = "" }); // it may have been revoked
    this.#misses = this.#opened ? this.#misses * this.#http : this.#misses + (code === 1006);
    const cured = code === 1009 && this._outbox.length < waiting; // the message that was too long has failed, and is not sent again
    if (again || !(reconnects(code) || cured)) return this.#fatal(code, failure(CLOSES[code] ?? "closed", reason || `the server closed the connection with ${code}`, { close: code }));
    if (this.#opened && now() - this.#opened > BACKOFF.stable) this.#tries = 0;
    if (!this.#opened && code === 1006 && this.#tries > 1) reason ||= "the server cannot be reached or refuses this page: check address, origin, limits";
    this.#opened = 0;
    const ms = Math.random() * Math.min(BACKOFF.most, BACKOFF.first * 2 ** this.#tries++);
    this.#retry = setTimeout(() => this.reconnect(), ms);
    this.#enter("waiting", { code, reason, ms });
  }

  _resync() { this.#lost(4001, "events are missing"); }

  /** Listens for changes of the network and the page: after a device wakes up, its connection may be dead. */
  #listen() {
    if (this.#wakers) return;
    const wake = () => this.#wake(), { document } = globalThis;
    const visible = () => { if (!document.hidden) wake(); };
    this.#wakers = [[globalThis, "online", wake], [globalThis, "offline", wake], [globalThis, "pageshow", wake], [document, "visibilitychange", visible], [document, "resume", wake]];
    for (const [target, type, listener] of this.#wakers) target?.addEventListener?.(type, listener);
  }

  #mute() {
    for (const [target, type, listener] of this.#wakers ?? []) target?.removeEventListener?.(type, listener);
    this.#wakers = null;
  }

  #wake() {
    if (this.state === "waiting" || (this.state === "connecting" && now() - this.#dialed > PROBE)) this.reconnect();
    else if (this.state === "open") this.#probe();
    else if (this.state === "connecting") this.#expect(PROBE);
  }

  /** Sends a ping to test the connection. */
  #probe() {
    if (this.#probing) return;
    this._call("ping", {}, () => {});
    this.#expect(PROBE);
    this.#probing = true;
  }

  /** Sets the time limit for the next frame. After that, the client drops a connection on which an answer is missing, and pings any other. */
  #expect(ms = this.#options.timeout ?? 15_000) {
    if (this.#probing) return;
    clearTimeout(this.#watch);
    this.#watch = this.#calls.size || this.state === "connecting" ? setTimeout(() => this.#lost(1006, "no answer"), ms) : setTimeout(() => this.#probe(), IDLE);
  }

  /** Sends a command. It calls done(error, ok) exactly once. */
  _call(verb, body, done) {
    const id = ++this.#ids;
    this.#calls.set(id, done);
    // On a closing socket, the close event calls done.
    if (!(this.#ws.readyState > 1)) this.#ws.send(JSON.stringify({ id, [verb]: body }));
    this.#expect();
  }

  /** Sends a command when there is a connection, and resolves with the answer. */
  async ask(verb, body) {
    if (this.state !== "open") await this.ready();
    return new Promise((resolve, reject) => this._call(verb, body, (error, ok) => (error ? reject(error) : resolve(ok))));
  }

  #receive(text) {
    this.#probing = false;
    let frame;
    try { frame = JSON.parse(text); } catch { return this.#lost(1006, "the server sent no JSON"); }
    if (frame.hello) this.#welcome(frame.hello);
    else if (frame.ok || frame.error) {
      const done = this.#calls.get(frame.id);
      this.#calls.delete(frame.id);
      done?.(frame.error && new RoomcastError(frame.error), frame.ok);
    } else this.#rooms.get(frame.room)?._receive(frame);
    if (this.#ws) this.#expect();
  }

  #welcome(hello) {
    if (this.#given && hello.you.id.startsWith("anon-")) return; // this hello is for a guest; the hello for our token follows
    const before = this.you;
    this.you = hello.you;
    this.resume = hello.resume ?? "";
    this.session = hello.session;
    this._limits = hello.limits ?? {};
    this.#opened = now();
    this.#clock = { at: this.#opened, time: Date.parse(hello.time) };
    this.#save("", { resume: this.resume });
    this.#refresh(hello.expires);
    if (before?.id && before.id !== this.you.id) this._emit("identity", { you: this.you, before });
    this.#enter("open");
    for (const room of this.rooms) if (this.#ws && room.state === "joining") room._enter();
  }

  /** Sends a new token or ticket before the present one expires. */
  #refresh(expires) {
    const { token, ticket } = this.#options, fresh = token || ticket, left = Date.parse(expires) - this._time();
    if (typeof fresh !== "function" || !(left > 0)) return;
    this.#fresh = setTimeout(async () => {
      const turn = this.#turn;
      try {
        const next = await fresh();
        if (turn !== this.#turn) return;
        if (next && next !== this.#given) {
          const ok = await this.ask("auth", { [token ? "token" : "ticket"]: next });
          this.#given = next;
          return this.#refresh(ok.expires);
        }
      } catch {} // try again while there is time; then 4003 ends the connection
      if (turn === this.#turn) this.#refresh(expires);
    }, Math.min(MOST_DELAY, Math.max(1_000, left * 0.75)));
  }

  /** The time of the server's clock, in ms. */
  _time() { return this.#clock.time + now() - this.#clock.at; }

  /** Reports whether the server may have forgotten the key of a message that was written to a socket. */
  _forgotten({ as, time }) {
    const window = this._limits.key_window_ms ?? WINDOW;
    return as !== this.you.id || !(this._time() - time < window - Math.min(15_000, window / 4));
  }

  /** Puts a message into the outbox, or refuses it. */
  _queue(message, error) {
    if (this._outbox.length >= MOST_PENDING) error ??= failure("overloaded", `${MOST_PENDING} messages are waiting to be sent`);
    if (error) return this._settle(message, error);
    Object.assign(message, { state: "pending", error: undefined });
    this._outbox.push(message);
    held.add(message.key);
    this._keep(message, this.#order = Math.max(this.#order + 1, Date.now()));
    this.#rooms.get(message.room)?._emit("message", message);
  }

  /** Ends the wait of a message: it is stored, with seq and time in result, or it failed with error. */
  _settle(message, error, result) {
    const i = this._outbox.indexOf(message);
    if (i >= 0) {
      this._outbox.splice(i, 1);
      held.delete(message.key);
      this.#save(message.key);
    }
    if (error && message._sent) error = { code: "uncertain", message: "it is unknown whether the message was stored" }; // it was sent, and not answered
    if (error && !(error instanceof Error)) error = new RoomcastError(error);
    Object.assign(message, error ? { state: "failed", error } : { state: "sent", seq: result.seq, at: result.at, took: now() - message._began });
    message._settle();
    this.#rooms.get(message.room)?._emit("message", message);
  }

  /** Stores a message of the outbox, with its place in the order. */
  _keep(message, order = message._place) {
    Object.defineProperty(message, /* @__KEY__ */ "_place", { value: order, configurable: true });
    const { room, key, content, _sent } = message;
    this.#save(key, { room, key, content, sent: _sent, order }, message);
  }

  /** Stores a value, or removes it. Reports a failure; the client continues without the stored copy. */
  async #save(key, value, message) {
    if (!this.#store) return;
    try {
      const name = `roomcast ${this.#url} ${key}`, text = JSON.stringify(value);
      const done = value ? this.#store.put(name, text) : this.#store.delete(name);
      if (message) message.stored = true;
      await done;
    } catch (err) {
      if (message) message.stored = false;
      this._emit("unstored", { message, error: failure("not_stored", String(err?.message ?? err)) });
    }
  }

  /** Reads the storage: at once if it is synchronous, otherwise before the first connection. */
  #load() {
    this.resume = this.#options.resume ?? "";
    if (!this.#store) return;
    const prefix = `roomcast ${this.#url} `;
    const take = (entries) => {
      const found = [];
      for (const [name, text] of entries) {
        let value;
        try { value = JSON.parse(text); } catch {}
        if (name === prefix && typeof value?.resume === "string") this.resume ||= value.resume;
        else if (name === prefix + value?.key && typeof value.room === "string" && value.content && !held.has(value.key)) found.push(value);
      }
      found.sort((a, b) => a.order - b.order);
      this._outbox.unshift(...found.map(({ room, key, content, sent, order }) => {
        const message = new Message(room, key, content);
        held.add(key);
        this.#order = Math.max(this.#order, order || 0);
        Object.defineProperty(message, /* @__KEY__ */ "_place", { value: order, configurable: true });
        return Object.assign(message, { state: "pending", stored: true, _sent: sent });
      }));
    };
    const failed = (err) => queueMicrotask(() => this._emit("unstored", { error: failure("not_stored", String(err?.message ?? err)) }));
    try {
      const entries = this.#store.load(prefix);
      if (typeof entries?.then === "function") this.#loading = entries.then(take).catch(failed);
      else take(entries);
    } catch (err) { failed(err); }
  }

  /** Removes a room that we have left. */
  _forget(room) { if (this.#rooms.get(room.name) === room) this.#rooms.delete(room.name); }
}
