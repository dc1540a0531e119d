// The tests of room.js: node --test gateway/web/
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, mock, test } from "node:test";
import { connect, reconnects } from "./room.js";

const golden = (name) => JSON.parse(readFileSync(new URL(`../../proto/testdata/golden/${name}`, import.meta.url))).rows;
const soon = () => new Promise((resolve) => setImmediate(resolve));
const at = "2026-11-22T10:53:07.123Z";

const clients = [];
const tick = (ms) => mock.timers.tick(ms);
beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => {
  for (const c of clients.splice(0)) c.close();
  mock.timers.reset();
});

/** The other end of the connection: sent frames are in frames, the newest socket is ws. */
function server(options = {}) {
  const s = { sockets: [], frames: [], log: [], timers: 0 };
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
  s.hello = () => s.push({ hello: { session: "s", you: { id: "me" }, resume: "r1", time: at } });
  s.take = (verb) => { // the oldest frame of that verb that nobody has looked at
    const i = s.frames.findIndex((f) => verb in f);
    assert.notEqual(i, -1, `no ${verb} was sent: ${JSON.stringify(s.frames)}`);
    return s.frames.splice(i, 1)[0];
  };
  s.answer = (verb, ok) => { const f = s.take(verb); s.push({ id: f.id, ok }); return f[verb]; };
  s.refuse = (verb, error) => { const f = s.take(verb); s.push({ id: f.id, error }); return f[verb]; };
  s.event = (seq, more = {}) => s.push({ room: "lobby", seq, at, from: { id: "u" }, text: `m${seq}`, ...more });
  s.c = connect({ url: "http://h:8000/", WebSocket: s.WebSocket, ...options });
  clients.push(s.c);
  for (const type of ["state", "event", "saying", "joined", "left", "signal", "gap", "join", "refused"]) {
    s.c.addEventListener(type, (e) => s.log.push([type, structuredClone(e.detail)]));
  }
  s.all = (type) => s.log.filter(([t]) => t === type).map(([, d]) => d);
  return s;
}

/** A server with a client in the room lobby, at seq 10. */
async function inLobby(options) {
  const s = server({ room: "lobby", ...options });
  await soon();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  return s;
}

/** Ends the connection with code and waits for the next one to say hello. */
function comeBack(s, code = 1006) {
  const before = s.sockets.length;
  s.end(code);
  tick(20_000);
  assert.equal(s.sockets.length, before + 1, "it did not reconnect");
  s.hello();
}

test("URLs lead to /ws; a room in the path is joined", async () => {
  for (const [url, want, room] of [
    ["http://h:8000/", "ws://h:8000/ws"],
    ["https://h/", "wss://h/ws"],
    ["wss://h/ws", "wss://h/ws"],
    ["https://h/chat/", "wss://h/chat/ws"],
    ["https://h/chat", "wss://h/chat/ws"],
    ["wss://h/chat/ws", "wss://h/chat/ws"],
    ["ws://h/room/lobby", "ws://h/ws", "lobby"],
    ["ws://h/chat/room/%E8%81%8A%E5%A4%A9/?last=5", "ws://h/chat/ws", "聊天"],
    ["ws://h/room/a.b:c@d+e~f=g-h_1/", "ws://h/ws", "a.b:c@d+e~f=g-h_1"],
    ["ws://h/room/a%2Bb%3Ac%40d%3De%7Ef%2Eg", "ws://h/ws", "a+b:c@d=e~f.g"],
    ["ws://h/room/re\u0301sume\u0301/", "ws://h/ws", "re\u0301sume\u0301"],
    ["ws://h/room/%252E/", "ws://h/ws", "%2E"],
  ]) {
    const s = server({ url, ...(room ? {} : { name: "Ann" }) });
    await soon();
    assert.equal(s.ws.url.href.split("?")[0], want);
    assert.deepEqual(s.ws.protocol, ["roomcast.v1"]);
    if (!room) { assert.equal(s.ws.url.searchParams.get("name"), "Ann"); continue; }
    s.hello();
    assert.equal(s.take("join").join.room, room);
  }
});

