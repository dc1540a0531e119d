// The driver of the JavaScript client. proto/docs/conformance.md explains its lines. Usage: node
// js.mjs ROOM_JS WS. ROOM_JS is the module of the client, and WS a module with a WebSocket.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [client, socket] = await Promise.all(process.argv.slice(2).map((path) => import(pathToFileURL(path))));
const show = (kind, fields) => console.log(JSON.stringify({ [kind]: fields }));
let connection;
const rooms = new Map();
let closing = false; // true when this driver has closed the client

const commands = {
  connect({ url, tokens, tickets, patience_ms }) {
    const next = (all) => (all?.length > 1 ? () => (all.length > 1 ? all.shift() : all[0]) : all?.[0]);
    connection = client.connect({ url: `${url}/`, token: next(tokens), ticket: next(tickets), timeout: patience_ms, WebSocket: socket.WebSocket });
    connection.on("state", (s) => { if (s.state === "closed" && !closing) show("closed", { code: s.code, reason: s.reason }); });
  },
  join({ room: name, ...from }) {
    const known = rooms.get(name);
    if (known) {
      known.joined = false;
      connection.room(name).join();
      return;
    }
    const room = connection.room(name, from), we = { joined: false };
    rooms.set(name, we);
    room.on("state", (s) => {
      if (s.state === "joined" && !we.joined) show("joined", { room: name, seq: s.seq });
      we.joined ||= s.state === "joined";
    });
    room.on("event", (e) => show("event", { kind: "", ...e }));
    room.on("gap", (gap) => show("gap", { room: name, ...gap }));
    room.on("signal", (s) => show("signal", { room: name, type: s.type }));
    room.on("refused", (error) => {
      if (error.code === "disconnected") show("lost", {}); // an error about a signal
      else show(we.joined ? "ended" : "refused", { room: name, code: error.code });
    });
  },
  say({ room, text, key }) {
    connection.room(room).say(text).then(
      (seq) => show("ack", { key, seq }),
      (error) => show(["closed", "disconnected", "uncertain"].includes(error.code) ? "lost" : "refused", { key, code: error.code }),
    );
  },
  can({ capability }) {
    if (capability === "status") show("can", { capability, ok: false, reason: "the WebSocket of a browser does not show the status of a refused handshake" });
    else show("can", { capability, ok: true });
  },
  signal({ room, type }) { connection.room(room).signal(type); },
};

for await (const line of createInterface({ input: process.stdin })) {
  for (const [verb, fields] of Object.entries(JSON.parse(line))) commands[verb](fields);
}
closing = true;
connection.close({ discard: true });
process.exit(0);
