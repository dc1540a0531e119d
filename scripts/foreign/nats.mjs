// Sends ten messages as text and ten as JSON with nats.js, and checks what it receives. Usage: node
// nats.mjs URL
import assert from "node:assert/strict";
import { connect, headers } from "@nats-io/transport-node";

const nc = await connect({ servers: process.argv[2] });
for (let i = 0; i < 20; i++) {
  const h = headers();
  h.set("Rc-Kind", i < 10 ? "text" : "data");
  const answer = await nc.request("room.nats", i < 10 ? `m${i}` : String(i), { headers: h, timeout: 20_000 });
  assert.equal(answer.json().ok?.seq, i + 1, answer.string());
}
await nc.close();