test("the client sends the golden commands", async () => {
  const s = await inLobby();
  const want = Object.fromEntries(golden("commands.json").filter((r) => r.want).map((r) => [r.name, r]));
  const sent = (name, verb, change = {}) => {
    const { [verb]: body } = s.take(verb);
    assert.deepEqual({ ...body, ...change }, JSON.parse(want[name].frame)[verb], name);
  };
  for (const [name, content] of [
    ["say text", "hi"], ["say data with a type", { type: "xx.oo", data: { a: [1, null, true] } }], ["say bin", { bin: "aGk=" }],
  ]) {
    s.c.say(content);
    const f = s.frames.at(-1);
    sent(name, "say", { key: "3f9c" });
    s.push({ id: f.id, ok: { seq: 1, at } });
  }
  s.c.join("聊天室1");
  sent("join", "join");
  const asked = [s.c.history({ before: 43, limit: 50 })];
  sent("history before", "history");
  asked.push(s.c.history({ since: 43 }));
  sent("history since", "history");
  asked.push(s.c.history());
  sent("history newest", "history");
  asked.push(s.c.members());
  sent("members", "members");
  s.c.signal("typing", {});
  sent("signal", "signal");
  s.c.typing();
  s.c.typing();
  sent("signal without data", "signal");
  assert.deepEqual(s.frames, [], "typing is signalled once in a while");
  s.c.leave("lobby");
  sent("leave", "leave");
  s.c.close();
  for (const { reason } of await Promise.allSettled(asked)) assert.equal(reason.code, "disconnected");
});

test("golden frames become the right events", async () => {
  for (const { name, is, frame } of golden("frames.json")) {
    if (!["signal", "joined", "left", "gap"].includes(is)) continue;
    const s = await inLobby();
    s.push(frame);
    const { room, [is]: body } = JSON.parse(frame);
    assert.deepEqual(s.all(is), [{ room, ...body }], name);
  }
  for (const { name, frame } of golden("events.json")) {
    const event = JSON.parse(frame);
    const s = server({ room: event.room, since: event.seq - 1 });
    await soon();
    s.hello();
    s.answer("join", { room: event.room, seq: event.seq, epoch: "e" });
    s.push(frame);
    assert.deepEqual(s.all("event"), [event], name);
  }
});

test("reconnects() agrees with the golden table of close codes", () => {
  for (const { code, reconnect } of golden("closes.json")) assert.equal(reconnects(code), reconnect, `${code}`);
});

test("it reconnects unless the close code is final", async () => {
  for (const { code, reconnect } of golden("closes.json")) {
    const s = await inLobby();
    s.end(code, "why");
    assert.equal(s.c.state, reconnect ? "waiting" : "closed", `${code}`);
    assert.equal(s.all("state").at(-1).code, code);
    tick(20_000);
    assert.equal(s.sockets.length, reconnect ? 2 : 1, `${code}`);
  }
});

test("the wait before reconnecting is random, below a bound that doubles from 0.5 s to 20 s", async (t) => {
  t.mock.method(Math, "random", () => 0.999);
  const s = server();
  await Promise.resolve();
  const bounds = [];
  for (let i = 0; i < 8; i++) {
    s.end(1006);
    bounds.push(Math.round(s.all("state").at(-1).ms / 0.999));
    tick(20_000);
  }
  assert.deepEqual(bounds, [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000]);
});

test("it resumes with since, epoch, at and resume, and drops repeats", async () => {
  const s = await inLobby();
  s.event(11);
  s.event(12);
  comeBack(s);
  assert.deepEqual(s.ws.protocol, ["roomcast.v1", "resume.r1"]);
  assert.equal(s.ws.url.searchParams.get("resume"), null);
  assert.deepEqual(s.answer("join", { room: "lobby", seq: 14, epoch: "e1" }), { room: "lobby", since: 12, epoch: "e1", at });
  for (const seq of [12, 13, 13, 14, 11, 15]) s.event(seq);
  assert.deepEqual(s.all("event").map((e) => e.seq), [11, 12, 13, 14, 15]);
});

