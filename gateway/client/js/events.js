// events.js: a connection over plain HTTP, for networks in which no WebSocket opens. room.js loads
// this file when it needs it, and uses the class like a WebSocket. The events of all rooms come as
// one stream of Server-Sent Events, and each command is an HTTP request.

const QUIET = 2_000; // ms without a byte, after which a ping opens the stream again
const FIRST = 10_000; // ms until the next attempt to open a WebSocket; doubles each time
const MOST = 300_000; // ms between two attempts
const PATIENCE = 5_000; // ms in which a new WebSocket must send a frame
const SOON = 10; // ms in which the client gathers commands that change the stream
const LAST = 2_000; // ms in which the stream of a session that has ended is closed
const REFUSALS = { 4100: "room_closed", 4101: "kicked", 4102: "banned", 4106: "forbidden" };

/** The method and the path of a command, below its room. Other commands are posted to their name. */
const REQUESTS = {
  say: () => ["POST", "messages"],
  moderate: (_, act) => ["POST", encodeURIComponent(act)],
  history: (page) => ["GET", `messages?${new URLSearchParams("before" in page || "since" in page ? page : { limit: 50, ...page })}`],
  members: () => ["GET", "members"],
};

export class EventsSocket {
  onopen = null; onmessage = null; onclose = null;
  onbetter = null; // called with a WebSocket that works, and the frames received on it

  #url; #protocols; #WebSocket; #base; #joins; #token; #ticket; #resume;
  #you; // our id, after the first hello; "" = the server has refused the rooms so far, and told us no id
  #life = new AbortController(); // of all requests
  #stream; // the stream whose events are used
  #next; // a newer stream; its hello replaces the stream above
  #rooms = new Map(); // name -> {id: where the stream continues, from: query of the first join, in: the newest stream with the room, head: seq at the join}
  #waiting = new Map(); // name -> ids of joins without an answer
  #pings = []; // ids
  #renewal; // an auth without an answer: {id, token: the previous one}
  #requests = 0; #heard = 0; #changing; #retry;

