// The tests of room.js about what goes wrong: dead links, lost acks, expired tokens, full storages.
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { at, comeBack, inLobby, server, Shelf, soon, tick, time } from "./scripted.js";

/** Lets every event of the browser that means "look at your connection" happen. */
const browser = () => {
  const listeners = new Map();
  const target = {
    addEventListener: (type, f) => listeners.set(type, f),
    removeEventListener: (type) => listeners.delete(type),
  };
  globalThis.document = { ...target, hidden: false };
  Object.assign(globalThis, target);
  return { listeners, done() { for (const name of ["document", "addEventListener", "removeEventListener"]) delete globalThis[name]; } };
};

test("a silent connection is asked after 25 s and dropped 5 s later", async () => {
  const s = await inLobby();
  tick(24_999);
  assert.deepEqual(s.frames, []);
  s.event(11); // the connection is alive
  tick(25_000);
  assert.deepEqual(s.take("ping"), { id: 2, ping: {} });
  s.push({ id: 2, ok: {} });
  tick(25_000);
  s.take("ping");
  tick(4_999);
  assert.equal(s.c.state, "open");
  tick(1);
  assert.equal(s.c.state, "waiting");
});

test("a connection is asked at once after online, pageshow, visible and resume, and dropped within 6 s", async () => {
  for (const type of ["online", "offline", "pageshow", "visibilitychange", "resume"]) {
    const page = browser();
    try {
      const s = await inLobby();
      page.listeners.get(type)();
      page.listeners.get(type)();
      s.take("ping");
      assert.deepEqual(s.frames, [], "one question is enough");
      tick(5_000);
      assert.equal(s.c.state, "waiting", type);
      page.listeners.get(type)();
      assert.equal(s.sockets.length, 2, "it does not wait any longer");
      s.c.close();
      assert.equal(page.listeners.size, 0, "a closed connection listens no more");
    } finally { page.done(); }
  }
});

test("a dial that hangs is given up within 6 s after online", async () => {
  const page = browser();
  try {
    const s = server();
    await soon();
    page.listeners.get("online")();
    tick(5_000);
    assert.equal(s.c.state, "waiting");
    s.c.close();
  } finally { page.done(); }
});

test("the client drops a silent server that owes an answer", async () => {
  const s = await inLobby({ timeout: 1000 });
  tick(5000);
  assert.equal(s.c.state, "open", "nothing is owed");
  s.room.send("hi");
  tick(999);
  s.event(11); // the connection is alive
  tick(999);
  assert.equal(s.c.state, "open");
  tick(1);
  assert.equal(s.c.state, "waiting");
});

test("a connection that is closed at once never connects", async () => {
  const s = server({ room: "lobby" });
  s.c.close();
  await soon();
  tick(60_000);
  assert.deepEqual([s.sockets.length, s.c.state], [0, "closed"]);
  await assert.rejects(s.c.ready(), { code: "closed" });
});

test("content that JSON cannot represent is refused at once and blocks nothing", async () => {
  const s = await inLobby();
  const cycle = {};
  cycle.self = cycle;
  for (const content of [undefined, null, 5, {}, { data: 10n }, { data: cycle }, { data: () => {} }]) assert.throws(() => s.room.send(content), TypeError);
  assert.deepEqual(s.c.pending, []);
  const data = { n: 1 };
  s.room.send({ data });
  data.n = 2;
  s.room.send({ bin: new Uint8Array([104, 105]) });
  assert.deepEqual(s.answer("say", { seq: 11, at }).data, { n: 1 });
  assert.equal(s.answer("say", { seq: 12, at }).bin, "aGk=");
});

test("the app may choose the key of a message", async () => {
  const s = await inLobby();
  const m = s.room.send({ text: "a", key: "order-7" });
  assert.deepEqual(s.answer("say", { seq: 11, at }), { room: "lobby", text: "a", key: "order-7" });
  assert.deepEqual([m.key, m.content], ["order-7", { text: "a" }]);
});

