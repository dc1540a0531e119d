// A chat in the terminal: each line that you type is a message.
//
//   node scripts/examples/chat/chat.mjs [URL [NAME]]
//   node scripts/examples/chat/chat.mjs http://localhost:8000/room/lobby/ Ann
//
// It needs Node 22, or Node 20 with --experimental-websocket. In a browser the same code works
// with `import { connect } from "http://localhost:8000/room.js"`.
import { createInterface } from "node:readline";
import { connect } from "../../../gateway/client/js/room.js";

if (!globalThis.WebSocket) {
  console.error("chat.mjs needs Node 22, or Node 20 with --experimental-websocket");
  process.exit(1);
}
const [url = "http://localhost:8000/room/lobby/", name = "somebody"] = process.argv.slice(2);
const chat = connect({ url, name });
const room = chat.room(undefined, { last: 20 }); // without a name: the room in the URL

room.on("event", (e) => {
  const who = e.from.name || e.from.id;
  console.log(`${e.at.slice(11, 19)} ${who}: ${e.text ?? `[${e.kind ?? "data"}]`}`);
});
room.on("gap", (gap) => console.log(`[messages ${gap.from} to ${gap.to} are not available: ${gap.reason}]`));
room.on("refused", (error) => { console.error(error.message); chat.close(); });
chat.on("state", ({ state, ms }) => {
  if (state === "waiting") console.error(`connection lost; next attempt in ${Math.round(ms / 1000)} s`);
  if (state === "closed") process.exit();
});
chat.on("fatal", (error) => console.error(error.message));

// At the end of the input, wait until all messages are stored, even if the client must reconnect
// for that.
const unanswered = new Set();
const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  if (!line) return;
  const said = room.say(line).catch((error) => console.error(`not sent: ${error.message}`));
  unanswered.add(said);
  said.then(() => unanswered.delete(said));
});
input.on("close", async () => {
  await Promise.all(unanswered);
  chat.close();
});
