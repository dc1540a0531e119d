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

// maxPolls is how many polls may wait on one loop. Further ones are refused as overloaded.
const maxPolls = 4096

// pollWriteTime is how long a client may take to read an answer.
const pollWriteTime = 30 * time.Second

// A Poll is an HTTP request that waits for the next events of a room. While it waits, its
// connection costs no goroutine. The loop owns it after Park.
type Poll struct {
	Query history.Query // reads the events that the client does not have
	Wait  time.Duration // the time until an answer without events
	Who   proto.Identity

	// From the credential, because the poll ends with it.
	Issued  time.Time
	Expires time.Time // zero = it does not expire
	Family  string    // see [auth.Pass]; "" = none
	Token   string    // the id in the token, if the backend gave the client another; "" = that of Who

	// Check returns the refusal of a client that may not read the room any more. Answer
	// returns the whole answer to the request: a page, or the error that takes its place.
	Check  func(*proto.Restrictions) error
	Answer func(*proto.Page, error) []byte

	reading bool // a read is under way
	again   bool // events have come since the read began
	over    bool // the time is over: the next page is the answer
}

// Park takes the connection of a request away from net/http. Its loop then answers p.
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

// polls are the polls that wait on a loop, which owns them.
type polls struct {
	*state
	waiting map[loop.ID]*Poll
	watches map[proto.Room]*watch
}

func newPolls(st *state) *polls {
	return &polls{state: st, waiting: make(map[loop.ID]*Poll), watches: make(map[proto.Room]*watch)}
}

// A watch follows one room for all the polls of a loop that wait for it.
type watch struct {
	polls *polls           // static
	room  proto.Room       // static
	told  atomic.Bool      // a read for new events is posted to the loop and has not begun
	ready bool             // the room is followed; owned by the loop
	ids   map[loop.ID]bool // connections of the waiting polls; owned by the loop
}

// Deliver implements [follow.Follower]. The polls read the log, so one read on the loop serves all
// deliveries until it begins.
func (w *watch) Deliver(d follow.Delivery) {
	if d.Seq == 0 && d.Gap == nil && d.Lost == nil || w.told.Swap(true) {
		return
	}
	w.polls.hub.Post(func() {
		w.told.Store(false)
		w.polls.readAll(w)
	})
}

// park adds a poll and begins to wait.
func (ps *polls) park(c *CountedConn, p *Poll) {
	s := c.adopt(nil)
	if s == nil {
		return
	}
	s.kind, s.phase, s.who = poll, open, p.Who
	s.flags |= upgraded
	if s.iat = secondOf(p.Issued); !p.Expires.IsZero() {
		s.expires = secondOf(p.Expires)
	}
	ps.stats.Sockets.Add(1)
	ps.hub.Open(s.id, formatOf(s))
	switch {
	case ps.draining:
		ps.write(s, p.Answer(nil, proto.Refuse(proto.Unavailable, "this gateway stops; ask again").After(time.Second)))
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
	if w.ids[s.id] = true; w.ready { // events may have come since the request was read
		ps.read(s.id, p)
	}
}

func (ps *polls) followed(w *watch, err error) {
	if ps.watches[w.room] != w {
		return // its polls have ended
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

// read reads the events that the client does not have. Equal reads share a page.
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

// due ends a poll whose time is over. It reads once more, because the page also shows a ban.
func (ps *polls) due(s *session) {
	if s.expires != 0 && ps.loop.Now().Unix() >= int64(s.expires) {
		ps.answer(s, nil, proto.Refuse(proto.Unauthorized, "%s", proto.CloseTokenExpired.Meaning()))
		return
	}
	p := ps.waiting[s.id]
	p.over = true
	ps.read(s.id, p)
}

// answer ends a poll.
func (ps *polls) answer(s *session, page *proto.Page, err error) {
	p := ps.waiting[s.id]
	ps.forget(s.id)
	ps.write(s, p.Answer(page, err))
}

// write sends the only bytes of a connection and then ends it.
func (ps *polls) write(s *session, answer []byte) {
	s.phase = ending
	ps.hub.Send(s.id, answer)
	ps.hub.TellDrained(s.id)
	ps.loop.SetDeadline(s.id, pollWriteTime)
}

// forget drops a poll that has been answered or whose client has gone. If it was the last one of
// its room, the loop stops following the room.
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