  /** The first arguments are those of a WebSocket. joins() returns the joins that will follow the hello. */
  constructor(url, protocols, WebSocket, joins) {
    [this.#url, this.#protocols, this.#WebSocket, this.#joins] = [new URL(url), protocols, WebSocket, joins];
    this.#base = url.replace(/^ws/, "http").replace(/ws(\?.*)?$/, "");
    this.#resume = protocols.find((p) => p.startsWith("resume."))?.slice(7);
    queueMicrotask(async () => {
      this.onopen?.(); // may send a token
      if (await this.#better()) return; // the network accepts WebSockets; the server was away
      this.#try(FIRST);
      this.#begin();
    });
  }

  get readyState() { return this.#life.signal.aborted ? 3 : 1; }

  close() {
    this.#life.abort();
    clearTimeout(this.#changing);
    clearTimeout(this.#retry);
  }

  #end(code, reason) {
    if (this.readyState > 1) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  #tell(frame) { if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(frame) }); }

  // Commands

  send(text) {
    const { id, ...command } = JSON.parse(text), [[verb, body]] = Object.entries(command);
    if (verb === "auth") this.#auth(body, id);
    else if (verb === "join") this.#join(body, id);
    else if (verb === "leave") this.#leave(body, id);
    else if (verb === "ping") this.#ping(id);
    else this.#request(verb, body, id);
  }

  #auth({ token = this.#token, ticket }, id) {
    if (id !== undefined) {
      this.#renewal = { id, token: this.#token };
      this.#change(); // a stream ends with its token
    }
    [this.#token, this.#ticket] = [token, ticket];
  }

  #join({ room, ...from }, id) {
    this.#waiting.set(room, [...(this.#waiting.get(room) ?? []), id]);
    if (this.#rooms.has(room)) return; // a stream will answer
    this.#rooms.set(room, placeOf(from));
    this.#change();
  }

  #leave({ room }, id) {
    this.#rooms.delete(room);
    this.#change();
    this.#tell({ id, ok: { room } });
  }

  /** The next byte of the stream is the answer. If none comes, the client opens another stream. */
  #ping(id) {
    if (!this.#rooms.size) return this.#request("members", { room: "_" }, id); // any answer shows that the server is there
    const before = this.#heard;
    this.#pings.push(id);
    setTimeout(() => { if (this.#heard === before && this.readyState === 1) this.#change(); }, QUIET);
  }

  async #request(verb, { room, act, ...fields }, id) {
    const [method, path] = REQUESTS[verb]?.(fields, act) ?? ["POST", verb], post = method === "POST";
    this.#requests++;
    try {
      const response = await fetch(`${this.#base}api/rooms/${encodeURIComponent(room)}/${path}`, {
        method, headers: { ...this.#headers, ...(post && { "Content-Type": "application/json" }) },
        body: post ? JSON.stringify(fields) : undefined, cache: "no-store", signal: this.#life.signal,
      });
      const answer = await response.json(), { error, ok = answer } = answer;
      if (error?.code === "closed_by_word") this.#end(1000, error.message);
      else if (response.status !== 401) this.#tell(error ? { id, error } : { id, ok });
      else if (this.#token || this.#you?.startsWith("anon-")) this.#end(4003, error?.message);
      else setTimeout(() => this.#tell({ id, error }), LAST); // our session has ended, or it has only a cookie, which is not enough for a command
    } catch (err) { this.#end(1006, `a request failed: ${err.message}`); }
    this.#requests--;
  }

  get #headers() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : this.#resume ? { "Roomcast-Resume": this.#resume } : {};
  }

  // The stream

  /** Opens the first stream as soon as there is a room. */
  #begin() {
    if (this.readyState > 1) return;
    for (const { room, ...from } of this.#joins()) this.#rooms.set(room, placeOf(from));
    if (this.#rooms.size) this.#open();
    else this.#changing = setTimeout(() => this.#begin(), 100);
  }

  /** Opens another stream soon, with the rooms and the token that we have then. */
  #change() {
    if (this.readyState > 1) return;
    clearTimeout(this.#changing);
    this.#changing = setTimeout(() => (this.#rooms.size ? this.#open() : this.#idle()), SOON);
  }

  /** Ends the streams while we are in no room. */
  #idle() {
    for (const stream of [this.#stream, this.#next]) stream?.abort();
    this.#stream = this.#next = undefined;
  }

  async #open() {
    this.#next?.abort();
    const stream = this.#next = new AbortController(), places = [...this.#rooms.values()];
    this.#life.signal.addEventListener("abort", () => stream.abort(), { signal: stream.signal });
    // The query has one position for all rooms without an id. Rooms with another position wait for the next stream.
    const { from } = places.find(({ id, head }) => !id && head === undefined) ?? places.find(({ id }) => !id) ?? {};
    const query = this.#you ? [] : [this.#url.search.slice(1)];
    if (this.#ticket) query.push(`ticket=${encodeURIComponent(this.#ticket)}`);
    this.#ticket = undefined; // a ticket is good only once
    query.push(from);
    for (const [name, place] of this.#rooms) {
      if (!place.id && place.from !== from) continue;
      place.in = stream;
      query.push(`room=${encodeURIComponent(name)}${place.id ? `!${encodeURIComponent(place.id)}` : ""}`);
    }
    try {
      const response = await fetch(`${this.#base}events?${query.filter(Boolean).join("&")}`, { headers: this.#headers, cache: "no-store", signal: stream.signal });
      if (response.status !== 200) return this.#refused(stream, await response.text());
      for await (const event of eventsOf(response.body, () => this.#hear(stream))) this.#take(stream, event);
      throw new Error("the stream ended");
    } catch (err) {
      if (stream === (this.#next ?? this.#stream)) this.#end(1006, this.#you ? err.message : "");
    }
  }

  #refused(stream, text) {
    if (stream !== this.#next) return;
    let refusal = { code: 1006, reason: text.trim() };
    try { refusal = JSON.parse(text); } catch {} // the text is from a proxy, or names a limit
    const { code, reason } = refusal;
    if (this.#renewal && this.#stream && code > 4000 && !(code in REFUSALS)) return this.#unrenewed(reason);
    if (!(code in REFUSALS)) return this.#end(code ?? 1006, reason);
    this.#next = undefined;
    if (this.#you === undefined) { // the connection works, but no stream has begun: after this hello, room.js joins the rooms and gets the refusals
      this.#you = "";
      this.#tell({ hello: { you: { id: "" }, resume: this.#resume, time: new Date().toISOString() } });
    }
    for (const [room, place] of this.#rooms) if (place.in === stream) this.#lose(room, { room, ended: { code, reason } });
    if (this.#rooms.size) this.#change(); // other rooms, which begin at another position
    else this.#idle();
  }

  /** Handles a new token that the server refuses. The previous one is good for a while. */
  #unrenewed(message) {
    const { id, token } = this.#renewal;
    this.#next = this.#renewal = undefined;
    for (const place of this.#rooms.values()) place.in = this.#stream;
    this.#token = token;
    this.#tell({ id, error: { code: "unauthorized", message } });
  }

  #hear(stream) {
    this.#heard = performance.now();
    if (stream === this.#stream) for (const id of this.#pings.splice(0)) this.#tell({ id, ok: {} });
  }

  #take(stream, { id, event, data }) {
    if (stream !== this.#stream && stream !== this.#next) return;
    if (!data) return this.#tell({}); // a comment shows that the server is there
    const frame = JSON.parse(data);
    if (event === "hello") return this.#hello(stream, frame);
    if (event === "close") return this.#closed(stream, frame);
    const { room } = frame.ok ?? frame, place = this.#rooms.get(room);
    const passing = frame.signal ?? frame.joined ?? frame.left;
    if (!place || (place.in !== stream && !passing)) return; // another stream has the room
    if (frame.signal?.from.id === this.#you) return; // do not show our own signals
    if (id) place.id = id;
    if (event === "ended") return this.#lose(room, frame);
    if (event === "ok") return this.#joined(room, place, frame);
    if (frame.gap?.reason === "reset") place.head = frame.gap.seq ?? 0;
    if (frame.kind === "closed" && frame.seq > place.head) this.#rooms.delete(room); // we have left it
    this.#tell(frame);
  }

  /** Handles the hello of a stream, which replaces the previous stream. */
  #hello(stream, frame) {
    const { you, resume, expires } = frame.hello, first = !this.#you;
    if (!first && this.#you !== you.id) return this.#end(1006, "the server gave us another identity");
    this.#you = you.id;
    this.#resume = resume || this.#resume;
    this.#stream?.abort();
    [this.#stream, this.#next] = [stream, undefined];
    this.#hear(stream);
    if (first) this.#tell(frame);
    if (this.#renewal) this.#tell({ id: this.#renewal.id, ok: { you, expires } });
    this.#renewal = undefined;
  }

  #joined(room, place, { ok }) {
    const last = /^last=(\d+)/.exec(place.from)?.[1];
    if (!place.id && last) place.id = `${ok.epoch}-${Math.max(0, ok.seq - last)}`; // asking for the last N events again could skip some events
    place.head = ok.seq;
    for (const id of this.#answered(room)) this.#tell({ id, ok });
    if ([...this.#rooms.values()].some((other) => other.in !== place.in)) this.#change();
  }

  /** Handles the end of a room, or the refusal of a join. */
  #lose(room, frame) {
    const ids = this.#answered(room), { code, reason } = frame.ended;
    this.#rooms.delete(room);
    for (const id of ids) this.#tell({ id, error: { code: REFUSALS[code] ?? "unavailable", message: reason } });
    if (!ids.length) this.#tell(frame);
  }

  /** Returns the ids of the joins of a room, which are answered now. */
  #answered(room) {
    const ids = this.#waiting.get(room) ?? [];
    this.#waiting.delete(room);
    return ids;
  }

  #closed(stream, { code, reason }) {
    if (stream !== (this.#next ?? this.#stream)) return; // the newer stream will give the reason
    if (this.#rooms.size) this.#end(code, reason);
    else this.#idle(); // the last room has ended
  }

  // A WebSocket

  #try(ms) {
    if (this.readyState > 1) return;
    this.#retry = setTimeout(async () => { await this.#better() || this.#try(Math.min(MOST, 2 * ms)); }, ms * (0.8 + 0.4 * Math.random()));
  }

  /** Tries a WebSocket. If a frame arrives, passes the WebSocket to onbetter when no request is open, and resolves with true. */
  #better() {
    const url = new URL(this.#url), offers = this.#resume && !this.#token ? [this.#protocols[0], `resume.${this.#resume}`] : this.#protocols;
    if (this.#you) url.searchParams.delete("ticket"); // a ticket is good only once
    return new Promise((resolve) => {
      const ws = new this.#WebSocket(url.href, offers), frames = [];
      let ended = false;
      const end = (works) => {
        if (ended) return;
        ended = true;
        clearTimeout(timer);
        ws.onopen = ws.onmessage = ws.onclose = null;
        if (works) this.onbetter(ws, frames);
        else ws.close();
        resolve(works);
      };
      const take = () => {
        if (this.readyState > 1) end(false);
        else if (this.#requests) setTimeout(take, 50);
        else end(true);
      };
      const timer = setTimeout(() => end(false), PATIENCE);
      ws.onopen = () => { if (this.#token) ws.send(JSON.stringify({ auth: { token: this.#token } })); };
      ws.onmessage = (e) => { if (frames.push(e.data) === 1) take(clearTimeout(timer)); };
      ws.onclose = () => end(false);
      ws.onerror = () => {}; // without this listener, the ws package of Node would end the process
    });
  }
}

/** The position at which a room begins in a stream. */
function placeOf({ since, epoch = "", at, last, after }) {
  if (since !== undefined) return { id: `${epoch}-${since}${at ? `-${Date.parse(at)}` : ""}` };
  return { from: last ? `last=${last}` : after ? `after=${encodeURIComponent(after)}` : "" };
}

/** The events of a stream of bytes. Calls hear() whenever bytes arrive. */
async function* eventsOf(body, hear) {
  const reader = body.getReader(), decoder = new TextDecoder();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    hear();
    const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { data: "" };
      for (const line of block.split("\n")) {
        const [, name, text] = /^(\w+): ?(.*)$/s.exec(line) ?? [];
        if (name === "data") event.data += text;
        else if (name) event[name] = text;
      }
      yield event;
    }
  }
}
