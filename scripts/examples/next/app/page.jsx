import Chat from "./chat.jsx";
import { currentUser, login, logout } from "../session.js";

export default async function Page() {
  const user = await currentUser();
  if (!user) return <form action={login}><input name="user" /> <input name="password" type="password" /> <button>Log in</button></form>;
  return <><form action={logout}>{user} <button>Log out</button></form><Chat gateway={process.env.GATEWAY} /></>;
}
