package service

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// term is one period of owning a partition. It begins with a fence, and ends when the partition is
// released or a commit fails. The rooms in memory belong to the term and are dropped when it ends.
// They may contain applied records that the stream has refused, and a next term must not build on
// such records.
//
// A term sends answers in the order of the commands. It keeps an answer back until all records
// applied before it are committed, because the answer may depend on them. For example, the answer
// to a duplicate names the seq of a record that may not be committed yet.
type term struct {
	p     *partition
	fence *stream.Fence
	rooms map[proto.Room]*active // owned by the partition's goroutine
	state snapshots

	mu       sync.Mutex // guards the fields below
	pending  pendingReplies
	records  uint64   // number of records applied in this term
	stored   uint64   // number of these records that are committed
	answered uint64   // number of committed records whose answers were sent
	seqs     []uint64 // stream sequences of the committed records whose answers were not sent; unused without Service.local
	saving   bool     // the snapshot for which the first pending answer waits is being written
	wakeAt   int      // wake the partition when at most this number of answers is pending; -1 = never
	over     error    // why the term has ended; nil while it lasts
}

// active is a room in memory. The partition's goroutine owns it.
type active struct {
	room    *room.Room // nil while the room is being read from the log
	waiting []command  // arrived during the read
	report  *report    // the newest report of a gateway that arrived during the read; nil = none
	last    uint64     // value of term.records after the room's last record was applied
	used    time.Time
}

// command is a request on its way through a partition. It came from NATS as a message, or from a
// gateway in this process. If reply.state is set, the command asks for the state of its room.
type command struct {
	msg   *nats.Msg      // nil = the command came from this process, or asks for the state of the room
	local *proto.Request // the request, if a gateway in this process has sent it; nil = msg has the request
	found *found         // the message to edit or delete; nil = not read yet, or the command changes no message
	reply returnPath
	to    proto.Room
	since time.Time // when the command arrived

	sought bool // the gateways have been asked whether the member to kick is in the room
	absent bool // the gateways have answered that the member is not in the room
}

// returnPath is where the answer to a command goes.
type returnPath struct {
	subject string            // "" = nobody waits on NATS
	local   func(proto.Reply) // receives the answer for a gateway in this process; nil = the answer goes to the subject
	state   *state            // receives the answer to a question for the state of the room; nil = the answer goes elsewhere
	act     *daemon.Act       // the act to log with the answer; nil = the command is no act, or its gateway logs the act
}

// answer is a reply that the term keeps back until all records applied before it are committed.
type answer struct {
	to     returnPath
	reply  proto.Reply
	record *proto.Record // the record of the answered command, which must be committed too; nil = the command made no record
	since  time.Time

	// snapshot is the snapshot of an act. It is written between the commit of the act's record and
	// the answer; nil = the command needs no snapshot.
	snapshot *proto.Snapshot
	room     proto.Room // the room of the snapshot
	erase    []uint64   // seqs of records to erase after the snapshot is written
}

func newTerm(p *partition) *term {
	return &term{p: p, rooms: make(map[proto.Room]*active), wakeAt: -1}
}

// push appends an answer to the pending ones. If it has no record and no other answer is pending,
// push sends it at once. If the term is over, push refuses the command and returns false.
func (t *term) push(a answer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		t.p.s.answer(a.to, t.p.unavailable(t.over), a.since)
		return false
	}
	if a.record == nil && t.pending.len() == 0 {
		t.p.s.answer(a.to, a.reply, a.since)
		return true
	}
	if a.record != nil {
		t.records++
	}
	t.pending.push(a)
	return true
}

// Committed implements [stream.Sink].
func (t *term) Committed(seq uint64) {
	t.mu.Lock()
	t.stored++
	if t.p.s.local != nil {
		t.seqs = append(t.seqs, seq)
	}
	wake := t.giveAnswers()
	t.mu.Unlock()
	t.p.s.metrics.committed.Add(1)
	if wake {
		t.p.wake()
	}
}