test("a lost ack within the key window: the message is sent again under its key", async () => {
  const s = await inLobby({ hello: { limits: { key_window_ms: 60_000 } } });
  const m = s.room.send("a"), first = s.take("say").say;
  tick(20_000);
  comeBack(s);
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  assert.deepEqual(s.answer("say", { seq: 9, at, duplicate: true }), first);
  assert.equal(m.state, "sent");
});

test("a lost ack beyond the key window: the client looks for the message before it sends it again", async () => {
  const found = { seq: 12, at, key: "", from: { id: "me" } };
  for (const [name, answer, want] of [
    ["it is there", (key) => ({ events: [{ seq: 11, at, from: { id: "u" }, key }, { ...found, key }], more: false }), "sent"],
    ["it is not there", () => ({ events: [{ seq: 11, at, from: { id: "u" } }], more: false }), "again"],
    ["the log lacks events", () => ({ events: [], more: false, gap: { from: 11, to: 40, reason: "trimmed" } }), "uncertain"],
    ["the room has another history", () => ({ events: [{ seq: 1, at, from: { id: "u" } }], more: false, gap: { from: 11, to: 0, reason: "reset" } }), "uncertain"],
    ["it is there in spite of a gap", (key) => ({ events: [{ ...found, key }], more: false, gap: { from: 11, to: 11, reason: "damaged" } }), "sent"],
    ["nobody may read the log", () => null, "uncertain"],
  ]) {
    const shelf = new Shelf();
    const before = await inLobby({ storage: shelf });
    before.room.send("a");
    const { key } = before.take("say").say;
    before.c.close();
    tick(3 * 60_000);
    const s = server({ room: "lobby", storage: shelf }); // a reload: the replay begins at the newest event
    const [m] = s.c.pending;
    await soon();
    s.hello();
    s.answer("join", { room: "lobby", seq: 50, epoch: "e1" });
    assert.equal(s.frames.some((f) => f.say), false, name);
    await soon();
    const page = answer(key);
    if (page) assert.deepEqual(s.answer("history", page), { room: "lobby", since: 10, epoch: "e1", limit: 256 }, name);
    else s.refuse("history", { code: "forbidden", message: "no" });
    await soon();
    if (want === "sent") assert.deepEqual([m.state, m.seq], ["sent", 12], name);
    if (want === "uncertain") assert.deepEqual([m.state, m.error.code], ["failed", "uncertain"], name);
    if (want === "again") assert.equal(s.take("say").say.key, key, name);
    assert.equal(s.frames.some((f) => f.say), false, name);
    if (want === "uncertain") {
      s.room.retry(m); // the app has decided
      assert.equal(s.take("say").say.key, key);
    }
  }
});

test("the client reads page after page while it looks for a message", async () => {
  const s = await inLobby();
  const m = s.room.send("a"), { key } = s.take("say").say;
  s.c.close();
  tick(3 * 60_000);
  s.c.reconnect();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  await soon();
  s.answer("history", { events: [{ seq: 20, at, from: { id: "u" } }], more: true });
  await soon();
  assert.equal(s.answer("history", { events: [{ seq: 21, at, from: { id: "me" }, key }], more: true }).since, 20);
  await soon();
  assert.deepEqual([m.state, m.seq], ["sent", 21]);
});

test("close with discard: a message that was sent and not answered fails as uncertain, the others as closed", async () => {
  const s = await inLobby();
  const [sent, waiting] = [s.room.send("a"), s.room.send("b")];
  const { key } = s.take("say").say;
  s.c.close({ discard: true });
  await assert.rejects(sent.done, { code: "uncertain", message: "it is unknown whether the message was stored" });
  await assert.rejects(waiting.done, { code: "closed" });
  assert.deepEqual(s.c.pending, []);

  // The app sends it again, after the server may have forgotten the key: the client looks in the log.
  tick(3 * 60_000);
  s.c.reconnect();
  await soon();
  s.hello();
  s.answer("join", { room: "lobby", seq: 11, epoch: "e1" });
  s.room.retry(sent);
  s.event(11);
  s.answer("history", { events: [{ seq: 11, at, from: { id: "me" }, key }], more: false });
  await soon();
  assert.deepEqual([sent.state, sent.seq, s.frames.some((f) => f.say)], ["sent", 11, false]);
});

test("close with discard: a message of an earlier page that was sent fails as uncertain", async () => {
  const shelf = new Shelf();
  const before = await inLobby({ storage: shelf });
  before.room.send("a");
  before.c.close();
  const s = server({ room: "lobby", storage: shelf });
  const [m] = s.c.pending;
  s.c.close({ discard: true });
  await assert.rejects(m.done, { code: "uncertain" });
  assert.equal(shelf.items.size, 1, "the storage has only the resume string");
});

test("a message that may be stored fails as uncertain if the next join is refused, or if it cannot be sent again", async () => {
  const s = await inLobby();
  const m = s.room.send("a");
  comeBack(s);
  s.refuse("join", { code: "banned", message: "no" });
  assert.deepEqual([m.state, m.error.code, s.room.error.code], ["failed", "uncertain", "banned"]);
  s.room.retry(m);
  assert.deepEqual([m.state, m.error.code], ["failed", "uncertain"]);
  const refused = s.room.send("b");
  assert.equal(refused.error.code, "banned");
});

test("another identity looks for the message of the earlier one, at any age", async () => {
  const s = await inLobby();
  const m = s.room.send("a"), { key } = s.take("say").say;
  comeBack(s, 1006, { you: { id: "somebody" } });
  assert.deepEqual(s.all("identity"), [{ you: { id: "somebody" }, before: { id: "me" } }]);
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  await soon();
  s.answer("history", { events: [{ seq: 9, at, from: { id: "me" }, key }], more: false });
  await soon();
  assert.deepEqual([m.state, m.seq], ["sent", 9]);
});

test("a message that was never sent is sent at any age, by anybody", async () => {
  const s = await inLobby();
  s.end(1006);
  const m = s.room.send("a");
  s.c.close();
  tick(10 * 60_000);
  s.c.reconnect();
  s.hello({ you: { id: "somebody" } });
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  s.answer("say", { seq: 11, at });
  assert.equal(m.state, "sent");
});

test("events of an earlier membership do not disturb a replay", async () => {
  const s = await inLobby();
  s.event(11);
  s.room.leave();
  s.room = s.enter("lobby", { last: 3 });
  for (const seq of [12, 13, 14]) s.event(seq); // still on their way
  s.push({ room: "lobby", gap: { from: 15, to: 15, reason: "damaged" } });
  s.answer("join", { room: "lobby", seq: 14, epoch: "e1" });
  for (const seq of [12, 13, 14, 15]) s.event(seq);
  assert.deepEqual(s.all("event").map((e) => e.seq), [11, 12, 13, 14, 15]);
});

test("a refusal is reported as fatal, with its reason; messages wait for reconnect()", async () => {
  for (const [code, name] of [[4103, "bad_token"], [4107, "no_token"], [4106, "forbidden"], [4105, "flood"]]) {
    const s = server({ room: "lobby", token: "t" });
    await soon();
    const m = s.room.send("hi"), ready = s.c.ready();
    s.end(code, "the reason");
    await assert.rejects(ready, { code: name, message: "the reason" });
    assert.deepEqual(s.all("fatal").map((e) => [e.code, e.message, e.close, e instanceof Error]), [[name, "the reason", code, true]]);
    tick(60_000);
    assert.deepEqual([s.sockets.length, s.c.state, m.state], [1, "closed", "pending"]);
    s.c.close({ discard: true });
    await assert.rejects(() => m.done, { code: "closed" });
  }
});

