package server

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/proto"
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
			return nil, proto.Refuse(proto.Unauthorized, "a credential is needed: send a token of a user or of --api-token-file as Authorization: Bearer, or the resume string of a hello as Roomcast-Resume")
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
		if err != nil {
			a.logDefect(r, err)
		}
		a.respond(w, body, err)
	}
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

// await calls start with a callback named done. Then it waits until done is called or ctx ends. The
// ctx of a request also ends if the client closes only its own half of the connection. Such a client
// can still read the refusal.
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
		return none, proto.Refuse(proto.Unavailable,
			"you closed your side of the connection before the answer; keep it open, and repeat the request, a message with its key").After(time.Second)
	}
}
