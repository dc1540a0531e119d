package hub

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// world is a model of everything around a hub. A seed determines what happens. Its sockets
// accept only a few bytes at a time, its log answers late, and its clients come and go. It
// records the bytes that every client receives, to compare them with the events of the rooms.
type world struct {
	t        *testing.T
	rand     *rand.Rand
	hub      *Hub
	now      time.Time
	woken    bool     // the hub has asked to be woken
	mayWrite bool     // the hub is in Flush or Writable, and may write
	later    []func() // answers of the log that have not arrived yet
	rooms    []*modelRoom
	peers    map[loop.ID]*peer
	next     loop.ID
	dead     []*peer
	signals  int  // number of signals that were delivered to the hub
	early    bool // a page contains the records that existed when it was requested, not when it arrives
	loses    bool // the hub may also close JSON sessions that cannot continue
}

type modelRoom struct {
	name     proto.Room
	epoch    string
	renewed  bool // the next event is the first one of its epoch
	events   [][]byte
	trimmed  int // number of the oldest events that the log has lost
	followed bool
}

// head returns the head of the room's log.
func (r *modelRoom) head() history.Head {
	n := uint64(len(r.events))
	if n == 0 {
		return history.Head{}
	}
	return history.Head{Seq: n, Epoch: r.epoch, At: r.at(n)}
}

// at returns the time of the event with the given seq.
func (r *modelRoom) at(seq uint64) time.Time {
	e, _ := proto.ParseEvent(r.events[seq-1])
	return e.At
}

type peer struct {
	id      loop.ID
	format  Format
	got     []byte
	takes   int // number of bytes that its socket accepts before it blocks
	private int // number of messages that only this client has received so far
	joined  map[string]uint64
	knows   map[string]string // by room: the epoch with which the client resumed
	left    map[string]bool
	closed  bool // the test has sent the client a close frame
	drained bool
	slow    bool
	shut    string // why a room that the client was in has closed
}

func newWorld(t *testing.T, seed uint64, cfg Config) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), peers: make(map[loop.ID]*peer)}
	w.hub = New(cfg, w, w, w)
	w.hub.clock.after = func(_ time.Duration, f func()) { w.later = append(w.later, f) }
	for i := range 4 {
		w.rooms = append(w.rooms, &modelRoom{name: proto.MustRoom(fmt.Sprintf("room%d", i)), epoch: "e"})
	}
	return w
}

func (w *world) Wake()          { w.woken = true }
func (w *world) Now() time.Time { return w.now }

func (w *world) Write(id loop.ID, p []byte) int {
	if !w.mayWrite {
		w.t.Fatal("the hub writes outside of Flush and Writable")
	}
	c := w.peers[id]
	if c == nil {
		w.t.Fatalf("write to connection %v, which is gone", id)
	}
	n := min(len(p), c.takes)
	c.got = append(c.got, p[:n]...)
	c.takes -= n
	return n
}