test("a server that never answers gets a likely reason", async () => {
  mock.method(globalThis, "fetch", async () => { throw new TypeError("fetch failed"); });
  const s = server({ room: "lobby" });
  await import("./events.js");
  await soon();
  for (let i = 0; i < 3; i++) {
    if (i) tick(20_000);
    for (let j = 0; j < 10; j++) await soon();
    s.end(1006);
    for (let j = 0; j < 10; j++) await soon();
  }
  assert.match(s.all("state").filter((d) => d.state === "waiting").at(-1).reason, /cannot be reached or refuses this page/);
});

test("a token function that has no token, or a final error, ends the attempts", async () => {
  for (const [token, code, message] of [
    [() => null, "no_token", "the function gave no token"],
    [async () => { throw Object.assign(new Error("log in first"), { final: true }); }, "no_token", "log in first"],
    [async () => { throw Object.assign(new Error("blocked"), { final: true, code: "blocked" }); }, "blocked", "blocked"],
  ]) {
    const s = server({ token });
    await soon();
    tick(60_000);
    await soon();
    assert.deepEqual([s.sockets.length, s.c.state, s.all("fatal").map((e) => [e.code, e.message])], [0, "closed", [[code, message]]]);
  }
});

test("the token is in the first frame; the hello of a guest before it does not count", async () => {
  let n = 0;
  const s = server({ room: "lobby", resume: "r0", token: async () => { if (++n === 2) throw new Error("no"); return `t${n}`; } });
  await soon();
  s.ws.onopen();
  assert.deepEqual([s.ws.protocol, s.ws.url.search], [["roomcast.v1"], ""]);
  assert.deepEqual(s.take("auth"), { auth: { token: "t1" } });
  s.hello({ you: { id: "anon-x" } });
  assert.equal(s.c.state, "connecting");
  s.hello({ you: { id: "ann" } });
  assert.deepEqual([s.c.state, s.c.you.id], ["open", "ann"]);
  s.end(4003);
  tick(20_000);
  await soon();
  assert.equal(s.c.state, "waiting");
  s.c.reconnect();
  await soon();
  s.ws.onopen();
  assert.deepEqual(s.take("auth"), { auth: { token: "t3" } });
});

test("a token is refreshed on the open connection before it expires", async () => {
  let n = 0;
  const s = server({ room: "lobby", token: async () => { if (++n === 2) throw new Error("not now"); return `t${n}`; } });
  await soon();
  s.hello({ you: { id: "ann" }, expires: time(60) });
  s.answer("join", { room: "lobby", seq: 1, epoch: "e" });
  const shown = [];
  const minutes = async (m) => { // the server answers at once
    for (let i = 0; i < m * 6; i++) {
      tick(10_000);
      await soon();
      for (const f of s.frames.splice(0)) {
        if (f.auth) shown.push(f.auth.token);
        s.push({ id: f.id, ok: f.auth ? { you: { id: "ann" }, expires: time(60) } : {} });
      }
    }
  };
  await minutes(44);
  assert.equal(n, 1);
  await minutes(2);
  assert.deepEqual([n, shown], [2, []], "the first attempt fails");
  await minutes(12);
  assert.deepEqual(shown, ["t3"]);
  await minutes(60);
  assert.deepEqual(shown, ["t3", "t4"]);
  assert.deepEqual([s.sockets.length, s.c.state], [1, "open"]);
});

test("a token that has expired twice is not tried again", async () => {
  const s = server({ room: "lobby", token: "t" });
  await soon();
  s.hello({ you: { id: "ann" } });
  s.end(4003, "the token has expired");
  assert.equal(s.c.state, "waiting");
  s.c.reconnect();
  await soon();
  s.end(4003, "the token has expired");
  assert.deepEqual([s.c.state, s.all("fatal")[0].code], ["closed", "token_expired"]);
});

test("a ticket is shown once", async () => {
  const s = server({ ticket: "abc" });
  await soon();
  assert.equal(s.ws.url.searchParams.get("ticket"), "abc");
  s.hello();
  comeBack(s);
  assert.equal(s.ws.url.searchParams.get("ticket"), null);
});

