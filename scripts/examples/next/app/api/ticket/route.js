import { currentUser } from "../../../session.js";

// roomcast begins
export async function POST() {
  const id = await currentUser();
  if (!id) return new Response("log in first", { status: 401 });
  const body = JSON.stringify({ id, name: id, rooms: { lobby: "read say" } });
  const headers = { Authorization: `Bearer ${process.env.API_TOKEN}` };
  const response = await fetch(`${process.env.GATEWAY}/api/tickets`, { method: "POST", headers, body });
  return new Response(response.ok ? (await response.json()).ok.ticket : "no ticket now", { status: response.status });
}
// roomcast ends