test("a room without events is resumed from its head", async () => {
  const s = await inLobby();
  comeBack(s);
  assert.deepEqual(s.take("join").join, { room: "lobby", since: 10, epoch: "e1" });
});

test("it asks for last again until the replay has begun", async () => {
  const s = await inLobby({ last: 50 });
  comeBack(s);
  assert.deepEqual(s.answer("join", { room: "lobby", seq: 10, epoch: "e1" }), { room: "lobby", last: 50 });
  s.event(9);
  s.event(10);
  comeBack(s);
  assert.deepEqual(s.take("join").join, { room: "lobby", since: 10, epoch: "e1", at });
});

test("it reconnects after missing events without a gap", async () => {
  const s = await inLobby();
  s.event(11);
  s.event(13);
  assert.deepEqual(s.all("event").map((e) => e.seq), [11]);
  assert.equal(s.c.state, "waiting");
  tick(20_000);
  s.hello();
  assert.equal(s.take("join").join.since, 11);
});

test("it continues after a trimmed gap and starts over after a reset", async () => {
  const s = await inLobby();
  s.push({ room: "lobby", gap: { from: 11, to: 40, reason: "trimmed" } });
  s.event(41);
  s.push({ room: "lobby", gap: { from: 42, to: 0, reason: "reset" } });
  comeBack(s);
  assert.deepEqual(s.answer("join", { room: "lobby", seq: 5, epoch: "e2" }), { room: "lobby", since: 0 });
  s.event(3);
  s.event(4);
  assert.deepEqual(s.all("event").map((e) => e.seq), [41, 3, 4]);
  assert.deepEqual(s.all("gap").map((g) => g.reason), ["trimmed", "reset"]);
});

test("a head without later events is resumed with its time", async () => {
  const s = server({ room: "lobby" });
  await soon();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1", at });
  comeBack(s);
  assert.deepEqual(s.take("join").join, { room: "lobby", since: 10, epoch: "e1", at });
});

test("after a live reset it asks for the new epoch and delivers nothing twice", async () => {
  const s = await inLobby();
  s.event(11);
  s.push({ room: "lobby", gap: { from: 12, to: 0, reason: "reset", epoch: "e2" } });
  s.event(1, { epoch: "e2" });
  s.event(2);
  for (const next of [3, 4]) {
    comeBack(s);
    assert.deepEqual(s.answer("join", { room: "lobby", seq: next, epoch: "e2", at }), { room: "lobby", since: next - 1, epoch: "e2", at });
    s.event(next);
  }
  assert.deepEqual(s.all("event").map((e) => e.seq), [11, 1, 2, 3, 4]);
  assert.equal(s.all("gap").length, 1);
});

test("it asks again for a reset that did not arrive before the connection ended", async () => {
  const s = await inLobby();
  s.event(11);
  comeBack(s);
  s.answer("join", { room: "lobby", seq: 14, epoch: "e2", at });
  comeBack(s); // the reset was on its way
  assert.deepEqual(s.answer("join", { room: "lobby", seq: 14, epoch: "e2", at }), { room: "lobby", since: 11, epoch: "e1", at });
  s.push({ room: "lobby", gap: { from: 12, to: 0, reason: "reset", epoch: "e2", seq: 14 } });
  comeBack(s);
  assert.deepEqual(s.take("join").join, { room: "lobby", since: 0 });
});

test("an empty room gets its epoch with the first event", async () => {
  const s = server({ room: "lobby" });
  await soon();
  s.hello();
  s.answer("join", { room: "lobby", seq: 0, epoch: "" });
  s.event(1, { epoch: "e1" });
  s.event(2);
  comeBack(s);
  assert.deepEqual(s.take("join").join, { room: "lobby", since: 2, epoch: "e1", at });
});

