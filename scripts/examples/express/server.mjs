// An Express application whose users exchange messages in rooms. Roomcast asks the application who
// the user of a browser is, and the application answers by its own session cookie. The README of
// the examples shows how to start both.
import { readFileSync } from "node:fs";
import express from "express";
import session from "express-session";
import { Webhook } from "standardwebhooks";

const { PORT = "3000", GATEWAY = "http://localhost:8000", SECRET_FILE = "secret", API_TOKEN } = process.env;
const users = { ann: "ann's password", ben: "ben's password" }; // a real application has its users in a database
const secret = readFileSync(SECRET_FILE, "utf8").trim();
const sessions = session({ secret, resave: false, saveUninitialized: false, cookie: { sameSite: "lax" } });
const app = express();

// roomcast begins
app.post("/roomcast", express.text({ type: "*/*" }), (request, response) => {
  const question = new Webhook(secret).verify(request.body, request.headers); // throws unless Roomcast signed it
  request.headers.cookie = question.headers?.Cookie ?? ""; // the cookie of the browser that connects to Roomcast
  sessions(request, response, () => {
    const { user } = request.session;
    if (!user) return response.json({ allow: false, why: "log in first" });
    const rooms = { lobby: "read say", "user:{id}": "read say" };
    response.json({ allow: true, id: user, name: user, rooms, until: new Date(Date.now() + 3_600_000) });
  });
});

// forget makes Roomcast end the user's sessions. Browsers in which the user is still logged in
// reconnect at once.
const forget = (user) => fetch(`${GATEWAY}/api/revoke`, {
  method: "POST",
  headers: { Authorization: `Bearer ${API_TOKEN}` },
  body: JSON.stringify({ id: user, reconnect: true }),
});

const chat = `<ul id=log></ul><form id=say><input name=text autofocus> <button>Say</button></form><script type=module>
  import { connect } from "${GATEWAY}/room.js";
  const room = connect().room("lobby", { last: 20 });
  room.on("event", ({ from, text }) => text && log.append(Object.assign(document.createElement("li"), { textContent: (from.name ?? from.id) + ": " + text })));
  say.onsubmit = (e) => { e.preventDefault(); room.say(say.text.value); say.reset(); };
</script>`;
// roomcast ends

app.use(sessions, express.urlencoded());
app.get("/", ({ session: { user } }, response) => {
  response.send(`<!doctype html><title>Chat</title>` + (user
    ? `<form method=post action=/logout>${user} <button>Log out</button></form>${chat}`
    : "<form method=post action=/login><input name=user> <input name=password type=password> <button>Log in</button></form>"));
});
app.post("/login", (request, response, next) => {
  const { user, password } = request.body;
  if (!Object.hasOwn(users, user) || users[user] !== password) return response.redirect("/");
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.user = user;
    response.redirect("/");
  });
});
app.post("/logout", (request, response, next) => {
  const { user } = request.session;
  request.session.destroy((error) => (error ? Promise.reject(error) : forget(user)).then(() => response.redirect("/"), next));
});

app.listen(PORT, "127.0.0.1", () => console.log(`open http://localhost:${PORT}/`));
