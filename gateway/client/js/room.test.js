// The tests of room.js against a scripted server: node --test gateway/client/js/
import assert from "node:assert/strict";
import { test } from "node:test";
import { at, comeBack, golden, inLobby, server, Shelf, soon, tick } from "./scripted.js";
import { connect, reconnects } from "./room.js";

test("URLs lead to /ws; room() enters the room in the URL", async () => {
  for (const [url, want, room, from] of [
    ["http://h:8000/", "ws://h:8000/ws"],
    ["https://h/", "wss://h/ws"],
    ["wss://h/ws", "wss://h/ws"],
    ["https://h/chat/", "wss://h/chat/ws"],
    ["https://h/chat", "wss://h/chat/ws"],
    ["wss://h/chat/ws", "wss://h/chat/ws"],
    ["ws://h/?group=a.b", "ws://h/ws", "a.b"],
    ["https://h/chat/?group=x&last=7", "wss://h/chat/ws", "x", { last: 7 }],
    ["ws://h/room/lobby", "ws://h/ws", "lobby"],
    ["ws://h/chat/room/%E8%81%8A%E5%A4%A9/?last=5&timeout=1", "ws://h/chat/ws", "聊天", { last: 5 }],
    ["ws://h/room/a.b:c@d+e~f=g-h_1/?since=4", "ws://h/ws", "a.b:c@d+e~f=g-h_1", { since: 4 }],
    ["ws://h/room/re\u0301sume\u0301/", "ws://h/ws", "re\u0301sume\u0301"],
    ["ws://h/room/%252E/", "ws://h/ws", "%2E"],
  ]) {
    const s = server({ url, name: "Ann" });
    await soon();
    assert.equal(s.ws.url.href, want + "?name=Ann");
    assert.deepEqual(s.ws.protocol, ["roomcast.v1"]);
    if (!room) { assert.throws(() => s.c.room(), TypeError); continue; }
    s.hello();
    s.c.room();
    assert.deepEqual(s.take("join").join, { room, ...from });
  }
});

test("a URL that leads to no server is refused at once", () => {
  for (const url of ["file:///tmp/page.html", "mailto:x"]) assert.throws(() => server({ url }), /give connect the url of a server/);
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
    s.room.send(content);
    const f = s.frames.at(-1);
    sent(name, "say", { key: "3f9c" });
    s.push({ id: f.id, ok: { seq: 1, at } });
  }
  s.enter("聊天室1");
  sent("join", "join");
  const asked = [s.room.history({ before: 43, limit: 50 })];
  sent("history before", "history");
  asked.push(s.room.history({ since: 43 }));
  sent("history since", "history");
  asked.push(s.room.history());
  sent("history newest", "history");
  asked.push(s.c.ask("members", { room: "lobby" }));
  sent("members", "members");
  s.room.signal("typing", {});
  sent("signal", "signal");
  s.room.typing();
  s.room.typing();
  sent("signal without data", "signal");
  assert.deepEqual(s.frames, [], "typing is signalled once in a while");
  asked.push(s.room.moderate("close", { why: "done for today" }));
  sent("moderate", "moderate");
  s.room.leave();
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
    if (room === "lobby") assert.deepEqual(s.all(is), [body], name);
  }
  for (const { name, frame } of golden("events.json")) {
    const event = JSON.parse(frame);
    const s = server({ room: event.room, since: event.seq - 1 });
    await soon();
    s.hello();
    s.answer("join", { room: event.room, seq: event.seq - 1, epoch: "e" });
    s.push(frame);
    assert.deepEqual(s.all("event"), [event], name);
  }
});

test("reconnects() agrees with the golden table of close codes", () => {
  for (const { code, reconnect } of golden("closes.json")) assert.equal(reconnects(code), reconnect, `${code}`);
});

test("the client reconnects unless the close code is final", async () => {
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
    s.end(1011);
    bounds.push(Math.round(s.all("state").at(-1).ms / 0.999));
    tick(20_000);
  }
  assert.deepEqual(bounds, [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000]);
});