test("a close after a reset ends the membership, even below the old head; a past one does not", async () => {
  for (const [past, out] of [[undefined, true], [2, false], [1, true]]) {
    const s = await inLobby();
    s.push({ room: "lobby", gap: { from: 11, to: 0, reason: "reset", epoch: "e2", seq: past } });
    s.event(1);
    s.event(2, { kind: "closed" });
    assert.equal(s.c.rooms.length, out ? 0 : 1, `closings up to ${past} are undone`);
  }
});

test("after a gap it resumes without the time of the last event", async () => {
  for (const reason of ["trimmed", "damaged"]) {
    const s = await inLobby();
    s.event(11);
    s.push({ room: "lobby", gap: { from: 12, to: 14, reason } });
    comeBack(s);
    assert.deepEqual(s.take("join").join, { room: "lobby", since: 14, epoch: "e1" }, reason);
  }
});

test("it sends messages one at a time, in order, with the same key until the ack", async () => {
  const s = await inLobby();
  const [a, b] = ["a", "b"].map((text) => s.c.say(text));
  const first = s.take("say").say;
  assert.equal(s.frames.length, 0, "b waits for a");
  comeBack(s); // a's answer never came
  assert.equal(s.frames.some((f) => f.say), false, "first the join");
  s.answer("join", { room: "lobby", seq: 11, epoch: "e1" });
  assert.deepEqual(s.answer("say", { seq: 11, at, duplicate: true }), first);
  assert.deepEqual([a.state, a.seq, b.state], ["sent", 11, "pending"]);
  assert.equal(s.answer("say", { seq: 12, at }).text, "b");
  assert.deepEqual([b.state, b.seq], ["sent", 12]);
  assert.notEqual(a.key, b.key);
  assert.deepEqual(s.c.pending("lobby"), []);
});

test("it sends nothing on a closing socket, and sends it on the next", async () => {
  const s = await inLobby();
  s.ws.readyState = 2;
  s.c.say("a");
  assert.equal(s.frames.length, 0);
  comeBack(s);
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  assert.equal(s.take("say").say.text, "a");
});

test("it waits for retry_ms, and no message overtakes", async () => {
  const s = await inLobby();
  const a = s.c.say("a");
  s.c.say("b");
  const first = s.refuse("say", { code: "rate_limited", message: "slow down", retry_ms: 500 });
  tick(499);
  assert.deepEqual([a.state, s.frames.length], ["pending", 0]);
  tick(1);
  assert.deepEqual(s.answer("say", { seq: 11, at }), first);
  assert.equal(s.take("say").say.text, "b");
});

test("a refusal without retry_ms fails the message; retry() keeps the key", async () => {
  const s = await inLobby();
  const a = s.c.say("a"), b = s.c.say("b");
  const { key } = s.refuse("say", { code: "forbidden", message: "no" });
  assert.deepEqual([a.state, a.error.code], ["failed", "forbidden"]);
  s.answer("say", { seq: 11, at });
  assert.equal(b.state, "sent");
  s.c.retry(a);
  assert.equal(s.answer("say", { seq: 12, at }).key, key);
  assert.deepEqual([a.state, a.seq, a.error], ["sent", 12, undefined]);
});

test("it does not resend a close word after reconnecting", async () => {
  const s = await inLobby();
  const word = s.c.say("关闭"), next = s.c.say("later");
  s.take("say");
  s.end(1000, "closed by a close word");
  assert.deepEqual([word.state, word.error.code, next.state, s.c.state], ["failed", "closed_by_word", "pending", "closed"]);
  s.c.reconnect();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  assert.equal(s.take("say").say.text, "later");
});

test("it sends messages of an interruption afterwards, and refuses too many", async () => {
  const s = await inLobby();
  s.c.close();
  assert.equal(s.ws.closed, 1000);
  const said = Array.from({ length: 300 }, (_, i) => s.c.say(`m${i}`));
  assert.deepEqual([said[255].state, said[256].state, said[256].error.code], ["pending", "failed", "overloaded"]);
  s.c.reconnect();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  for (let i = 0; i < 256; i++) assert.equal(s.answer("say", { seq: 11 + i, at }).text, `m${i}`);
});

