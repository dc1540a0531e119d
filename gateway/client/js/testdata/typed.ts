// What the types promise: check.mjs compiles this with tsc --strict.
import { connect, indexedDBStore, RoomcastError, type Event, type Members, type Message, type Store } from "@roomcast/client";
import { useConnection, useMembers, useRoom } from "@roomcast/client/react";
import WebSocket from "ws";

const c = connect({ url: new URL("https://chat.example.org/"), token: async () => "t", storage: sessionStorage });
connect({ storage: indexedDBStore("mine"), ticket: "once" });
connect({ ticket: () => fetch("/ticket", { method: "POST" }).then((response) => response.text()) });
connect("wss://chat.example.org/room/lobby/");
const slow: Store = { load: async () => new Map<string, string>(), put: async () => {}, delete: () => {} };
connect({ storage: slow, url: "ws://h", WebSocket });

const room = c.room<{ x: number }>("lobby", { last: 50 });
const off: () => void = room.on("event", (event) => {
  const seq: number = event.seq, x: number | undefined = event.data?.x, event2: Event<{ x: number }> = event;
  // @ts-expect-error data is not a string
  const wrong: string = event.data;
  return [seq, x, event2, wrong];
});
off();
room.on("members", (members: Members) => members.list.map((m) => m.name?.trim()));
room.on("gap", ({ reason }) => reason === "reset");
c.on("fatal", (error) => error.code.length + (error.close ?? 0));
c.on("state", ({ state, ms }) => state === "waiting" && ms);
// @ts-expect-error there is no such event
c.on("opened", () => {});
// @ts-expect-error the room's data has another type
room.say({ data: { y: 1 } });
// @ts-expect-error a message has one kind of content
room.say({});

const seq: number = await room.say({ data: { x: 1 }, type: "move" });
const message: Message = room.send({ bin: new Uint8Array(3) });
// @ts-expect-error the client sets it
message.state = "sent";
for await (const event of room) console.log(event.seq + seq, event.data?.x);
try { await message.done; } catch (error) {
  if (error instanceof RoomcastError && error.code === "uncertain") room.retry(message);
}
const { events, more } = await room.history({ before: 5 });
console.log(events[0]?.text, more, (await c.ask<{ count: number }>("members", { room: "x" })).count);

export function Chat() {
  const { connection, state } = useConnection({ url: "ws://h" });
  const { room, events, pending, error } = useRoom<{ x: number }>(connection, "lobby", { last: 10, limit: 100 });
  const x: number | undefined = events[0]?.data?.x;
  return [state, x, pending.length, error?.code, useMembers(room).count];
}
