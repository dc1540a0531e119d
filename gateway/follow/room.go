package follow

import (
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
)

// room is a room that a feed follows. The feed owns it.
type room struct {
	name      proto.Room
	place     int // index in table.list
	removed   bool
	followers []Follower
	waiting   []waiter // followers that wait for the room's head
	sequencer sequencer
	live      bool      // the room's head is known, so that records can be delivered
	reading   bool      // a read of the head or of missing records is in progress
	opens     int       // failed reads of the head since the last success
	failures  int       // failed repairs since the last success, while the log could be reached
	checks    int       // number of the room's entries in checker.soon
	lost      *lost     // a record that members have received and that is not in the log; nil = the feed knows of no such record
	emptied   time.Time // when the last follower left; zero = the room has followers
}

// waiter is a follower that waits for the room's head.
type waiter struct {
	f     Follower
	ready func(history.Head, error)
}

func (r *room) deliverRecord(rec proto.Record) {
	r.deliver(Delivery{
		Room: r.name, Seq: rec.Seq, Epoch: rec.State.Epoch, At: rec.State.At, Kind: rec.Kind,
		Stamp: rec.Stamp, Text: rec.Text, JSON: rec.Payload, Limits: r.sequencer.head.Limits,
	})
}

func (r *room) deliver(d Delivery) {
	for _, f := range r.followers {
		f.Deliver(d)
	}
}

// answer passes the head to the waiting followers, or the reason why the head is unknown.
func (r *room) answer(head history.Head, err error) {
	for _, w := range r.waiting {
		w.ready(head, err)
	}
	r.waiting = nil
}

// table contains the rooms that one feed follows. The feed owns it.
type table struct {
	byToken map[string]*room // by [proto.Room.Token]
	list    []*room          // the same rooms, in any order
	opening []*room          // rooms whose head the feed will read at the end of this iteration
	empty   []*room          // rooms without followers, ordered by when the last follower left
}

func (t *table) get(name proto.Room) *room { return t.byToken[name.Token()] }

func (t *table) add(name proto.Room) *room {
	r := &room{name: name, place: len(t.list)}
	t.byToken[name.Token()] = r
	t.list = append(t.list, r)
	return r
}

func (t *table) remove(r *room) {
	last := t.list[len(t.list)-1]
	t.list[r.place], last.place = last, r.place
	t.list[len(t.list)-1] = nil
	t.list = t.list[:len(t.list)-1]
	delete(t.byToken, r.name.Token())
	r.removed = true
}

// open makes the feed read the room's head at the end of this iteration.
func (t *table) open(r *room) {
	r.reading = true
	t.opening = append(t.opening, r)
}

// noteEmpty makes the feed remove the room after cfg.Linger if the room has no followers.
func (t *table) noteEmpty(r *room) {
	if len(r.followers) == 0 && len(r.waiting) == 0 && r.emptied.IsZero() {
		r.emptied = time.Now()
		t.empty = append(t.empty, r)
	}
}
