// A chat in the terminal: each line that you type is a message.
//
//   node scripts/examples/chat/chat.mjs [URL [NAME]]
//   node scripts/examples/chat/chat.mjs http://localhost:8000/room/lobby/ Ann
//
// It needs Node 22, or Node 20 with --experimental-websocket. In a browser the same code works
// with `import { connect } from "http://localhost:8000/room.js"`.
import { createInterface } from "node:readline";
import { connect } from "../../../gateway/web/room.js";

const [url = "http://localhost:8000/room/lobby/", name = "somebody"] = process.argv.slice(2);
const chat = connect({ url, name, last: 20 });

chat.addEventListener("event", ({ detail: e }) => {
  const who = e.from.name || e.from.id;
  console.log(`${e.at.slice(11, 19)} ${who}: ${e.text ?? `[${e.kind ?? "data"}]`}`);
});
chat.addEventListener("saying", ({ detail: message }) => {
  // "pending": on its way, also over reconnects. "sent": stored. "failed": refused.
  if (message.state === "failed") console.error(`not sent: ${message.error.message}`);
  quit();
});
chat.addEventListener("gap", ({ detail: gap }) => console.log(`[messages ${gap.from} to ${gap.to} are not available: ${gap.reason}]`));
chat.addEventListener("state", ({ detail: { state, reason, ms } }) => {
  if (state === "waiting") console.error(`connection lost; next attempt in ${Math.round(ms / 1000)} s`);
  if (state === "closed") {
    if (reason) console.error(reason);
    process.exit();
  }
});

// After the end of the input, wait until all messages are stored.
const unanswered = new Set();
let ended = false;
const input = createInterface({ input: process.stdin });
input.on("line", (line) => line && unanswered.add(chat.say(line)));
input.on("close", () => {
  ended = true;
  quit();
});

function quit() {
  for (const message of unanswered) if (message.state !== "pending") unanswered.delete(message);
  if (ended && unanswered.size === 0) chat.close();
}