// giveAnswers sends pending answers in order. It stops at the first answer whose record is not
// committed or whose snapshot is not written. It returns true if the caller must wake the
// partition. The caller holds mu.
func (t *term) giveAnswers() (wake bool) {
	for t.pending.len() > 0 && !t.saving {
		a := t.pending.peek()
		if a.record != nil {
			if t.answered == t.stored {
				break
			}
			if a.snapshot != nil {
				t.saving = true
				t.saveSnapshot(a.room, a.snapshot, a.erase)
				break
			}
			t.answered++
			t.deliver(a.record)
		}
		t.p.s.answer(a.to, a.reply, a.since)
		t.pending.pop()
	}
	if wake = t.pending.len() <= t.wakeAt; wake {
		t.wakeAt = -1
	}
	return wake
}

// deliver passes a committed record to the gateway in this process, before the sender gets the
// answer. The caller holds mu.
func (t *term) deliver(rec *proto.Record) {
	local := t.p.s.local
	if local == nil {
		return
	}
	delivered := *rec
	delivered.Stream, delivered.Sealed = t.seqs[0], false // the payload is plain here
	t.seqs = t.seqs[1:]
	local.Receive(delivered)
}

// saved is called after the write of the snapshot for which the first pending answer waits. Without
// an error, it sends that answer and the answers behind it. After an error, it ends the term. Then
// the sender sends the act again, and the next term finds the act in the log and writes the
// snapshot.
func (t *term) saved(err error) {
	if err != nil {
		t.Failed(err)
		return
	}
	t.mu.Lock()
	t.saving = false
	wake := false
	if t.pending.len() > 0 { // the term has not ended meanwhile
		t.pending.peek().snapshot = nil
		wake = t.giveAnswers()
	}
	t.mu.Unlock()
	if wake {
		t.p.wake()
	}
}

// free reports whether the window has space for another command. If the window is full, the
// partition is woken when only half a window of answers is pending.
func (t *term) free() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := t.p.s.cfg.Window
	if t.records-t.stored < uint64(limit) && t.pending.len() < 4*limit {
		return true
	}
	t.wakeAt = limit / 2
	return false
}

// settled reports whether no answer is pending. If one is, settled arranges to wake the partition
// when the last answer has been sent.
func (t *term) settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending.len() == 0 {
		return true
	}
	t.wakeAt = 0
	return false
}

// Failed implements [stream.Sink].
func (t *term) Failed(err error) {
	t.end(err)
	t.p.wake()
}

// end ends the term. It refuses the pending commands as unavailable, so that their senders send
// them again. Some of these messages may be stored already; the next owner recognises them by their
// keys.
func (t *term) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		return
	}
	t.over = err
	t.p.missed()
	refusal := t.p.unavailable(err)
	for t.pending.len() > 0 {
		a := t.pending.peek()
		t.p.s.answer(a.to, refusal, a.since)
		t.pending.pop()
	}
}

// status returns how many records are applied and how many are committed, and why the term is over.
func (t *term) status() (records, stored uint64, over error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.records, t.stored, t.over
}

// pendingReplies is a queue of answers, guarded by term.mu. It has no bound of its own, but its
// sources have.
// [partition.work] takes no command from the bounded queue while [term.free] returns false. A room
// that is being read has at most maxWaiting commands.
type pendingReplies struct {
	ring       []answer // length is a power of two
	head, tail uint
}

func (f *pendingReplies) len() int      { return int(f.tail - f.head) }
func (f *pendingReplies) peek() *answer { return &f.ring[f.head&uint(len(f.ring)-1)] }

func (f *pendingReplies) pop() {
	*f.peek() = answer{}
	f.head++
}

func (f *pendingReplies) push(a answer) {
	if f.len() == len(f.ring) {
		bigger := make([]answer, max(16, 2*len(f.ring)))
		n := 0
		for ; f.len() > 0; f.head++ {
			bigger[n] = *f.peek()
			n++
		}
		f.ring, f.head, f.tail = bigger, 0, uint(n)
	}
	f.ring[f.tail&uint(len(f.ring)-1)] = a
	f.tail++
}
