"use client";

// roomcast begins
import { useConnection, useRoom } from "@roomcast/client/react";

async function ticket() {
  const response = await fetch("/api/ticket", { method: "POST" });
  if (!response.ok) throw Object.assign(new Error(await response.text()), { final: response.status === 401 });
  return response.text();
}

export default function Chat({ gateway }) {
  const { connection } = useConnection({ url: gateway, ticket });
  const { room, events } = useRoom(connection, "lobby", { last: 20 });
  return (
    <form action={(form) => room.say(form.get("text"))}>
      <ul>{events.map(({ seq, from, text }) => text && <li key={seq}>{from.name ?? from.id}: {text}</li>)}</ul>
      <input name="text" autoFocus /> <button>Say</button>
    </form>
  );
}
// roomcast ends
