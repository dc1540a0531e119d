// The tests of events.js: the client without WebSockets against a scripted HTTP server.
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { at, server, soon, tick } from "./scripted.js";
import "./events.js"; // otherwise the first test waits for it

/** A network that refuses WebSockets. Requests are in asked, the newest stream is stream. The first stream is opened, or refused for good. */
async function blocked({ room = "lobby", refusal, ...options } = {}) {
  const w = { asked: [], streams: [] };
  mock.method(globalThis, "fetch", (url, { method = "GET", headers, body, signal }) => new Promise((resolve, reject) => {
    const fail = () => reject(new DOMException("aborted", "AbortError"));
    if (signal.aborted) return fail();
    signal.addEventListener("abort", fail);
    const request = { url: new URL(url), method, headers, body: body && JSON.parse(body), signal };
    request.answer = (object, status = 200) => resolve(new Response(JSON.stringify(object), { status }));
    request.refuse = (status, text) => resolve(new Response(text, { status }));
    if (request.url.pathname.endsWith("/events")) {
      request.open = () => {
        const { readable, writable } = new TransformStream(), writer = writable.getWriter();
        signal.addEventListener("abort", () => writable.abort().catch(() => {}));
        request.push = async (text) => { writer.write(new TextEncoder().encode(text)); for (let i = 0; i < 10; i++) await soon(); };
        request.event = (event, data, id) => request.push(`${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
        request.end = () => writer.close();
        resolve(new Response(readable));
      };
      w.streams.push(request);
    } else w.asked.push(request);
  }));
  const s = server({ room, ...options });
  w.s = s;
  w.refuse = async () => { s.end(1006); for (let i = 0; i < 10; i++) await soon(); };
  w.wait = async (ms) => { tick(ms); for (let i = 0; i < 10; i++) await soon(); };
  w.hello = (more) => w.stream.event("hello", { hello: { session: "s", you: { id: "anon-a" }, resume: "r1", time: at, ...more } });
  w.ok = (seq, more = {}, id) => w.stream.event("ok", { ok: { room: "lobby", seq, epoch: "e1", at, ...more } }, id);
  w.message = (seq, more = {}) => w.stream.event("message", { room: "lobby", seq, at, from: { id: "u" }, text: `m${seq}`, ...more }, `e1-${seq}-${Date.parse(at)}`);
  Object.defineProperty(w, "stream", { get: () => w.streams.at(-1) });
  await soon();
  for (let i = 0; i < 2; i++) { await w.refuse(); await w.wait(20_000); }
  for (let i = 0; i < 50 && s.sockets.length < 3; i++) await soon(); // the module is loaded
  await w.refuse(); // the attempt before the first stream
  if (!refusal) w.stream?.open();
  else w.stream.refuse(403, JSON.stringify(refusal));
  await w.wait(0);
  return w;
}

/** A client in the lobby, at seq 10, without WebSockets. */
async function inside(options) {
  const w = await blocked(options);
  await w.hello();
  await w.ok(10);
  return w;
}
const ms = Date.parse(at);

test("after two WebSockets that do not open, the rooms come as events", async () => {
  const w = await blocked({ last: 2, name: "Ann" });
  assert.equal(w.streams.length, 1);
  assert.equal(w.stream.url.href, "http://h:8000/events?name=Ann&last=2&room=lobby");
  await w.hello();
  await w.ok(10);
  for (const seq of [9, 10, 11]) await w.message(seq);
  assert.deepEqual([w.s.c.state, w.s.c.you.id, w.s.room.state], ["open", "anon-a", "joined"]);
  assert.deepEqual(w.s.all("event").map((e) => [e.seq, e.replay]), [[9, true], [10, true], [11, undefined]]);
});

test("messages are posted one at a time, with their key and our resume string", async () => {
  const w = await inside();
  const [a, b] = [w.s.room.send("a"), w.s.room.send({ type: "x", data: { n: 1 } })];
  const [first, ...more] = w.asked.splice(0);
  assert.deepEqual([first.method, first.url.href, first.headers["Roomcast-Resume"], more], ["POST", "http://h:8000/api/rooms/lobby/messages", "r1", []]);
  assert.deepEqual(first.body, { text: "a", key: a.key });
  first.answer({ ok: { seq: 11, at } });
  await w.wait(0);
  w.asked.pop().answer({ error: { code: "forbidden", message: "no" } }, 403);
  await w.wait(0);
  assert.deepEqual([a.state, a.seq, b.state, b.error.code], ["sent", 11, "failed", "forbidden"]);
});

test("each command is the right request", async () => {
  const w = await inside();
  for (const [ask, want, fields] of [
    [() => w.s.room.history({ before: 5, limit: 20 }), "GET /messages?before=5&limit=20"],
    [() => w.s.room.history(), "GET /messages?limit=50"],
    [() => w.s.room.moderate("ban", { member: "u", for: "1h" }), "POST /ban", { member: "u", for: "1h" }],
    [() => w.s.room.moderate("delete", { seq: 5 }), "POST /delete", { seq: 5, epoch: "e1" }],
    [() => w.s.room.edit(5, "b"), "POST /edit", { seq: 5, epoch: "e1", text: "b" }],
    [() => w.s.c.ask("members", { room: "lobby" }), "GET /members"],
    [() => w.s.room.signal("typing", {}), "POST /signal", { type: "typing", data: {} }],
  ]) {
    const answer = ask();
    await w.wait(0);
    const { method, url, body, ...request } = w.asked.pop();
    assert.deepEqual([`${method} ${url.pathname.replace("/api/rooms/lobby", "")}${url.search}`, body], [want, fields]);
    request.answer(method === "GET" ? { room: "lobby", members: [] } : { ok: { seq: 1 } });
    await answer;
  }
});

test("a message whose request fails is sent again with its key, after the replay", async () => {
  const w = await inside();
  await w.message(11);
  const m = w.s.room.send("a"), [first] = w.asked.splice(0);
  first.refuse(502, "<html>bad gateway");
  await w.wait(0);
  assert.equal(w.s.c.state, "waiting");
  await w.wait(20_000);
  await w.refuse();
  assert.equal(w.stream.url.search, `?room=lobby!e1-11-${ms}`);
  assert.equal(w.stream.headers["Roomcast-Resume"], "r1");
  w.stream.open();
  await w.hello();
  await w.ok(12);
  assert.deepEqual(w.asked, [], "the replay may have it");
  await w.message(12, { from: { id: "anon-a" }, key: m.key });
  assert.deepEqual([m.state, m.seq, w.asked], ["sent", 12, []]);
});

test("a room that is joined later needs another stream, which continues at the position of the first stream", async () => {
  const w = await inside();
  const old = w.stream;
  await w.message(11);
  const other = w.s.enter("ops", { last: 3 });
  await w.wait(10);
  assert.equal(w.stream.url.search, `?last=3&room=lobby!e1-11-${ms}&room=ops`);
  await old.event("message", { room: "lobby", seq: 12, at, from: { id: "u" }, text: "m12" }, `e1-12-${ms}`);
  await old.event("joined", { room: "lobby", joined: { id: "u", count: 2 } });
  assert.equal(old.signal.aborted, false, "nobody sees us leave");
  w.stream.open();
  await w.hello({ resume: "r2" });
  assert.equal(old.signal.aborted, true);
  await w.stream.event("ok", { ok: { room: "ops", seq: 5, epoch: "x", at } });
  await w.ok(12);
  await w.message(12);
  assert.deepEqual([other.state, w.s.room.state], ["joined", "joined"]);
  assert.deepEqual(w.s.all("event").map((e) => e.seq), [11, 12]);
  assert.equal(w.s.all("joined").length, 1);
  other.leave();
  await w.wait(10);
  assert.equal(w.stream.url.search, `?room=lobby!e1-12-${ms}`);
  assert.equal(w.stream.headers["Roomcast-Resume"], "r2");
});

test("rooms that begin in different places come with one stream after the other", async () => {
  const w = await blocked({ room: null });
  assert.equal(w.streams.length, 0, "there is no room yet");
  w.s.enter("a", { last: 2 });
  w.s.enter("b", { last: 9 });
  w.s.enter("c", { last: 2 });
  await w.wait(100);
  w.stream.open();
  assert.equal(w.stream.url.search, "?last=2&room=a&room=c");
  await w.hello();
  for (const room of ["a", "c"]) await w.ok(10, { room });
  await w.wait(10);
  assert.equal(w.stream.url.search, "?last=9&room=a!e1-8&room=b&room=c!e1-8");
  w.stream.open();
  await w.hello();
  for (const room of ["a", "b", "c"]) await w.ok(10, { room });
  await w.wait(1_000);
  assert.deepEqual([w.streams.length, w.s.c.rooms.map((r) => r.state)], [2, ["joined", "joined", "joined"]]);
});

test("a refused room is refused; the others stay", async () => {
  const w = await inside();
  const other = w.s.enter("ops");
  await w.wait(10);
  w.stream.open();
  await w.hello();
  await w.stream.event("ended", { room: "ops", ended: { code: 4106, reason: "no right" } });
  await w.ok(10);
  assert.deepEqual([other.state, other.error.code, other.error.message, w.s.room.state], ["refused", "forbidden", "no right", "joined"]);
  await w.stream.event("ended", { room: "lobby", ended: { code: 4102, reason: "spam" } });
  await w.stream.event("close", { code: 4102, reason: "spam" });
  assert.deepEqual([w.s.room.state, w.s.room.error.code, w.s.c.state], ["refused", "banned", "open"]);
});

test("if the first room is refused, the connection stays open, and another room opens a stream", async () => {
  for (const [code, name] of [[4100, "room_closed"], [4102, "banned"], [4106, "forbidden"]]) {
    const w = await blocked({ name: "Ann", refusal: { code, reason: "the reason" } });
    assert.deepEqual([w.s.c.state, w.s.room.state, w.s.room.error.code, w.s.room.error.message, w.s.all("fatal")], ["open", "refused", name, "the reason", []]);
    await w.wait(25_000);
    w.asked.pop().answer({ error: { code: "unauthorized", message: "guests may read nothing" } }, 401);
    for (const pause of [2_000, 4_000]) await w.wait(pause);
    assert.deepEqual([w.s.c.state, w.streams.length], ["open", 1], "any answer is a sign of life");
    w.s.room.join();
    await w.wait(10);
    w.stream.refuse(403, JSON.stringify({ code, reason: "still" }));
    await w.wait(0);
    assert.deepEqual([w.s.room.state, w.s.room.error.message], ["refused", "still"]);
    const other = w.s.enter("ops");
    await w.wait(10);
    assert.equal(w.stream.url.search, "?name=Ann&room=ops");
    w.stream.open();
    await w.hello();
    await w.ok(5, { room: "ops" });
    assert.deepEqual([other.state, w.s.c.you.id, w.s.all("identity")], ["joined", "anon-a", []]);
    other.send("x");
    assert.deepEqual(w.asked.map((r) => [r.url.pathname, r.headers["Roomcast-Resume"]]), [["/api/rooms/ops/messages", "r1"]]);
    await w.wait(20_000);
    assert.equal(w.s.c.state, "waiting", "the message has no answer");
    w.s.c.close();
  }
});

test("if the first rooms are refused, those that begin elsewhere are still joined", async () => {
  const w = await blocked({ room: null });
  w.s.enter("a", { last: 2 });
  w.s.enter("b", { last: 9 });
  await w.wait(100);
  assert.equal(w.stream.url.search, "?last=2&room=a");
  w.stream.refuse(403, '{"code":4106,"reason":"no right"}');
  for (const pause of [0, 10]) await w.wait(pause);
  assert.equal(w.stream.url.search, "?last=9&room=b");
  w.stream.open();
  await w.hello();
  await w.ok(10, { room: "b" });
  assert.deepEqual(w.s.c.rooms.map((r) => r.state), ["refused", "joined"]);
  w.s.c.close();
  await w.wait(1_000);
  assert.equal(w.streams.length, 2);
});

test("a close ends the membership, and joining again continues at the last event", async () => {
  const w = await inside();
  await w.stream.event("closed", { room: "lobby", seq: 11, at, kind: "closed", from: { id: "api" }, why: "done" }, `e1-11-${ms}`);
  assert.deepEqual([w.s.room.state, w.s.room.error.code], ["refused", "room_closed"]);
  w.s.room.join();
  await w.wait(10);
  assert.equal(w.stream.url.search, `?room=lobby!e1-11-${ms}`);
});

test("a token is sent in a header, and a fresh one with another stream", async () => {
  let n = 0;
  const w = await blocked({ token: async () => `t${++n}` });
  assert.equal(w.stream.headers.Authorization, `Bearer t${n}`);
  await w.hello({ you: { id: "ann" }, expires: new Date(ms + 300_000).toISOString() });
  await w.ok(10);
  const before = n, old = w.stream;
  w.s.c.ask("auth", { token: "fresh" }).catch(() => {});
  await w.wait(10);
  assert.equal(w.stream.headers.Authorization, "Bearer fresh");
  w.stream.refuse(401, '{"code":4103,"reason":"not accepted"}');
  await w.wait(0);
  assert.deepEqual([n, w.s.c.state, old.signal.aborted], [before, "open", false]);
  const auth = w.s.c.ask("auth", { token: "better" });
  await w.wait(10);
  w.stream.open();
  await w.hello({ you: { id: "ann" }, expires: at });
  assert.deepEqual([(await auth).expires, old.signal.aborted], [at, true]);
});

test("a fresh ticket is in the query of another stream, once", async () => {
  const w = await blocked({ ticket: "t1" });
  assert.equal(w.stream.url.search, "?ticket=t1&room=lobby");
  await w.hello({ you: { id: "ann" } });
  await w.ok(10);
  const auth = w.s.c.ask("auth", { ticket: "t2" });
  await w.wait(10);
  assert.equal(w.stream.url.search, "?ticket=t2&room=lobby");
  assert.deepEqual([w.stream.headers.Authorization, w.stream.headers["Roomcast-Resume"]], [undefined, "r1"]);
  w.stream.open();
  await w.hello({ you: { id: "ann" }, expires: at });
  await w.ok(10);
  assert.equal((await auth).expires, at);
  w.s.enter("ops");
  await w.wait(10);
  assert.equal(w.stream.url.search, "?room=lobby&room=ops");
});

test("refusals of the stream and of requests end or repeat the connection as close codes do", async () => {
  for (const [status, text, state, code] of [
    [401, '{"code":4103,"reason":"no"}', "closed", 4103], [401, '{"code":4003,"reason":"expired"}', "waiting", 4003],
    [403, "this page may not connect", "waiting", 1006], [503, "starting", "waiting", 1006],
  ]) {
    const w = await blocked({ token: async () => "t" });
    const again = w.s.c.reconnect(); // a stream that is not answered yet
    await again;
    await w.refuse();
    w.stream.refuse(status, text);
    await w.wait(0);
    assert.deepEqual([w.s.c.state, w.s.all("state").at(-1).code], [state, code], text);
  }
  const w = await inside();
  w.s.room.send("x");
  w.asked.pop().answer({ error: { code: "closed_by_word", message: "bye" } }, 409);
  await w.wait(0);
  assert.deepEqual([w.s.c.state, w.s.all("fatal")[0].code], ["closed", "normal"]);
});

test("a cookie opens the stream; commands with only a cookie are refused, and the stream goes on", async () => {
  const w = await blocked();
  await w.hello({ you: { id: "ann" } });
  await w.ok(10);
  const m = w.s.room.send("a");
  w.asked.pop().answer({ error: { code: "unauthorized", message: "this resume string needs its token" } }, 401);
  await w.wait(0);
  assert.equal(m.state, "pending", "the session may have ended");
  await w.wait(2_000);
  assert.deepEqual([m.state, m.error.code, w.s.c.state, w.stream.signal.aborted], ["failed", "unauthorized", "open", false]);
  const ended = w.s.room.send("b");
  w.asked.pop().answer({ error: { code: "unauthorized", message: "the session has ended" } }, 401);
  await w.stream.event("close", { code: 4003, reason: "the session has ended" });
  await w.wait(2_000);
  assert.deepEqual([ended.state, w.s.all("state").findLast((d) => d.state === "waiting").code], ["pending", 4003]);
});

test("a guest whose resume string is refused comes back as another one", async () => {
  const w = await inside();
  const m = w.s.room.send("a");
  w.asked.pop().answer({ error: { code: "unauthorized", message: "the resume string is too old" } }, 401);
  await w.wait(0);
  assert.deepEqual([m.state, w.s.c.state, w.s.all("state").at(-1).code, w.s.c.resume], ["pending", "waiting", 4003, ""]);
});

test("a silent stream is replaced, and without an answer the connection is lost", async () => {
  const w = await inside();
  for (let i = 0; i < 3; i++) {
    await w.wait(24_900);
    await w.stream.push(":\n\n");
  }
  assert.equal(w.streams.length, 1, "comments are signs of life");
  for (const pause of [25_000, 2_000, 10]) await w.wait(pause);
  assert.equal(w.streams.length, 2);
  w.stream.open();
  await w.hello();
  await w.ok(10);
  assert.equal(w.s.c.state, "open");
  for (const pause of [25_000, 2_000, 10, 3_000]) await w.wait(pause);
  assert.equal(w.s.c.state, "waiting");
});

test("the client returns to a WebSocket that works, between two requests", async () => {
  const w = await inside();
  await w.message(11);
  await w.wait(12_000);
  await w.refuse(); // not yet
  await w.wait(24_000);
  const page = w.s.room.history();
  w.s.push({ hello: { session: "x", you: { id: "anon-a" }, resume: "r", time: at } });
  await w.wait(50);
  assert.equal(w.stream.signal.aborted, false, "the history is on its way");
  const before = w.s.sockets.length;
  assert.equal(w.s.ws.closed, undefined);
  w.asked.pop().answer({ room: "lobby", events: [], more: false, seq: 11, epoch: "e1" });
  await page;
  await w.wait(50);
  assert.deepEqual([w.s.sockets.length, w.stream.signal.aborted, w.s.c.state], [before, true, "open"]);
  assert.deepEqual(w.s.take("join").join, { room: "lobby", since: 11, epoch: "e1", at });
});

test("a server that was away is reached by WebSocket again", async () => {
  const s = server({ room: "lobby" });
  await soon();
  for (let i = 0; i < 2; i++) { s.end(1006); tick(20_000); for (let j = 0; j < 10; j++) await soon(); }
  for (let i = 0; i < 50 && s.sockets.length < 3; i++) await soon();
  s.hello(); // the attempt before the first stream
  assert.equal(s.sockets.length, 3);
  assert.equal(s.c.state, "open");
  s.take("join");
});