test("several rooms on one connection resume independently", async () => {
  const s = await inLobby();
  s.c.join("other", { last: 2 });
  assert.deepEqual(s.answer("join", { room: "other", seq: 3, epoch: "x" }), { room: "other", last: 2 });
  s.event(2, { room: "other" });
  s.event(11);
  s.c.say("to other", "other");
  s.c.say("to lobby");
  assert.deepEqual([s.take("say").say.room, s.take("say").say.room], ["other", "lobby"]);
  comeBack(s);
  assert.deepEqual([s.take("join").join, s.take("join").join], [
    { room: "lobby", since: 11, epoch: "e1", at }, { room: "other", since: 2, epoch: "x", at },
  ]);
  s.c.leave("other");
  assert.deepEqual(s.c.rooms, ["lobby"]);
  s.event(3, { room: "other" });
  assert.equal(s.all("event").length, 2);
  assert.equal(s.all("saying").at(-1).error.code, "not_joined");
});

test("a refused join fails the waiting messages; with retry_ms it is repeated", async () => {
  const s = server({ room: "lobby" });
  await soon();
  const m = s.c.say("hi");
  s.hello();
  s.refuse("join", { code: "unavailable", message: "wait", retry_ms: 100 });
  tick(100);
  s.refuse("join", { code: "room_closed", message: "done for today" });
  assert.deepEqual(s.all("refused"), [{ room: "lobby", code: "room_closed", message: "done for today" }]);
  assert.deepEqual([m.state, m.error.code, s.c.rooms.length], ["failed", "room_closed", 0]);
});

test("a close ends the membership; joining again continues at the last event", async () => {
  const s = await inLobby();
  const m = s.c.say("too late");
  s.take("say");
  s.event(11, { kind: "closed", text: undefined, why: "done" });
  assert.deepEqual(s.all("refused"), [{ room: "lobby", code: "room_closed", message: "the room has been closed: done" }]);
  assert.deepEqual([m.state, m.error.code, s.c.rooms], ["failed", "room_closed", []]);
  assert.equal(s.c.say("now?", "lobby").error.code, "room_closed");
  s.c.join("lobby");
  assert.deepEqual(s.answer("join", { room: "lobby", seq: 13, epoch: "e1" }), { room: "lobby", since: 11, epoch: "e1", at });
  s.event(12, { kind: "reopened" });
  s.event(13);
  s.c.retry(m);
  assert.equal(s.take("say").say.text, "too late");
});

test("a past close in a replay does not end the membership", async () => {
  const s = await inLobby();
  s.c.join("other", { since: 3 });
  s.answer("join", { room: "other", seq: 6, epoch: "x" });
  const m = s.c.say("hi", "other");
  for (const [seq, kind] of [[4, "closed"], [5, "reopened"], [6]]) s.event(seq, { room: "other", kind });
  assert.deepEqual([m.state, s.all("refused").length, s.c.rooms.length], ["pending", 0, 2]);
});

test("history and members resolve, or reject with the refusal", async () => {
  const s = await inLobby();
  const page = s.c.history({ before: 5 }), who = s.c.members(), no = s.c.members(), cut = s.c.history();
  s.answer("history", { room: "lobby", events: [], more: false });
  s.answer("members", { room: "lobby", count: 1, members: [{ id: "me" }] });
  s.refuse("members", { code: "overloaded", message: "later", retry_ms: 50 });
  s.end(1006);
  assert.deepEqual(await page, { room: "lobby", events: [], more: false });
  assert.equal((await who).count, 1);
  await assert.rejects(no, { code: "overloaded" });
  await assert.rejects(cut, { code: "disconnected" });
  await assert.rejects(s.c.members(), { code: "disconnected" });
  s.c.close();
});

test("it drops a silent server that owes an answer", async () => {
  const s = await inLobby({ timeout: 1000 });
  tick(5000);
  assert.equal(s.c.state, "open", "nothing is owed");
  s.c.say("hi");
  tick(999);
  s.event(11); // it is alive
  tick(999);
  assert.equal(s.c.state, "open");
  tick(1);
  assert.equal(s.c.state, "waiting");
});

