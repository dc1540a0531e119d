package service

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// maxStateBytes bounds the snapshots in one answer. The answer leaves out a room whose snapshot
// does not fit, unless it is the first room of the answer. The limit of a NATS message is 1 MiB.
const maxStateBytes = 512 << 10

// question is a gateway's request for the states of rooms of one partition. The service answers
// when the partition has dealt with each of the rooms. If another instance now owns the partition,
// the partition drops its rooms. Then the question gets no answer, and the gateway asks again. A
// question is safe for concurrent use.
type question struct {
	s    *Service
	from micro.Request

	mu     sync.Mutex // guards the fields below
	open   int        // number of rooms that the partition has not dealt with
	bytes  int        // size of the snapshots in states
	states proto.States
}

// state is one room of a question. The partition sets its values before it calls done.
type state struct {
	question *question
	room     proto.Room
	seq      uint64
	snapshot proto.Snapshot
}

// answerStates passes the rooms of a question to their partition. Every instance receives the
// question, and only the owner answers. Only clients of the gateways' account, or of this service's
// own account, can ask.
func (a api) answerStates(r micro.Request) {
	number, ok := proto.AskedPartition(r.Subject())
	if !ok {
		return
	}
	p := a.s.parts[number]
	if intake(p.intake.Load()) != serving {
		return
	}
	rooms, err := proto.ParseAskStates(r.Data(), number)
	if err != nil {
		a.s.cfg.Log.Debug("parse request of a gateway", "error", err)
		return
	}
	q := &question{s: a.s, from: r, open: len(rooms), states: make(proto.States, len(rooms))}
	for _, room := range rooms {
		p.offer(command{reply: returnPath{state: &state{question: q, room: room}}, to: room, since: time.Now()})
	}
}

// tell answers a question for the state of a room in memory. Like every answer, this one waits
// until the records applied before it are committed. If another instance may have replaced this
// owner, the answer is a refusal.
func tell(p *partition, a *active, c command) {
	var reply proto.Reply
	if !p.s.owner.Trusted() {
		reply = p.unavailable(stream.ErrLost)
	}
	c.reply.state.seq, c.reply.state.snapshot = a.room.Seq(), a.room.Snapshot()
	p.term.push(answer{to: c.reply, reply: reply, since: c.since})
}

// done adds the state to the answer of its question. If told is false, the partition did not know
// the state, and the answer lacks the room. When done has been called for all rooms of the
// question, it sends the answer.
func (st *state) done(told bool) {
	var snapshot []byte
	if told {
		var err error
		if snapshot, err = st.snapshot.AppendJSON(nil); err != nil {
			st.question.s.cfg.Log.Error("write state of room", "room", st.room.String(), "error", err)
			told = false
		}
	}
	q := st.question
	q.mu.Lock()
	defer q.mu.Unlock()
	if told && (len(q.states) == 0 || q.bytes+len(snapshot) <= maxStateBytes) {
		q.states[st.room.String()] = proto.OwnerState{Seq: st.seq, Snapshot: snapshot}
		q.bytes += len(snapshot)
	}
	if q.open--; q.open > 0 {
		return
	}
	if err := q.from.RespondJSON(q.states); err != nil {
		q.s.metrics.unsent.Inc() // the gateway asks again
	}
}