test("a ticket that was refused as expired twice is not shown again", async () => {
  const s = server({ ticket: "abc" });
  await soon();
  s.end(4003, "the ticket has been used");
  assert.equal(s.c.state, "waiting");
  s.c.reconnect();
  await soon();
  s.end(4003, "the ticket has been used");
  assert.deepEqual([s.c.state, s.all("fatal")[0].code], ["closed", "token_expired"]);
});

test("a ticket function is called for the first connection, before the session expires, and after it was refused", async () => {
  let n = 0;
  const s = server({ resume: "of somebody else", ticket: async () => `t${++n}` });
  const shown = () => s.ws.url.searchParams.get("ticket");
  await soon();
  assert.equal(shown(), "t1");
  s.hello({ expires: time(60) });
  comeBack(s, 1006, { expires: time(60) });
  assert.deepEqual([shown(), s.ws.protocol], [null, ["roomcast.v1", "resume.r1"]]);
  tick(30 * 60_000);
  s.push({ id: s.take("ping").id, ok: {} });
  tick(16 * 60_000);
  await soon();
  assert.deepEqual(s.take("auth").auth, { ticket: "t2" });
  s.end(4003, "the session has expired");
  tick(20_000);
  await soon();
  assert.deepEqual([shown(), s.ws.protocol], ["t3", ["roomcast.v1"]]);
});

test("a resume string that may have been revoked is shown no more, also after a reload", async () => {
  for (const code of [4003, 4103]) {
    const storage = new Shelf();
    const s = server({ storage });
    await soon();
    s.hello();
    s.end(code, "this credential has been revoked");
    s.c.reconnect();
    await soon();
    assert.deepEqual(s.ws.protocol, ["roomcast.v1"]);
    assert.equal(server({ storage }).c.resume, "");
  }
});

test("a message that is too long is refused by the client; 1009 costs one message, not the connection", async () => {
  const s = await inLobby({ hello: { limits: { message: 1000 } } });
  const long = ["x".repeat(1001), "é".repeat(501), { data: "x".repeat(999) }, { bin: new Uint8Array(1004) }].map((content) => s.room.send(content));
  assert.deepEqual(long.map((m) => m.error?.code), Array(4).fill("too_large"));
  for (const content of ["x".repeat(1000), { data: "x".repeat(998) }, { bin: new Uint8Array(1000) }]) { s.room.send(content); s.answer("say", { seq: 1, at }); }
  assert.deepEqual(s.c.pending, []);
  const m = s.room.send("y"), next = s.room.send("z");
  s.end(1009, "too long");
  assert.deepEqual([m.state, m.error.code, next.state, s.c.state], ["failed", "too_large", "pending", "waiting"]);
  tick(20_000);
  s.hello();
  s.end(1009); // without a message as its cause
  assert.equal(s.c.state, "closed");
});

test("a signal that is lost with the connection is no refusal", async () => {
  const s = await inLobby();
  s.room.signal("wave", { n: 1 });
  comeBack(s);
  assert.deepEqual([s.all("refused"), s.frames.some((f) => f.signal)], [[], false]);
});

test("a clock that is set back stops neither typing signals nor the backoff", async () => {
  const s = await inLobby();
  mock.timers.setTime(Date.parse("2030-01-01"));
  s.room.typing();
  s.take("signal");
  mock.timers.setTime(Date.parse("2029-01-01"));
  tick(3_000);
  s.room.typing();
  s.take("signal");
  mock.method(Math, "random", () => 0.999);
  tick(6_000);
  s.event(11);
  s.end(1006);
  assert.equal(Math.round(s.all("state").at(-1).ms / 0.999), 500, "the connection was stable");
});

test("a name can be removed again", async () => {
  const s = await inLobby({ name: "Ann", hello: { you: { id: "me", name: "Ann" } } });
  s.c.name = "";
  s.c.reconnect();
  assert.equal(s.ws.url.search, "?name=");
});

test("a close event without a code means: reconnect", async () => {
  const s = await inLobby();
  s.ws.onclose({});
  assert.equal(s.c.state, "waiting");
});

