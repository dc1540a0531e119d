// The login of this application: a signed cookie.
import { SignJWT, jwtVerify } from "jose";
import { cookies } from "next/headers";

const users = { ann: "ann's password", ben: "ben's password" }; // a real application has its users in a database
const key = new TextEncoder().encode(process.env.SESSION_SECRET);

/** The user whose browser sends this request, or null. */
export async function currentUser() {
  const token = (await cookies()).get("session")?.value;
  if (!token) return null;
  return jwtVerify(token, key, { algorithms: ["HS256"] }).then(({ payload }) => payload.sub, () => null);
}

/** A server action. */
export async function login(form) {
  "use server";
  const user = form.get("user");
  if (!Object.hasOwn(users, user) || users[user] !== form.get("password")) return;
  const token = await new SignJWT().setProtectedHeader({ alg: "HS256" }).setSubject(user).setExpirationTime("8h").sign(key);
  (await cookies()).set("session", token, { httpOnly: true, sameSite: "lax" });
}

/** A server action. */
export async function logout() {
  "use server";
  (await cookies()).delete("session");
}
