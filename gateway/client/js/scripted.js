// scripted.js: a server and a clock for the tests of room.js. The test decides what the server does.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, mock } from "node:test";
import { connect } from "./room.js";

export const golden = (name) => JSON.parse(readFileSync(new URL(`../../../proto/testdata/golden/${name}`, import.meta.url))).rows;
export const soon = () => new Promise((resolve) => setImmediate(resolve));
export const at = "2026-11-22T10:53:07.123Z";

const clients = [];
let clock = 0; // the monotonic clock; a test may set the clock of Date
/** The server's clock, after a number of minutes. */
export const time = (minutes = 0) => new Date(Date.parse(at) + clock + minutes * 60_000).toISOString();
export const tick = (ms) => { clock += ms; mock.timers.tick(ms); };
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  mock.method(performance, "now", () => clock);
});
afterEach(() => {
  for (const c of clients.splice(0)) c.close({ discard: true });
  mock.timers.reset();
  mock.restoreAll();
});

const connectionEvents = ["state", "fatal", "identity", "unstored"];
const roomEvents = ["event", "message", "joined", "left", "signal", "gap", "refused", "replayed"];
const copy = (detail) => (detail instanceof Error ? detail : { ...detail });

/** The other end of the connection: sent frames are in frames, the newest socket is ws. */
export function server({ room, last, since, after, hello, ...options } = {}) {
  const s = { sockets: [], frames: [], log: [], served: 0 };
  s.WebSocket = class {
    constructor(url, protocol) {
      Object.assign(this, { url: new URL(url), protocol, open: true });
      s.ws = this;
      s.sockets.push(this);
    }
    send(text) { if (this.open) s.frames.push(JSON.parse(text)); }
    close(code) { this.open = false; this.closed = code; }
  };
  s.push = (frame) => s.ws.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  s.end = (code, reason = "") => { s.ws.open = false; s.ws.onclose?.({ code, reason }); };
  s.hello = (more) => s.push({ hello: { session: "s", you: { id: "me" }, resume: "r1", time: time(), ...hello, ...more } });
  s.take = (verb) => { // the oldest frame of that verb that nobody has looked at
    const i = s.frames.findIndex((f) => verb in f);
    assert.notEqual(i, -1, `no ${verb} was sent: ${JSON.stringify(s.frames)}`);
    return s.frames.splice(i, 1)[0];
  };
  s.answer = (verb, ok) => { const f = s.take(verb); s.push({ id: f.id, ok }); return f[verb]; };
  s.refuse = (verb, error) => { const f = s.take(verb); s.push({ id: f.id, error }); return f[verb]; };
  s.event = (seq, more = {}) => s.push({ room: "lobby", seq, at, from: { id: "u" }, text: `m${seq}`, ...more });
  s.follow = (target, events) => { for (const type of events) target.on(type, (detail) => s.log.push([type, copy(detail)])); return target; };
  s.enter = (name, from) => s.follow(s.c.room(name, from), roomEvents);
  s.c = s.follow(connect({ url: "http://h:8000/", WebSocket: s.WebSocket, ...options }), connectionEvents);
  clients.push(s.c);
  if (room) s.room = s.enter(room, { last, since, after });
  s.all = (type) => s.log.filter(([t]) => t === type).map(([, d]) => d);
  return s;
}

/** A server with a client in the room lobby, at seq 10. */
export async function inLobby(options) {
  const s = server({ room: "lobby", ...options });
  await soon();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  return s;
}

/** Ends the connection with code and waits for the next one to say hello. */
export function comeBack(s, code = 1006, hello = {}) {
  const before = s.sockets.length;
  s.end(code);
  s.frames.length = 0;
  tick(20_000);
  assert.equal(s.sockets.length, before + 1, "it did not reconnect");
  s.hello(hello);
}

/** A storage such as sessionStorage. */
export class Shelf {
  items = new Map();
  writes = 0;
  get length() { return this.items.size; }
  key(i) { return [...this.items.keys()][i] ?? null; }
  getItem(key) { return this.items.get(key) ?? null; }
  setItem(key, text) { this.writes += text.length; this.items.set(key, text); }
  removeItem(key) { this.items.delete(key); }
}