test("the client resumes with since, epoch, at and resume, and drops repeats", async () => {
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

test("a replay that has not begun begins at the same event on the next connection", async () => {
  const s = await inLobby({ last: 2 });
  comeBack(s);
  assert.deepEqual(s.answer("join", { room: "lobby", seq: 10, epoch: "e1" }), { room: "lobby", since: 8, epoch: "e1" });
  s.event(9);
  s.event(10);
  comeBack(s);
  assert.deepEqual(s.take("join").join, { room: "lobby", since: 10, epoch: "e1", at });
});

test("the client reconnects after missing events without a gap", async () => {
  const s = await inLobby();
  s.event(11);
  s.event(13);
  assert.deepEqual(s.all("event").map((e) => e.seq), [11]);
  assert.equal(s.c.state, "waiting");
  tick(20_000);
  s.hello();
  assert.equal(s.take("join").join.since, 11);
});

test("the client continues after a trimmed gap and starts over after a reset", async () => {
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

test("the client asks again for a reset that did not arrive before the connection ended", async () => {
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

test("after a gap it resumes without the time of the last event", async () => {
  for (const reason of ["trimmed", "damaged"]) {
    const s = await inLobby();
    s.event(11);
    s.push({ room: "lobby", gap: { from: 12, to: 14, reason } });
    comeBack(s);
    assert.deepEqual(s.take("join").join, { room: "lobby", since: 14, epoch: "e1" }, reason);
  }
});

test("the client sends messages one at a time, in order, with the same key until the ack", async () => {
  const s = await inLobby();
  const [a, b] = ["a", "b"].map((text) => s.room.send(text));
  const first = s.take("say").say;
  assert.equal(s.frames.length, 0, "b waits for a");
  comeBack(s); // a's answer never came
  assert.equal(s.frames.some((f) => f.say), false, "first the join");
  s.answer("join", { room: "lobby", seq: 11, epoch: "e1" });
  assert.deepEqual(s.frames, [], "the replay may have it");
  s.event(11);
  assert.deepEqual(s.answer("say", { seq: 9, at, duplicate: true }), first);
  assert.deepEqual([a.state, a.seq, b.state], ["sent", 9, "pending"]);
  assert.equal(s.answer("say", { seq: 12, at }).text, "b");
  assert.deepEqual([b.state, b.seq], ["sent", 12]);
  assert.notEqual(a.key, b.key);
  assert.deepEqual(s.c.pending, []);
});

test("a message that the replay contains is not sent again", async () => {
  const s = await inLobby();
  const a = s.room.send("a"), { key } = s.take("say").say;
  comeBack(s);
  s.answer("join", { room: "lobby", seq: 12, epoch: "e1" });
  s.event(11, { from: { id: "me" }, key });
  s.event(12);
  assert.deepEqual([a.state, a.seq, s.frames], ["sent", 11, []]);
});

test("the client sends nothing on a closing socket, and sends it on the next", async () => {
  const s = await inLobby();
  s.ws.readyState = 2;
  s.room.send("a");
  assert.equal(s.frames.length, 0);
  comeBack(s);
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  assert.equal(s.take("say").say.text, "a");
});

test("the client waits for retry_ms, and no message overtakes", async () => {
  const s = await inLobby();
  const a = s.room.send("a");
  s.room.send("b");
  const first = s.refuse("say", { code: "rate_limited", message: "slow down", retry_ms: 500 });
  tick(499);
  assert.deepEqual([a.state, s.frames.length], ["pending", 0]);
  tick(1);
  assert.deepEqual(s.answer("say", { seq: 11, at }), first);
  assert.equal(s.take("say").say.text, "b");
});

test("a refusal without retry_ms fails the message; retry() keeps the key", async () => {
  const s = await inLobby();
  const a = s.room.send("a"), b = s.room.send("b");
  const { key } = s.refuse("say", { code: "forbidden", message: "no" });
  assert.deepEqual([a.state, a.error.code], ["failed", "forbidden"]);
  s.answer("say", { seq: 11, at });
  assert.equal(b.state, "sent");
  s.room.retry(a);
  assert.equal(s.answer("say", { seq: 12, at }).key, key);
  assert.deepEqual([a.state, a.seq, a.error], ["sent", 12, undefined]);
});

test("half a surrogate pair becomes U+FFFD, not a refusal", async () => {
  const s = await inLobby();
  s.room.send("a\ud800b");
  assert.equal(s.take("say").say.text, "a\ufffdb");
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

test("the client does not resend a close word after reconnecting", async () => {
  const s = await inLobby();
  const word = s.room.send("关闭"), next = s.room.send("later");
  s.take("say");
  s.end(1000, "closed by a close word");
  assert.deepEqual([word.state, word.error.code, next.state, s.c.state], ["failed", "closed_by_word", "pending", "closed"]);
  assert.equal(s.all("fatal")[0].code, "normal");
  s.c.reconnect();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  assert.equal(s.take("say").say.text, "later");
});

test("the client sends messages of an interruption afterwards, and refuses too many", async () => {
  const s = await inLobby();
  s.c.close();
  assert.equal(s.ws.closed, 1000);
  const said = Array.from({ length: 300 }, (_, i) => s.room.send(`m${i}`));
  assert.deepEqual([said[255].state, said[256].state, said[256].error.code], ["pending", "failed", "overloaded"]);
  s.c.reconnect();
  s.hello();
  s.answer("join", { room: "lobby", seq: 10, epoch: "e1" });
  for (let i = 0; i < 256; i++) assert.equal(s.answer("say", { seq: 11 + i, at }).text, `m${i}`);
});

test("several rooms on one connection resume independently", async () => {
  const s = await inLobby();
  const other = s.enter("other", { last: 2 });
  assert.equal(s.c.room("other"), other, "one object per room");
  assert.deepEqual(s.answer("join", { room: "other", seq: 3, epoch: "x" }), { room: "other", last: 2 });
  s.event(2, { room: "other" });
  s.event(11);
  other.send("to other");
  s.room.send("to lobby");
  assert.deepEqual([s.take("say").say.room, s.take("say").say.room], ["other", "lobby"]);
  comeBack(s);
  assert.deepEqual([s.take("join").join, s.take("join").join], [
    { room: "lobby", since: 11, epoch: "e1", at }, { room: "other", since: 2, epoch: "x", at },
  ]);
  other.send("not sent yet");
  other.leave();
  assert.deepEqual(s.c.rooms, [s.room]);
  s.event(3, { room: "other" });
  assert.equal(s.all("event").length, 2);
  assert.deepEqual(s.all("message").slice(-2).map((m) => [m.content.text, m.error.code]), [["to other", "uncertain"], ["not sent yet", "not_joined"]]);
  assert.equal(other.send("more").error.code, "not_joined");
});

test("a refused join fails the waiting messages; with retry_ms it is repeated", async () => {
  const s = server({ room: "lobby" });
  await soon();
  const m = s.room.send("hi"), ready = s.room.ready();
  s.hello();
  s.refuse("join", { code: "unavailable", message: "wait", retry_ms: 100 });
  tick(100);
  s.refuse("join", { code: "room_closed", message: "done for today" });
  assert.deepEqual(s.all("refused").map((e) => [e.code, e.message, e instanceof Error]), [["room_closed", "done for today", true]]);
  assert.deepEqual([m.state, m.error.code, s.room.state], ["failed", "room_closed", "refused"]);
  await assert.rejects(ready, { code: "room_closed" });
});

test("a close ends the membership; joining again continues at the last event", async () => {
  const s = await inLobby();
  const m = s.room.send("too late"), unsent = s.room.send("later still");
  s.take("say");
  s.event(11, { kind: "closed", text: undefined, why: "done" });
  assert.equal(s.all("refused")[0].message, "the room has been closed: done");
  assert.deepEqual([m.state, m.error.code, s.room.state], ["failed", "uncertain", "refused"]);
  assert.deepEqual([unsent.state, unsent.error.code], ["failed", "room_closed"]);
  assert.equal(s.room.send("now?").error.code, "room_closed");
  s.room.join();
  assert.deepEqual(s.answer("join", { room: "lobby", seq: 13, epoch: "e1" }), { room: "lobby", since: 11, epoch: "e1", at });
  s.event(12, { kind: "reopened" });
  s.event(13);
  s.room.retry(m);
  assert.equal(s.take("say").say.text, "too late");
});

test("a close after a reset ends the membership, even below the old head; a past one does not", async () => {
  for (const [past, state] of [[undefined, "refused"], [2, "joined"], [1, "refused"]]) {
    const s = await inLobby();
    s.push({ room: "lobby", gap: { from: 11, to: 0, reason: "reset", epoch: "e2", seq: past } });
    s.event(1);
    s.event(2, { kind: "closed" });
    assert.equal(s.room.state, state, `closings up to ${past} are undone`);
  }
});

test("a past close in a replay does not end the membership", async () => {
  const s = await inLobby();
  const other = s.enter("other", { since: 3 });
  s.answer("join", { room: "other", seq: 6, epoch: "x" });
  const m = other.send("hi");
  for (const [seq, kind] of [[4, "closed"], [5, "reopened"], [6]]) s.event(seq, { room: "other", kind });
  assert.deepEqual([m.state, s.all("refused").length, other.state], ["pending", 0, "joined"]);
});

test("a lost right ends the membership, and messages that wait there fail", async () => {
  for (const [code, name] of [[4106, "forbidden"], [4101, "kicked"], [4102, "banned"]]) {
    const s = await inLobby();
    const message = s.room.send("hi");
    s.push({ room: "lobby", ended: { code, reason: "no right" } });
    assert.deepEqual(s.all("refused").map((e) => [e.code, e.message]), [[name, "no right"]]);
    assert.deepEqual([message.state, s.room.state], ["failed", "refused"]);
  }
});

test("answers resolve, or reject with an Error that has the code", async () => {
  const s = await inLobby();
  const page = s.room.history({ before: 5 }), no = s.room.moderate("kick", { member: "u" }), cut = s.room.history();
  s.answer("history", { room: "lobby", events: [], more: false });
  assert.deepEqual(s.refuse("moderate", { code: "overloaded", message: "later", retry_ms: 50 }), { room: "lobby", act: "kick", member: "u" });
  s.end(1006);
  assert.deepEqual(await page, { room: "lobby", events: [], more: false });
  await assert.rejects(no, (err) => err instanceof Error && err.code === "overloaded" && err.retry_ms === 50 && err.message === "later");
  await assert.rejects(cut, { code: "disconnected" });
  const later = s.room.history(); // waits for the connection
  s.frames.length = 0;
  tick(20_000);
  s.hello();
  await soon();
  s.answer("history", { room: "lobby", events: [], more: true });
  assert.equal((await later).more, true);
  s.c.close();
  await assert.rejects(s.room.history(), { code: "closed" });
});

test("say resolves with the seq, and rejects with the refusal", async () => {
  const s = await inLobby();
  const [a, b] = [s.room.say("a"), s.room.say({ type: "x.y", data: { n: 1 } })];
  s.answer("say", { seq: 11, at });
  assert.equal(await a, 11);
  assert.deepEqual(s.refuse("say", { code: "forbidden", message: "no" }).data, { n: 1 });
  await assert.rejects(b, (err) => err instanceof Error && err.code === "forbidden");
  assert.equal(await s.all("message").length, 4);
});

test("the event of our own message settles it, even without the ack", async () => {
  const s = await inLobby();
  const m = s.room.send("a"), { key } = s.take("say").say;
  s.event(11, { from: { id: "somebody" }, key });
  assert.equal(m.state, "pending", "it is of somebody else");
  s.event(12, { from: { id: "me" }, key });
  assert.deepEqual([m.state, m.seq, await m.done], ["sent", 12, 12]);
});

test("a loop over a room gets its events, ends with leave and throws after a refusal", async () => {
  const s = await inLobby();
  const got = [];
  const loop = (async () => { for await (const { seq } of s.room) { got.push(seq); if (seq === 13) s.room.leave(); } })();
  await soon();
  for (const seq of [11, 12, 13]) s.event(seq);
  await loop;
  assert.deepEqual(got, [11, 12, 13]);
  const other = s.enter("other");
  const failing = (async () => { for await (const event of other) got.push(event.seq); })();
  await soon();
  s.take("join"); // of other
  s.push({ room: "other", ended: { code: 4106, reason: "no" } });
  s.end(4103, "no");
  await assert.rejects(failing, { code: "bad_token" });
});

test("the end of a replay is reported once, with its events", async () => {
  const s = await inLobby({ since: 8 });
  s.event(9);
  s.event(10);
  s.event(11);
  assert.deepEqual(s.all("event").map((e) => e.replay), [true, true, undefined]);
  comeBack(s);
  s.answer("join", { room: "lobby", seq: 13, epoch: "e1" });
  s.event(12);
  s.event(13);
  comeBack(s);
  s.answer("join", { room: "lobby", seq: 20, epoch: "e1" });
  s.push({ room: "lobby", gap: { from: 14, to: 19, reason: "trimmed" } });
  s.event(20);
  assert.deepEqual(s.all("replayed"), [
    { events: 2, resumed: true, exact: true }, { events: 2, resumed: true, exact: true }, { events: 1, resumed: true, exact: false },
  ]);
});

test("members are asked for once, and kept up to date", async () => {
  const s = await inLobby();
  assert.deepEqual(s.frames, [], "nobody wants them yet");
  assert.deepEqual(s.room.members, { count: 0, list: [], more: false });
  tick(0);
  s.answer("members", { room: "lobby", count: 1, members: [{ id: "me" }] });
  await soon();
  for (let i = 0; i < 50; i++) s.push({ room: "lobby", joined: { id: `u${i}`, name: "U", count: i + 2 } });
  s.push({ room: "lobby", left: { id: "u7", reason: "client", count: 50 } });
  tick(60_000);
  assert.equal(s.frames.filter((f) => f.members).length, 0, "all are named");
  assert.deepEqual([s.room.members.count, s.room.members.list.length, s.room.members.list.some((m) => m.id === "u7")], [50, 50, false]);
  s.push({ room: "lobby", joined: { count: 300 } });
  assert.deepEqual([s.room.members.count, s.room.members.list.length, s.room.members.more], [300, 50, true]);
  for (let i = 0; i < 100; i++) s.push({ room: "lobby", joined: { count: 301 + i } }); // no storm of questions
  tick(0);
  assert.equal(s.frames.filter((f) => f.members).length, 0);
  tick(60_000);
  s.answer("members", { room: "lobby", count: 400, members: [{ id: "me" }, { id: "u1" }], more: true });
  await soon();
  assert.deepEqual([s.room.members.count, s.room.members.list.length, s.room.members.more], [400, 2, true]);
});

test("members appear at once in a room where others keep coming and going", async () => {
  const s = await inLobby();
  s.room.on("members", () => {});
  for (let i = 0; i < 20; i++) s.push({ room: "lobby", joined: { id: "u", count: 9 } });
  tick(0);
  s.answer("members", { room: "lobby", count: 2, members: [{ id: "me" }, { id: "u" }] });
  await soon();
  assert.equal(s.room.members.list.length, 2);
});
