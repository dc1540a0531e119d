package session

import (
	"net/http"
	"sync/atomic"
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// maxPolls is how many polls may wait on one loop. The loop refuses further polls as overloaded.
const maxPolls = 4096

// pollWriteTime is how long a client may take to read the answer to its poll.
const pollWriteTime = 30 * time.Second

// Poll is an HTTP request that waits for the next events of a room. While it waits, its
// connection needs no goroutine. After Park, the loop owns the Poll.
type Poll struct {
	Query history.Query // reads the events that the client does not have
	Wait  time.Duration // how long to wait for events; then the answer is a page without events
	Who   proto.Identity

	// These fields describe the credential. The poll ends when it expires or is revoked.
	Issued  time.Time
	Expires time.Time // zero = it does not expire
	Family  string    // see [auth.Pass]; "" = none
	Token   string    // the id in the token; "" = the same as in Who, because the backend has not changed it

	// Check returns a refusal if the client may no longer read the room. Answer encodes the whole
	// HTTP answer to the request: a page, or an error instead of a page.
	Check  func(*proto.Restrictions) error
	Answer func(*proto.Page, error) []byte

	reading bool // a read of the log is in progress
	again   bool // events have arrived since the read began
	over    bool // the time is over, so the next page is the answer, even without events
}

// Park takes the connection of a request away from net/http. The connection's loop then waits
// for events and answers p.
func Park(w http.ResponseWriter, p *Poll) error {
	c, _, err := hijack(w)
	if err != nil {
		return err
	}
	if !c.lc.loop.Post(func() { c.lc.polls.park(c, p) }) {
		return c.Close()
	}
	return nil
}

// polls contains the polls that wait on one loop. The loop owns it.
type polls struct {
	*state
	waiting map[loop.ID]*Poll
	watches map[proto.Room]*watch
}

func newPolls(st *state) *polls {
	return &polls{state: st, waiting: make(map[loop.ID]*Poll), watches: make(map[proto.Room]*watch)}
}

// watch follows one room for all polls of a loop that wait for events of the room.
type watch struct {
	polls *polls           // static
	room  proto.Room       // static
	told  atomic.Bool      // Deliver has posted a read to the loop, and the read has not begun
	ready bool             // the gateway follows the room; owned by the loop
	ids   map[loop.ID]bool // connections of the waiting polls; owned by the loop
}

// Deliver implements [follow.Follower]. The polls read the events from the log. So Deliver posts
// only one read to the loop, however many events arrive before the read begins.
func (w *watch) Deliver(d follow.Delivery) {
	if d.Seq == 0 && d.Gap == nil && d.Lost == nil || w.told.Swap(true) {
		return
	}
	w.polls.hub.Post(func() {
		w.told.Store(false)
		w.polls.readAll(w)
	})
}

// park adopts the connection of a poll into the loop. Then the poll begins to wait.
func (ps *polls) park(c *CountedConn, p *Poll) {
	s := c.adopt(nil)
	if s == nil {
		return
	}
	s.kind, s.format, s.phase, s.who = poll, formatStreams, open, p.Who
	s.flags |= upgraded
	if s.iat = secondOf(p.Issued); !p.Expires.IsZero() {
		s.expires = secondOf(p.Expires)
	}
	ps.stats.Sockets.Add(1)
	ps.hub.Open(s.id, s.format)
	switch {
	case ps.draining:
		ps.write(s, p.Answer(nil, proto.Refuse(proto.Unavailable, "this gateway is stopping; ask again").After(time.Second)))
		return
	case len(ps.waiting) >= maxPolls:
		ps.write(s, p.Answer(nil, proto.Refuse(proto.Overloaded, "too many requests wait here; ask again").After(time.Second)))
		return
	}
	ps.waiting[s.id] = p
	wait := p.Wait
	if s.expires != 0 {
		wait = min(wait, p.Expires.Sub(ps.loop.Now()))
	}
	ps.loop.SetDeadline(s.id, wait)
	room := p.Query.Room
	w := ps.watches[room]
	if w == nil {
		w = &watch{polls: ps, room: room, ids: make(map[loop.ID]bool)}
		ps.watches[room] = w
		ps.bridge.Follow(room, w, func(_ history.Head, err error) {
			ps.hub.Post(func() { ps.followed(w, err) })
		})
	}
	if w.ids[s.id] = true; w.ready { // events may have arrived since the request was read
		ps.read(s.id, p)
	}
}

func (ps *polls) followed(w *watch, err error) {
	if ps.watches[w.room] != w {
		return // the polls of this watch have ended
	}
	if err == nil {
		w.ready = true
		ps.readAll(w)
		return
	}
	for id := range w.ids {
		ps.answer(ps.get(id), nil, unreadable(err))
	}
}

func (ps *polls) readAll(w *watch) {
	for id := range w.ids {
		ps.read(id, ps.waiting[id])
	}
}

// read reads the events that the client does not have yet. Polls that read the same events share
// a page.
func (ps *polls) read(id loop.ID, p *Poll) {
	if p.reading {
		p.again = true
		return
	}
	p.reading, p.again = true, false
	ps.bridge.Read(p.Query, func(page reads.Page, err error) {
		ps.hub.Post(func() {
			defer page.Release()
			ps.readDone(id, p, &page, err)
		})
	})
}

func (ps *polls) readDone(id loop.ID, p *Poll, page *reads.Page, err error) {
	if ps.waiting[id] != p {
		return
	}
	p.reading = false
	if err == nil {
		err = p.Check(page.Head.Limits)
	} else {
		err = unreadable(err)
	}
	switch {
	case err != nil:
		ps.answer(ps.get(id), nil, err)
	case p.over || len(page.Records) > 0 || page.Gap != nil:
		ps.answer(ps.get(id), page.Answer(p.Query.Room), nil)
	case p.again:
		ps.read(id, p)
	}
}

// due handles the end of a poll's time. It reads once more, because a page also shows whether
// the client is banned.
func (ps *polls) due(s *session) {
	if s.expires != 0 && ps.loop.Now().Unix() >= int64(s.expires) {
		ps.answer(s, nil, proto.Refuse(proto.Unauthorized, "%s", proto.CloseTokenExpired.Meaning()))
		return
	}
	p := ps.waiting[s.id]
	p.over = true
	ps.read(s.id, p)
}

// answer sends the answer to a poll and ends the poll.
func (ps *polls) answer(s *session, page *proto.Page, err error) {
	p := ps.waiting[s.id]
	ps.forget(s.id)
	ps.write(s, p.Answer(page, err))
}

// write sends the only answer of a connection and then closes the connection.
func (ps *polls) write(s *session, answer []byte) {
	s.phase = ending
	ps.hub.Send(s.id, answer)
	ps.hub.TellDrained(s.id)
	ps.loop.SetDeadline(s.id, pollWriteTime)
}

// forget removes a poll that was answered or whose client has gone. If no other poll waits for
// the same room, the loop stops following the room.
func (ps *polls) forget(id loop.ID) {
	p := ps.waiting[id]
	if p == nil {
		return
	}
	delete(ps.waiting, id)
	w := ps.watches[p.Query.Room]
	if delete(w.ids, id); len(w.ids) == 0 {
		delete(ps.watches, w.room)
		ps.bridge.Unfollow(w.room, w)
	}
}
