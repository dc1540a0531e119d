package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/publish"
	"roomcast/proto"
	"roomcast/proto/daemon"
)

// apiPatience is how long a request waits for the room's owner. Then the gateway refuses it as
// unavailable. The time is long enough for another owner to take over after a crash.
const apiPatience = 8 * time.Second

// api is the HTTP API. It offers the commands of a JSON session as HTTP requests. It is safe for
// concurrent use.
type api struct {
	bridge     *bridge.Bridge
	memory     *limit.Budget // counts answers while they are being written
	guard      guard
	auth       *auth.Auth
	backend    *backend.Backend // nil = there is no backend
	maxMessage int
	log        *slog.Logger
	rate       limit.Rate   // limit of the requests of one user, or of all guests with the same address
	rates      *limit.Rates // limits for requests, and for signals in slow rooms
}

func (a *api) register(mux *http.ServeMux) {
	for pattern, serve := range map[string]func(*http.Request, *caller) (answer, error){
		"GET /api/rooms":                  forPrograms(a.rooms),
		"POST /api/tickets":               forPrograms(a.ticket),
		"POST /api/revoke":                forPrograms(a.revoke),
		"POST /api/rooms/{room}/messages": withIdentity(a.say),
		"POST /api/rooms/{room}/signal":   withIdentity(a.signal),
		"POST /api/rooms/{room}/{act}":    withIdentity(a.moderate),
		"GET /api/rooms/{room}/members":   a.members,
	} {
		mux.HandleFunc(pattern, a.handler(serve))
	}
	mux.HandleFunc("GET /api/rooms/{room}/messages", a.messages)
	mux.HandleFunc("/api/", a.handler(forPrograms(func(r *http.Request, _ *caller) (answer, error) {
		return nil, proto.Refuse(proto.NotFound, "there is no %s %s; PROTOCOL.md lists the requests", r.Method, r.URL.Path)
	})))
}

// answer is the JSON body of a response with status 200.
type answer []byte

// withIdentity wraps a handler. It refuses callers that have sent no credential.
func withIdentity(serve func(*http.Request, *caller) (answer, error)) func(*http.Request, *caller) (answer, error) {
	return func(r *http.Request, by *caller) (answer, error) {
		if by.lacks != nil {
			return nil, proto.Refuse(proto.Unauthorized, "a credential is needed: send a token as Authorization: Bearer, or the resume string of a hello as Roomcast-Resume")
		}
		return serve(r, by)
	}
}

// forPrograms wraps a handler. It refuses guests, because only programs and operators may send
// these requests.
func forPrograms(serve func(*http.Request, *caller) (answer, error)) func(*http.Request, *caller) (answer, error) {
	return func(r *http.Request, by *caller) (answer, error) {
		switch {
		case by.lacks != nil:
			return nil, by.lacks
		case by.guest:
			return nil, proto.Refuse(proto.Forbidden, "guests cannot do this")
		}
		return serve(r, by)
	}
}

// handler converts a function that returns an answer or a refusal to an [http.HandlerFunc].
func (a *api) handler(serve func(*http.Request, *caller) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by, err := a.begin(w, r)
		var body answer
		if err == nil {
			body, err = a.bounded(w, r, &by, serve)
		}
		if err != nil && r.Context().Err() == nil {
			a.logDefect(r, err)
		}
		a.respond(w, body, err)
	}
}

// bounded calls serve with a bounded body. If the body may be unusually long, bounded takes its
// bytes from the memory budget meanwhile.
func (a *api) bounded(w http.ResponseWriter, r *http.Request, by *caller, serve func(*http.Request, *caller) (answer, error)) (answer, error) {
	most := proto.CommandBytes(a.maxMessage)
	r.Body = http.MaxBytesReader(w, r.Body, int64(most))
	if r.ContentLength < 0 || r.ContentLength > int64(proto.UsualBytes(a.maxMessage)) {
		if !a.memory.Spare(limit.Messages) || !a.memory.Take(limit.Messages, most) {
			return nil, proto.Refuse(proto.Overloaded, "the gateway has no memory left for such a long request; try again").After(time.Second)
		}
		defer a.memory.Add(limit.Messages, -most)
	}
	return serve(r, by)
}

// begin returns the caller of a request, or an error if the caller may not send the request now.
func (a *api) begin(w http.ResponseWriter, r *http.Request) (caller, error) {
	nameOrigin(w, r, a.auth)
	by, err := a.guard.check(r)
	if err == nil && by.asked() {
		if wait := a.rates.Take(rateName(r, &by), a.rate, time.Now()); wait > 0 {
			err = proto.Refuse(proto.RateLimited, "too many requests; at most %v per second are accepted, so send this one again later", a.rate.PerSecond).After(wait)
		}
	}
	return by, err
}

// rateName returns the name under which the requests of a caller are counted. For a user this is
// the id, for a guest the address. But if a guest's address is that of an untrusted proxy, many
// guests may share it. Then this guest is counted by its id.
func rateName(r *http.Request, by *caller) string {
	if address := addressOf(r); by.guest && (by.lacks != nil || auth.Counts(address, sharesAddress(r))) {
		return "from " + limit.Group(address).String()
	}
	return by.who.ID
}

func (a *api) logDefect(r *http.Request, err error) {
	if proto.AsRefusal(err).Code == proto.Internal {
		a.log.Error("api request failed", "path", r.URL.Path, "error", err)
	}
}

// respond writes an answer. If err is not nil, it writes the refusal in err instead.
func (a *api) respond(w http.ResponseWriter, body answer, err error) {
	if err == nil && !a.memory.Take(limit.Pages, len(body)) {
		err = proto.Refuse(proto.Overloaded, "the gateway has no memory left for this answer; ask again").After(time.Second)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err == nil {
		defer a.memory.Add(limit.Pages, -len(body))
		w.Write(append(body, '\n'))
		return
	}
	refusal := proto.AsRefusal(err)
	if refusal.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((refusal.Retry+time.Second-1)/time.Second)))
	}
	if refusal.Code == proto.Unauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="roomcast"`)
	}
	w.WriteHeader(refusal.Code.Status())
	reply := proto.Reply{Refusal: refusal}
	w.Write(append(reply.AppendJSON(nil), '\n'))
}

// say handles a message. The body is a say command as JSON, or plain text.
func (a *api) say(r *http.Request, by *caller) (answer, error) {
	room, err := roomOf(r, by, proto.RightSay)
	if err != nil {
		return nil, err
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var cmd proto.Command
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/json":
		cmd, err = proto.ParseBody(proto.VerbSay, body)
	case "text/plain":
		cmd.Content, cmd.Line = proto.Content{Kind: proto.Text, Body: body}, true
		if !utf8.Valid(body) {
			err = proto.Refuse(proto.BadRequest, "the text is not valid UTF-8")
		}
	default:
		err = proto.Refuse(proto.BadRequest, "the Content-Type must be application/json or text/plain, not %q", kind)
	}
	if err != nil {
		return nil, err
	}
	s, err := a.sayOf(r, by, room, &cmd)
	if err != nil {
		return nil, err
	}
	if s.Key, err = keyOf(r, cmd.Key); err != nil {
		return nil, err
	}
	if err := a.askSay(r, by, &s, proto.VerbSay); err != nil {
		return nil, err
	}
	reply, err := a.ask(r.Context(), s)
	return reply.AppendJSON(nil), err
}

// sayOf converts the command in the body of a request to a message or act for the room. It leaves
// the key empty.
func (a *api) sayOf(r *http.Request, by *caller, room proto.Room, cmd *proto.Command) (s publish.Say, err error) {
	if !cmd.Room.IsZero() && cmd.Room != room {
		return s, proto.Refuse(proto.BadRequest, "the body and the path name different rooms; leave room out of the body")
	}
	if refusal := proto.CheckSize(len(cmd.Content.Body), a.maxMessage); refusal != nil {
		return s, refusal
	}
	s = publish.Say{
		Room: room, Act: cmd.Act, Terms: cmd.Terms, Content: cmd.Content, Line: cmd.Line, Why: cmd.Why,
		Patience: apiPatience, Rights: by.rights(room),
	}
	s.From, err = senderOf(r, by)
	return s, err
}

// askSay asks the backend whether to allow a message or a signal, unless the caller is a
// program. The backend may change the content.
func (a *api) askSay(r *http.Request, by *caller, s *publish.Say, verb proto.Verb) error {
	if !by.asked() || !a.backend.Asks(backend.Say) {
		return nil
	}
	q := backend.Question{Kind: backend.Say, Who: s.From, Room: s.Room, Headers: by.headers, Content: s.Content, Verb: verb}
	answer, err := await(r.Context(), func(done func(backend.Answer, error)) { a.backend.Ask(&q, done) })
	if err != nil {
		return err
	}
	sent := s.Content
	if s.Sent = &sent; answer.Content != nil {
		s.Content = *answer.Content
	}
	return nil
}

// moderate carries out an act. The body contains the fields of a moderate command, or is empty.
func (a *api) moderate(r *http.Request, by *caller) (answer, error) {
	act := proto.Act(r.PathValue("act"))
	if !act.Known() {
		return nil, proto.Refuse(proto.NotFound, "there is no %s %s; PROTOCOL.md lists the requests", r.Method, r.URL.Path)
	}
	room, err := proto.ParseRoom(r.PathValue("room"))
	if err != nil {
		return nil, proto.Refuse(proto.BadRoom, "%v", err)
	}
	did := daemon.Act{Name: string(act), Room: room.String()}
	reply, err := a.act(r, by, room, act, &did)
	did.Seq = reply.Seq
	daemon.Audit(a.log, by.describe(r, a.auth.IssuerOf, did), err)
	if err != nil {
		return nil, err
	}
	return reply.AppendJSON(nil), nil
}

// act carries out an act in a room. For the audit log, it stores a description of the act in did.
func (a *api) act(r *http.Request, by *caller, room proto.Room, act proto.Act, did *daemon.Act) (none proto.Reply, err error) {
	if err := by.may(room, act.Permits(by.rights(room))); err != nil {
		return none, err
	}
	body, err := readBody(r)
	if err != nil {
		return none, err
	}
	cmd, err := proto.ParseAct(act, body)
	if err != nil {
		return none, err
	}
	*did = daemon.ActOf(room, act, &cmd.Terms, cmd.Why)
	s, err := a.sayOf(r, by, room, &cmd)
	if err != nil {
		return none, err
	}
	if s.Key, err = keyOf(r, cmd.Key); err != nil {
		return none, err
	}
	if act == proto.ActEdit {
		if err := a.askSay(r, by, &s, proto.VerbEdit); err != nil {
			return none, err
		}
	}
	return a.ask(r.Context(), s)
}

// ask sends s to the room's owner and waits for the reply. If the reply is a refusal, ask
// returns it as an error.
func (a *api) ask(ctx context.Context, s publish.Say) (none proto.Reply, err error) {
	reply, err := await(ctx, func(done func(proto.Reply, error)) {
		send := a.bridge.Say
		if s.Act != "" {
			send = a.bridge.Moderate
		}
		send(s, func(r proto.Reply) { done(r, nil) })
	})
	switch {
	case err != nil:
		return none, err
	case reply.Refusal != nil:
		return none, reply.Refusal
	case reply.Close != 0:
		return none, proto.Refuse(proto.ClosedByWord, "the text is a close word: it was not stored, and there is no connection to close")
	}
	return reply, nil
}

// await calls start with a callback named done. Then it waits until done is called or ctx ends.
func await[T any](ctx context.Context, start func(done func(T, error))) (T, error) {
	type result struct {
		value T
		err   error
	}
	got := make(chan result, 1)
	start(func(value T, err error) { got <- result{value, err} })
	select {
	case res := <-got:
		return res.value, res.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// members answers with a [proto.Members].
func (a *api) members(r *http.Request, by *caller) (answer, error) {
	room, err := roomOf(r, by, proto.RightRead)
	if err == nil {
		err = a.guard.askJoin(r, by, room)
	}
	if err != nil {
		return nil, err
	}
	return await(r.Context(), func(done func(answer, error)) {
		a.bridge.Members(room, func(count int, list []proto.Member, err error) {
			m := proto.Members{Room: room, Count: count, List: list}
			if err != nil || by.local {
				done(m.AppendJSON(nil), err)
				return
			}
			a.bridge.Restrictions(room, func(limits *proto.Restrictions, err error) {
				if err == nil {
					err = by.banned(limits)
				}
				done(m.AppendJSON(nil), err)
			})
		})
	})
}

// rooms answers with {"rooms":[{"room":"lobby","messages":12},…]}. The list contains the rooms
// that the caller may read.
func (a *api) rooms(r *http.Request, by *caller) (answer, error) {
	list, err := await(r.Context(), a.bridge.Rooms)
	if err != nil {
		return nil, err
	}
	type room struct {
		Room     string `json:"room"`
		Messages uint64 `json:"messages"`
	}
	rooms := make([]room, 0, len(list))
	for name, messages := range list {
		if by.may(name, proto.RightRead) == nil {
			rooms = append(rooms, room{name.String(), messages})
		}
	}
	return appendJSON(nil, map[string]any{"rooms": rooms}), nil
}

// roomOf returns the room of a request. It returns a refusal if the caller does not have the
// right in this room.
func roomOf(r *http.Request, by *caller, right proto.Right) (proto.Room, error) {
	room, err := proto.ParseRoom(r.PathValue("room"))
	if err != nil {
		return room, proto.Refuse(proto.BadRoom, "%v", err)
	}
	return room, by.may(room, right)
}

// senderOf returns the sender of a request. Usually this is the caller. A caller that may act for
// others can name another sender, with its id in from= and its name in name=.
func senderOf(r *http.Request, by *caller) (proto.Identity, error) {
	q := r.URL.Query()
	who := by.who
	if !q.Has("from") && !q.Has("name") {
		return who, nil
	}
	who.Name = q.Get("name")
	if id := q.Get("from"); id != "" {
		if proto.ReservedID(id) {
			return who, proto.Refuse(proto.Forbidden, "from=%.80s is an id that only Roomcast itself uses; choose another", id)
		}
		who.ID = id
	}
	if by.token == nil || who.ID != by.who.ID { // a program may choose its own name
		if err := by.mayBe(who.ID); err != nil {
			return who, err
		}
	}
	if refusal := proto.CheckID(who.ID); refusal != nil {
		return who, refusal
	}
	if refusal := proto.CheckName(who.Name); refusal != nil {
		return who, refusal
	}
	return who, nil
}

// keyOf returns the key of a request, from the body or from the header Idempotency-Key. The
// draft for this header (draft-ietf-httpapi-idempotency-key-header) requires quotes around the
// value, but many clients leave them out.
func keyOf(r *http.Request, inBody string) (string, error) {
	key := strings.Trim(r.Header.Get("Idempotency-Key"), `"`)
	switch {
	case key == "":
		key = inBody
	case inBody != "" && inBody != key:
		return "", proto.Refuse(proto.BadRequest, "the key in the body and the Idempotency-Key differ; send only one")
	}
	if key == "" {
		return "", nil
	}
	if refusal := proto.CheckKey(key); refusal != nil {
		return "", refusal
	}
	return key, nil
}

// readObject reads the body as a JSON object into v. It returns an error if the object has a
// field that v does not have.
func readObject(r *http.Request, v any, example string) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	why := "more follows the object"
	switch err := dec.Decode(v); {
	case err == nil:
		if _, err := dec.Token(); errors.Is(err, io.EOF) { // dec.More returns false at a superfluous closing brace
			return nil
		}
	case errors.Is(err, io.EOF):
		why = "it is empty"
	default:
		why = strings.TrimPrefix(err.Error(), "json: ")
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			why = fmt.Sprintf("%s must not be a %s", cmp.Or(wrong.Field, "the body"), wrong.Value)
		}
	}
	return proto.Refuse(proto.BadRequest, "the body must be JSON such as %s, but %.120s", example, why)
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, proto.Refuse(proto.TooLarge, "the body is longer than %d bytes", large.Limit)
	}
	if err != nil {
		return nil, proto.Refuse(proto.BadRequest, "the body ended early")
	}
	return body, nil
}

// appendJSON appends v as JSON. It must be possible to encode every value of v's type.
func appendJSON(b []byte, v any) []byte {
	j, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, j...)
}