test("storage keeps the identity and unsent messages over a reload", async () => {
  const kept = new Map();
  const storage = { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v) };
  const before = await inLobby({ storage });
  before.c.say("a");
  before.c.say("b");
  const { key } = before.take("say").say;
  const s = server({ storage, room: "lobby" });
  assert.deepEqual(s.c.pending("lobby").map((m) => m.content.text), ["a", "b"]);
  await soon();
  assert.deepEqual(s.ws.protocol, ["roomcast.v1", "resume.r1"]);
  assert.equal(s.ws.url.searchParams.get("resume"), null);
  s.hello();
  s.answer("join", { room: "lobby", seq: 11, epoch: "e1" });
  assert.equal(s.answer("say", { seq: 11, at, duplicate: true }).key, key);
  assert.equal(s.take("say").say.text, "b");
});

test("it works with storage that is forbidden, full or damaged", async () => {
  const no = () => { throw new Error("denied"); };
  for (const storage of [{ getItem: no, setItem: no }, { getItem: () => "{", setItem: no }, undefined, null]) {
    const s = await inLobby({ storage });
    const m = s.c.say("hi");
    s.answer("say", { seq: 11, at });
    assert.equal(m.state, "sent");
  }
});

test("half a surrogate pair becomes U+FFFD, not a refusal", async () => {
  const s = await inLobby();
  s.c.say("a\ud800b");
  assert.equal(s.take("say").say.text, "a\ufffdb");
});

test("it calls a token function before every connection; a failure counts as a lost connection", async () => {
  let n = 0;
  const s = server({ room: "lobby", token: async () => { if (++n === 2) throw new Error("no"); return `t${n}`; } });
  await soon();
  assert.deepEqual(s.ws.protocol, ["roomcast.v1", "bearer.t1"]);
  assert.equal(s.ws.url.search, "");
  s.hello();
  s.end(4003);
  tick(20_000);
  await soon();
  assert.equal(s.c.state, "waiting");
  s.c.reconnect();
  await soon();
  assert.equal(s.ws.protocol.at(-1), "bearer.t3");
  s.c.close();
});

test("a token that has expired twice is not tried again", async () => {
  const s = server({ room: "lobby", token: "t" });
  await soon();
  s.hello();
  s.end(4003, "the token has expired");
  assert.equal(s.c.state, "waiting");
  s.c.reconnect();
  await soon();
  s.end(4003, "the token has expired");
  assert.equal(s.c.state, "closed");
});

test("a lost right ends the membership, and messages that wait there fail", async () => {
  const s = await inLobby();
  const refused = [];
  s.c.addEventListener("refused", (e) => refused.push(e.detail));
  const saying = s.c.say("hi");
  s.push({ room: "lobby", ended: { code: 4106, reason: "no right" } });
  assert.deepEqual(refused, [{ room: "lobby", code: "forbidden", message: "no right" }]);
  assert.equal(saying.state, "failed");
  assert.deepEqual(s.c.rooms, []);
});

test("state events come in order, also under a new name", async () => {
  const s = await inLobby();
  s.c.name = "Bob";
  s.c.reconnect();
  assert.equal(s.ws.url.searchParams.get("name"), "Bob");
  s.hello();
  s.c.close();
  assert.deepEqual(s.all("state").map((x) => x.state), ["connecting", "open", "connecting", "open", "closed"]);
});

test("connect throws at once if there is no WebSocket", () => {
  const given = globalThis.WebSocket; // newer versions of Node have one
  delete globalThis.WebSocket;
  try {
    assert.throws(() => connect("ws://h:8000/"), /there is no WebSocket here/);
  } finally {
    if (given) globalThis.WebSocket = given;
  }
});

test("socket errors are handled, also after the client has dropped the socket", async () => {
  const s = server();
  await soon();
  const { ws } = s;
  s.c.close();
  assert.equal(typeof ws.onerror, "function");
});
