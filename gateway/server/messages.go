package server

import (
	"bytes"
	"cmp"
	"maps"
	"net/http"
	"strconv"
	"time"

	"roomcast/gateway/reads"
	"roomcast/gateway/session"
	"roomcast/proto"
	"roomcast/proto/history"
)

// maxWait is how long a request may wait for messages. It is shorter than 60 s, because nginx
// ends requests that are silent for 60 s.
const maxWait = 50 * time.Second

// messages answers with a [proto.Page]. If the request contains wait=, an event loop answers
// later: as soon as there is an event after since=, or when the time is over. A HEAD does not wait,
// because its answer has no body, and so no events.
func (a *api) messages(w http.ResponseWriter, r *http.Request) {
	by, err := a.begin(w, r)
	var q history.Query
	var wait time.Duration
	if err == nil {
		q, wait, err = queryOf(r, &by)
	}
	if err == nil {
		err = a.guard.askJoin(r, &by, q.Room)
	}
	var got page
	if err == nil {
		got, err = a.page(r, &by, q)
	}
	if err != nil || wait == 0 || !got.empty || r.Method == http.MethodHead {
		if err != nil {
			a.logDefect(r, err)
		}
		a.respond(w, got.body, err)
		return
	}
	header := w.Header().Clone()
	poll := &session.Poll{
		Query: q, Wait: wait, Who: by.who, Issued: by.issued, Expires: by.expires, Token: by.tokenID,
		Check: by.banned,
		Answer: func(p *proto.Page, err error) []byte {
			rec := recorder{header: header, status: http.StatusOK}
			var body answer
			if err == nil {
				body = p.AppendJSON(nil)
			}
			a.respond(&rec, body, err)
			return rec.response()
		},
	}
	if by.pass != nil {
		poll.Family = by.pass.Family
	}
	if poll.Issued.IsZero() {
		poll.Issued = time.Now()
	}
	if err := session.Park(w, poll); err != nil {
		a.log.Error("cannot return connection to its event loop", "error", err)
	}
}

// page is an encoded [proto.Page].
type page struct {
	body  answer
	empty bool // the page has neither events nor a gap
}

func (a *api) page(r *http.Request, by *caller, q history.Query) (page, error) {
	return await(r.Context(), func(done func(page, error)) {
		a.bridge.Read(q, func(p reads.Page, err error) {
			defer p.Release()
			if err == nil {
				err = by.banned(p.Head.Limits)
			}
			if err != nil {
				done(page{}, err)
				return
			}
			done(page{p.Answer(q.Room).AppendJSON(nil), len(p.Records) == 0 && p.Gap == nil}, nil)
		})
	})
}

// queryOf reads the query of a request for messages. It also returns how long the request waits
// for messages.
func queryOf(r *http.Request, by *caller) (q history.Query, wait time.Duration, err error) {
	if q.Room, err = roomOf(r, by, proto.RightRead); err != nil {
		return q, 0, err
	}
	values := r.URL.Query()
	maps.DeleteFunc(values, func(_ string, value []string) bool { return value[0] == "" }) // an empty parameter counts as absent
	from, err := proto.ParseFrom(values.Get)
	if err != nil {
		return q, 0, err
	}
	q.Since, q.HasSince, q.Epoch, q.At = from.Since, from.HasSince, from.Epoch, from.At
	q.After = from.After
	newest := proto.MaxHistory // the value of last=, which is a second limit of a page of the newest events
	for name := range values {
		value := values.Get(name)
		switch name {
		case "since", "after", "epoch", "at":
		case "last":
			if newest = min(from.Last, newest); newest == 0 {
				return q, 0, proto.Refuse(proto.BadRequest, "last=%.40q is not a whole number of at least 1", value)
			}
			q.Limit = cmp.Or(q.Limit, newest)
		case "before":
			if q.Before, err = strconv.ParseUint(value, 10, 53); err != nil || q.Before == 0 {
				return q, 0, proto.Refuse(proto.BadRequest, "before=%.40q is not a whole number of at least 1", value)
			}
			if !from.None() {
				return q, 0, proto.Refuse(proto.BadRequest, "use only one of last, since, before and after")
			}
		case "limit":
			n, err := strconv.ParseUint(value, 10, 53)
			if err != nil || n == 0 {
				return q, 0, proto.Refuse(proto.BadRequest, "limit=%.40q is not a whole number of at least 1", value)
			}
			q.Limit = int(min(n, proto.MaxHistory))
		case "wait":
			wait, err = time.ParseDuration(value)
			if err != nil || wait < 0 {
				return q, 0, proto.Refuse(proto.BadRequest, "wait=%.40q is not a time such as 20s", value)
			}
			if !from.HasSince {
				return q, 0, proto.Refuse(proto.BadRequest, "a request with wait= also needs since=, with the seq of the last event that the client has")
			}
			wait = min(wait, maxWait)
		default:
			return q, 0, proto.Refuse(proto.BadRequest, "%.40q is not a parameter; use last, since, before, after, limit, epoch, at or wait", name)
		}
	}
	q.Limit = min(q.Limit, newest)
	return q, wait, nil
}

// recorder is an [http.ResponseWriter] that stores the response of a poll. The event loop sends
// it, because net/http no longer serves the connection.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (rec *recorder) Header() http.Header         { return rec.header }
func (rec *recorder) WriteHeader(status int)      { rec.status = status }
func (rec *recorder) Write(p []byte) (int, error) { return rec.body.Write(p) }

// response returns the bytes of the response. They tell the client that the connection ends after
// them.
func (rec *recorder) response() []byte {
	var b bytes.Buffer
	res := http.Response{
		ProtoMajor: 1, ProtoMinor: 1, StatusCode: rec.status, Header: rec.header, Close: true,
		Body: http.NoBody, ContentLength: int64(rec.body.Len()),
	}
	if res.ContentLength > 0 {
		res.Body = readCloser{&rec.body}
	}
	res.Write(&b) // writing to memory cannot fail
	return b.Bytes()
}

// readCloser lets a buffer be the body of a response.
type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }
