// Sends ten messages as text and ten as JSON with a WebSocket library of Node, and checks what it
// receives. Usage: node websocket.mjs LIBRARY URL
import assert from "node:assert/strict";

const [library, base] = process.argv.slice(2);
const { WebSocket } = await import(library);

// session opens a WebSocket and calls heard with each frame. It closes the WebSocket when heard
// returns true.
function session(protocols, begin, heard) {
  return new Promise((done, fail) => {
    const ws = new WebSocket(`${base}/room/${library}/`, protocols);
    ws.addEventListener("open", () => begin(ws));
    ws.addEventListener("error", () => fail(new Error("the connection failed")));
    ws.addEventListener("close", (e) => fail(new Error(`closed with ${e.code} ${e.reason}`)));
    ws.addEventListener("message", (e) => {
      try {
        if (!heard(ws, String(e.data))) return;
        done();
        ws.close();
      } catch (err) {
        fail(err);
      }
    });
  });
}

const numbers = [...Array(10).keys()];
const lines = [];
await session([], (ws) => numbers.forEach((i) => ws.send(`m${i}`)), (_, line) => lines.push(line) === 10);
lines.forEach((line, i) => assert(line.endsWith(` m${i}`), line));

const acks = [];
const events = [];
await session(["roomcast.v1"], () => {}, (ws, text) => {
  const frame = JSON.parse(text);
  assert(!frame.error, text);
  if (frame.hello) numbers.forEach((i) => ws.send(JSON.stringify({ id: i, say: { data: i } })));
  if (frame.ok) acks.push(frame.ok.seq);
  if (frame.seq) events.push(frame.data);
  return acks.length === 10 && events.length === 10;
});
assert.deepEqual(acks, numbers.map((i) => i + 11));
assert.deepEqual(events, numbers);
