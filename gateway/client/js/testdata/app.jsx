// An app for a test in a browser: it shows what the hooks return.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useConnection, useMembers, useRoom } from "@roomcast/client/react";

window.opened = 0;
const WebSocket = class extends window.WebSocket {
  constructor(...args) { super(...args); window.opened++; }
};
const options = { url: `http://${location.search.slice(1)}/`, name: "Ann", WebSocket };

function App() {
  const { connection, state } = useConnection(options);
  const [shown, show] = useState("one");
  window.connection ??= connection;
  return (
    <>
      {shown !== "none" && <Seen connection={connection} state={state} />}
      {shown === "two" && <Again connection={connection} />}
      <button id="more" onClick={() => show("two")}>more</button>
      <button id="less" onClick={() => show("one")}>less</button>
      <button id="away" onClick={() => show("none")}>away</button>
      <button id="end" onClick={() => root.unmount()}>end</button>
    </>
  );
}

function Seen({ connection, state }) {
  const { room, state: joined, events } = useRoom(connection, "react");
  const members = useMembers(room);
  const [said, tell] = useState("");
  const say = async () => { tell("pending"); tell(`stored as ${await room.say("hello")}`); };
  return (
    <>
      <p id="seen">{[state, joined, members.count, "people:", ...events.map((e) => e.text)].join(" ")}</p>
      <p id="said">{said}</p>
      <button id="say" onClick={say}>say</button>
    </>
  );
}

function Again({ connection }) {
  const { state, events } = useRoom(connection, "react");
  return <p id="again">{[state, ...events.map((e) => e.text)].join(" ")}</p>;
}

const root = createRoot(document.getElementById("root"));
root.render(<StrictMode><App /></StrictMode>);