test("storage keeps the identity and unsent messages of all rooms over a reload", async () => {
  const storage = new Shelf();
  const before = await inLobby({ storage });
  before.room.send("a");
  before.room.send("b");
  before.enter("other").send("c");
  const { key } = before.take("say").say;
  before.c.close();
  const s = server({ storage, room: "lobby" });
  assert.deepEqual(s.c.pending.map((m) => [m.room, m.content.text, m.state, m.stored]), [["lobby", "a", "pending", true], ["lobby", "b", "pending", true], ["other", "c", "pending", true]]);
  await soon();
  assert.deepEqual(s.ws.protocol, ["roomcast.v1", "resume.r1"]);
  s.hello();
  s.answer("join", { room: "lobby", seq: 11, epoch: "e1" });
  assert.equal(s.answer("say", { seq: 11, at, duplicate: true }).key, key);
  assert.equal(s.answer("say", { seq: 12, at }).text, "b");
  s.enter("other");
  s.answer("join", { room: "other", seq: 1, epoch: "e1" });
  s.answer("say", { seq: 2, at });
  assert.deepEqual([...storage.items.keys()], ["roomcast ws://h:8000/ws "], "only the identity remains");
});

test("a send writes one record, however many messages wait", async () => {
  const storage = new Shelf();
  const s = await inLobby({ storage });
  s.c.close();
  for (let i = 0; i < 200; i++) s.room.send("x".repeat(3_000));
  assert.ok(storage.writes < 200 * 3_500, `${storage.writes} bytes were written`);
});

test("a message that cannot be stored is reported, and still sent", async () => {
  const no = () => { throw new Error("denied"); };
  const later = async () => { throw new Error("later"); };
  for (const storage of [{ getItem: no, setItem: no, removeItem: no, length: 1, key: no }, { load: later, put: later, delete: later }, Object.assign(new Shelf(), { setItem: no })]) {
    const s = server({ storage, room: "lobby" });
    await soon();
    s.hello();
    s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
    const m = s.room.send("hi");
    await soon();
    assert.equal(m.stored, false);
    assert.ok(s.all("unstored").some((u) => u.message === m && u.error.code === "not_stored"));
    s.answer("say", { seq: 11, at });
    assert.equal(m.state, "sent");
  }
});

test("records that are damaged are ignored", async () => {
  const storage = new Shelf();
  const name = "roomcast ws://h:8000/ws ";
  for (const [key, text] of [["", '{"resume":5}'], ["a", "{"], ["b", '{"key":"b"}'], ["c", "5"], ["d", "null"], ["e", '{"key":"e","room":"lobby","content":{"text":"good"}}']]) storage.setItem(name + key, text);
  const s = server({ storage });
  assert.deepEqual([s.c.resume, s.c.pending.map((m) => m.content.text)], ["", ["good"]]);
});

test("a store may be slow: the connection waits for it", async () => {
  const items = new Map();
  const storage = { load: async () => { await soon(); return items; }, put: async (k, v) => void items.set(k, v), delete: async (k) => void items.delete(k) };
  const before = server({ storage, room: "lobby" });
  before.room.send("a");
  await soon(); await soon();
  before.hello();
  before.c.close();
  const s = server({ storage, room: "lobby" });
  s.room.send("b");
  await soon();
  await soon();
  assert.deepEqual(s.c.pending.map((m) => m.content.text), ["a", "b"]);
  assert.deepEqual(s.ws.protocol, ["roomcast.v1", "resume.r1"]);
});

test("two connections of one page share a storage without taking each other's messages", async () => {
  const storage = new Shelf();
  const one = await inLobby({ storage });
  one.room.send("of one");
  const two = await inLobby({ storage });
  two.room.send("of two");
  assert.deepEqual([one.c.pending.length, two.c.pending.length], [1, 1]);
  one.c.close();
  two.c.close();
  assert.deepEqual(server({ storage }).c.pending.map((m) => m.content.text).sort(), ["of one", "of two"]);
});