func (w *world) room(name proto.Room) *modelRoom {
	for _, r := range w.rooms {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (w *world) Follow(name proto.Room, f follow.Follower, ready func(history.Head, error)) {
	r := w.room(name)
	w.later = append(w.later, func() {
		r.followed = true
		ready(r.head(), nil)
	})
}

func (w *world) Unfollow(name proto.Room, f follow.Follower) { w.room(name).followed = false }

func (w *world) Read(q history.Query, done func(reads.Page, error)) {
	if w.early {
		page := w.room(q.Room).read(q)
		w.later = append(w.later, func() { done(reads.NewPage(page, w.hub.cfg.Memory, 1), nil) })
		return
	}
	w.later = append(w.later, func() {
		if w.rand.IntN(10) == 0 {
			done(reads.Page{}, errors.New("log is away"))
			return
		}
		if w.rand.IntN(10) == 0 {
			done(reads.Page{}, proto.Refuse(proto.Overloaded, "no memory"))
			return
		}
		done(reads.NewPage(w.room(q.Room).read(q), w.hub.cfg.Memory, 1), nil)
	})
}

// read returns the page that history.Log.Read would return.
func (r *modelRoom) read(q history.Query) history.Page {
	p := history.Page{Head: r.head()}
	head := p.Head.Seq
	first, oldest := uint64(1), uint64(r.trimmed)+1
	switch {
	case q.HasSince:
		first = q.Since + 1
		other := q.Since > head || q.Epoch != "" && q.Epoch != p.Head.Epoch
		if !other && q.Since >= oldest && !q.At.IsZero() {
			other = !q.At.Equal(r.at(q.Since))
		}
		if other && q.Since > 0 {
			p.Gap = &proto.Gap{Room: r.name, From: first, Reason: proto.GapReset, Epoch: p.Head.Epoch, Seq: head}
			first = oldest
		} else if first < oldest {
			p.Gap = &proto.Gap{Room: r.name, From: first, To: oldest - 1, Reason: proto.GapTrimmed}
			first = oldest
		}
	case q.Last > 0:
		first = max(oldest, head-min(head, uint64(q.Last))+1)
	default:
		first = head + 1
	}
	limit := uint64(q.Limit)
	if limit == 0 {
		limit = 64
	}
	for seq, bytes := first, 0; seq <= head && seq < first+limit && (bytes < q.Bytes || q.Bytes == 0); seq++ {
		bytes += len(r.events[seq-1])
		e, _ := proto.ParseEvent(r.events[seq-1])
		p.Records = append(p.Records, proto.Record{Room: r.name, Seq: seq, Kind: e.Kind, Stamp: "T", Text: spanOf(r.events[seq-1]), Payload: r.events[seq-1]})
	}
	return p
}

// say appends an event to the room's log and delivers it.
func (w *world) say(r *modelRoom, size int) {
	e := proto.Event{Room: r.name, Seq: uint64(len(r.events)) + 1, At: w.now, From: proto.Identity{ID: "x"}}
	if e.Seq == 1 || r.renewed {
		e.Epoch, r.renewed = r.epoch, false
	}
	e.Content = proto.Content{Kind: proto.Text, Body: fmt.Appendf(nil, "%s %d %s", r.name, e.Seq, strings.Repeat("x", size))}
	b := e.AppendJSON(nil)
	r.events = append(r.events, b)
	if r.followed {
		w.deliver(r, e.Seq)
	}
}

// deliver delivers an event in the log to the hub.
func (w *world) deliver(r *modelRoom, seq uint64) {
	b := r.events[seq-1]
	w.hub.intake.Deliver(follow.Delivery{Room: r.name, Seq: seq, Epoch: r.epoch, At: r.at(seq), Stamp: "T", JSON: b, Text: spanOf(b)})
}

func (w *world) signal(r *modelRoom, from *peer) {
	if r.followed {
		w.signals++
		b := proto.AppendSignal(nil, r.name, fmt.Sprint("signal ", w.signals), proto.Identity{ID: fmt.Sprint(uint64(from.id))}, nil)
		w.hub.intake.Deliver(follow.Delivery{Room: r.name, JSON: b, Origin: w.hub.Session(from.id)})
	}
}

func (w *world) OnNotice(id loop.ID, n Notice) {
	c := w.peers[id]
	if c == nil {
		return
	}
	switch n.Kind {
	case Joined:
		w.hub.Text(id, fmt.Appendf(nil, `{"ok":{"room":"%s","seq":%d,"epoch":"%s"}}`, n.Room, n.Head.Seq, n.Head.Epoch))
	case Slow, Lost:
		c.slow = true
		if n.Kind == Lost && c.format == JSON && !w.loses {
			w.t.Errorf("the hub could not continue connection %v", id)
		}
		w.close(c)
	case Refused:
		w.t.Errorf("connection %v: %v", id, n.Err)
	case Closed:
		c.shut = n.Why
	case Drained:
		c.drained = true
	}
}

func (w *world) close(c *peer) {
	if !c.closed {
		c.closed = true
		w.hub.Close(c.id, 1000, "bye")
	}
}

// turn performs one iteration of the loop.
func (w *world) turn(budget int) bool {
	w.woken, w.mayWrite = false, true
	busy := w.hub.Flush(budget)
	w.mayWrite = false
	return busy || w.woken
}

// answer makes up to n answers of the log arrive at the hub.
func (w *world) answer(n int) {
	for ; n > 0 && len(w.later) > 0; n-- {
		f := w.later[0]
		w.later = w.later[1:]
		f()
	}
}

// give makes the client's socket accept n bytes.
func (w *world) give(c *peer, n int) {
	c.takes, w.mayWrite = n, true
	w.hub.Writable(c.id)
	w.mayWrite = false
}

// settle makes all clients read all bytes, until the hub has nothing more to do.
func (w *world) settle() {
	for {
		for _, id := range slices.Sorted(maps.Keys(w.peers)) {
			w.give(w.peers[id], 1<<30)
		}
		busy := w.turn(1000)
		if len(w.later) == 0 && !busy {
			return
		}
		w.answer(len(w.later))
	}
}

// frames splits the bytes that a client has received into frames, and checks the headers of the
// frames.
func frames(t *testing.T, b []byte) (out [][]byte, closed bool) {
	for len(b) > 0 {
		if len(b) < 2 || b[0]&0x70 != 0 || b[0]&0x80 == 0 || b[1]&0x80 != 0 {
			t.Fatalf("bad frame header % x", b[:min(len(b), 8)])
		}
		op, n, h := b[0]&15, int(b[1]), 2
		switch n {
		case 126:
			n, h = int(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			n, h = int(binary.BigEndian.Uint64(b[2:])), 10
		}
		if closed || len(b) < h+n {
			t.Fatalf("frame of %d bytes after close %v, %d bytes are there", n, closed, len(b))
		}
		if op == 8 {
			closed = true
		} else {
			out = append(out, b[h:h+n])
		}
		b = b[h+n:]
	}
	return out, closed
}

// verify compares the frames of a client with the events of the rooms. After its join of a room,
// the client must have received every event once, except those that a gap has announced as
// missing.
func (w *world) verify(c *peer) {
	list, closed := frames(w.t, c.got)
	if closed != c.closed {
		w.t.Errorf("connection %v: close frame %v, want %v", c.id, closed, c.closed)
	}
	private := 0
	last := make(map[string]uint64)
	in := make(map[string]bool)
	signalled := make(map[string]bool)
	noticed := make(map[[2]uint64]int) // holes that the hub has announced to a text session, without their rooms
	for _, f := range list {
		var m struct {
			Private *int
			OK      *struct {
				Room string
				Seq  uint64
			}
			Room   string
			Seq    uint64
			Gap    *struct{ From, To uint64 }
			Signal *struct {
				Type string
				From struct{ ID string }
			}
			Text string
		}
		if err := json.Unmarshal(f, &m); err != nil {
			var from, to uint64
			if n, _ := fmt.Sscanf(string(f), "[messages %d to %d ", &from, &to); n == 2 {
				noticed[[2]uint64{from, to}]++
				continue
			} else if n, _ := fmt.Sscanf(string(f), "[message %d ", &from); n == 1 {
				noticed[[2]uint64{from, from}]++
				continue
			}
			if _, err := fmt.Sscanf(string(f), "T %s %d ", &m.Room, &m.Seq); err != nil {
				w.t.Fatalf("connection %v got %q: %v", c.id, f, err)
			}
		}
		switch {
		case m.Private != nil:
			if *m.Private != private {
				w.t.Fatalf("connection %v: private message %d, want %d", c.id, *m.Private, private)
			}
			private++
		case m.OK != nil:
			// The method join has recorded where the replay begins.
			in[m.OK.Room] = true
			last[m.OK.Room] = c.joined[m.OK.Room]
			if last[m.OK.Room] == fromHead {
				last[m.OK.Room] = m.OK.Seq
			}
		case m.Gap != nil:
			last[m.Room] = m.Gap.To
		case m.Signal != nil:
			if m.Signal.From.ID == fmt.Sprint(uint64(c.id)) {
				w.t.Fatalf("connection %v got its own signal", c.id)
			}
			if signalled[m.Signal.Type] {
				w.t.Fatalf("connection %v got %s twice", c.id, m.Signal.Type)
			}
			signalled[m.Signal.Type] = true
		default:
			if !in[m.Room] {
				w.t.Fatalf("connection %v got %s %d before the ok", c.id, m.Room, m.Seq)
			}
			l := last[m.Room]
			if hole := [2]uint64{l + 1, m.Seq - 1}; noticed[hole] > 0 {
				noticed[hole]--
				l = m.Seq - 1
			}
			if l != anywhere && m.Seq != l+1 {
				w.t.Fatalf("connection %v (format %d) in %s: got seq %d after %d", c.id, c.format, m.Room, m.Seq, l)
			}
			last[m.Room] = m.Seq
		}
	}
	if private != c.private && !c.slow {
		w.t.Errorf("connection %v got %d private messages, want %d", c.id, private, c.private)
	}
	for name := range in {
		r := w.room(proto.MustRoom(name))
		l, end := last[name], uint64(len(r.events))
		if !c.left[name] && !c.closed && l != anywhere && l != end && noticed[[2]uint64{l + 1, end}] == 0 {
			w.t.Errorf("connection %v (format %d) in %s ends at %d, want %d", c.id, c.format, name, l, end)
		}
	}
}

// Values of peer.joined that are not a seq.
const (
	anywhere = ^uint64(0)
	fromHead = anywhere - 1 // the client's first event follows the seq in the ok
)

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// spanOf returns where the content is in an event. In a record, the header says this.
func spanOf(json []byte) proto.Span {
	e, err := proto.ParseEvent(json)
	if err != nil {
		panic(err)
	}
	_, span := e.AppendRecord(nil)
	return span
}
