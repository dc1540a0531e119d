package service

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// intake says what a partition does with arriving commands.
type intake int32

const (
	foreign        intake = iota // commands are ignored, because another instance answers them
	acquiring                    // commands with a key wait; commands without a key are ignored, because the old owner may still answer them
	acquiringAlone               // all commands wait, because no other instance can answer them
	refusing                     // commands are refused, because the partition cannot be owned now
	serving                      // commands are answered, because the partition is owned
)

// partition is one of the [proto.Partitions] slices of all rooms, whether this instance
// owns it or not. Its goroutine applies the commands of all its rooms, one after the other.
type partition struct {
	// Safe for concurrent use.
	s            *Service
	number       int
	queue        queue         // a command that does not fit is refused as overloaded
	orders       chan order    // from the owner
	read         chan reading  // rooms that were read from the log
	found        chan lookup   // commands whose lookup is done
	lost         chan report   // reports of gateways; a report that does not fit is dropped, and its gateway repeats it
	woken        chan struct{} // has an element if the queue or the term has changed
	intake       atomic.Int32
	active       atomic.Int64 // rooms in memory, for metrics
	subscription subscription

	// Owned by run.
	term    *term           // nil while another instance owns the partition
	loading int             // number of rooms that are being read from the log
	finding int             // number of commands whose lookup is under way
	release chan<- struct{} // checkTerm closes this channel when no command is under way; nil = the term goes on
	keep    bool            // the release is only a pause: waiting commands stay in the queue
}

// order is one of the types below. The owner sends it to a partition.
type order interface{ order() }

type (
	begin         struct{ term *term }           // the partition answers commands in this term from now on
	release       struct{ done chan<- struct{} } // the partition finishes the commands under way, then closes done
	pause         struct{ done chan<- struct{} } // like release, but commands that wait in the queue stay there
	refuseWaiting struct{}                       // the partition refuses the commands in its queue
	refuseAll     struct{}                       // the partition refuses the commands in its queue and all that arrive later
	passOver      struct{}                       // the partition drops and ignores commands, because another instance answers them
)

func (begin) order()         {}
func (release) order()       {}
func (pause) order()         {}
func (refuseWaiting) order() {}
func (refuseAll) order()     {}
func (passOver) order()      {}

func newPartition(s *Service, number int) *partition {
	return &partition{
		s: s, number: number,
		queue: queue{bound: s.cfg.Queue}, orders: make(chan order),
		read: make(chan reading), found: make(chan lookup), lost: make(chan report, maxReports), woken: make(chan struct{}, 1),
	}
}

// wake makes the partition's goroutine check its queue and its term.
func (p *partition) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// offer puts a command that has arrived for the partition into the queue. Depending on the intake,
// it ignores or refuses the command instead.
func (p *partition) offer(c command) {
	switch intake(p.intake.Load()) {
	case foreign:
		return
	case acquiring:
		if !c.keyed() {
			return
		}
	case refusing:
		p.s.refuse(c.reply, p.unavailable(stream.ErrUnavailable).Refusal)
		return
	}
	if !p.queue.put(c) {
		p.s.refuse(c.reply, overloaded("too much is waiting to be stored"))
		return
	}
	p.wake()
}

func overloaded(why string) *proto.Refusal {
	return proto.Refuse(proto.Overloaded, "%s; send it again with the same key", why).After(overloadedRetry)
}

// maxWait is how long a command may wait for its turn. It is shorter than the time for
// which a gateway waits for an answer. Otherwise a message that its sender has given up could be
// stored after that sender's next message.
const maxWait = time.Second

// How long a client should wait before it sends a refused command again.
const (
	overloadedRetry  = 250 * time.Millisecond
	unavailableRetry = 200 * time.Millisecond
)

// unavailable returns the reply to a command that cannot be committed because of err.
func (p *partition) unavailable(err error) proto.Reply {
	why := "the log cannot be written now"
	if errors.Is(err, stream.ErrLost) {
		why = "another instance has just taken over the room"
	}
	return proto.Reply{Refusal: proto.Refuse(proto.Unavailable, "%s; send it again with the same key", why).After(unavailableRetry)}
}

// run is the partition's goroutine. It ends with ctx.
func (p *partition) run(ctx context.Context) {
	sweep := time.NewTicker(p.s.cfg.Idle / 4)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-p.orders:
			p.obey(o)
		case r := <-p.read:
			p.loaded(ctx, r)
		case l := <-p.found:
			p.lookedUp(ctx, l)
		case r := <-p.lost:
			p.compare(ctx, r)
		case <-p.woken:
		case now := <-sweep.C:
			p.sweep(now)
		}
		p.work(ctx)
		p.checkTerm()
	}
}

// work applies the commands that are in the queue now, while the term has space for them. Commands
// that arrive meanwhile wait until run has checked its channels again, so that orders and reads are
// not delayed.
func (p *partition) work(ctx context.Context) {
	for n := p.queue.len(); n > 0 && p.term != nil && !p.keep && p.term.free(); n-- {
		if c, ok := p.queue.take(); ok {
			p.begin(ctx, c)
		}
	}
}

func (p *partition) obey(o order) {
	switch o := o.(type) {
	case begin:
		if p.term != nil { // the owner has noticed the end of the old term, but this partition has not yet
			p.forget(stream.ErrLost)
		}
		p.term = o.term
		p.missed() // the stream may have stored records of the last term and not acknowledged them
		p.intake.Store(int32(serving))
	case release:
		p.intake.Store(int32(foreign))
		p.release, p.keep = o.done, false
	case pause:
		p.release, p.keep = o.done, true
	case refuseWaiting:
		p.refuseKept(stream.ErrLost)
	case refuseAll:
		p.intake.Store(int32(refusing))
		p.refuseKept(stream.ErrUnavailable) // no other instance will answer these commands
	case passOver:
		p.intake.Store(int32(foreign))
		p.empty(func(command) {})
	}
}

// refuseKept refuses all commands in the queue as unavailable. The error err decides the text of
// the refusal.
func (p *partition) refuseKept(err error) {
	refusal := p.unavailable(err).Refusal
	p.empty(func(c command) { p.s.refuse(c.reply, refusal) })
}

// checkTerm drops a term that has ended. If the partition is to be released and no command is under
// way, checkTerm completes the release.
func (p *partition) checkTerm() {
	if p.term != nil {
		if _, _, over := p.term.status(); over != nil {
			fence := p.term.fence
			p.forget(over)
			p.s.owner.Lost(p.number, fence, over)
		}
	}
	if p.release == nil {
		return
	}
	if p.term != nil {
		// The next owner may not have received the commands in the queue, so this term must answer
		// them before it ends.
		if !p.keep && p.queue.len() > 0 || !p.term.settled() {
			return
		}
		if p.keep { // during a pause no other instance answers, so messages without a key wait too
			p.intake.CompareAndSwap(int32(serving), int32(acquiringAlone))
		}
		p.forget(stream.ErrLost)
	}
	if p.keep {
		p.intake.CompareAndSwap(int32(acquiring), int32(acquiringAlone))
	} else {
		p.empty(func(command) {})
	}
	close(p.release)
	p.release, p.keep = nil, false
}

// empty removes all commands from the queue, and calls handle with each of them.
func (p *partition) empty(handle func(command)) {
	for n := p.queue.len(); n > 0; n-- {
		if c, ok := p.queue.take(); ok {
			handle(c)
		}
	}
}

// forget ends the term, refuses the commands that wait for its rooms, and drops the rooms from
// memory.
func (p *partition) forget(why error) {
	p.term.end(why)
	for _, a := range p.term.rooms {
		for _, c := range a.waiting {
			p.s.refuse(c.reply, p.unavailable(why).Refusal)
		}
	}
	p.term = nil
	p.active.Store(0)
	p.intake.CompareAndSwap(int32(serving), int32(acquiring))
}

// begin applies a command. If the room is not in memory, begin starts a read from the log, and the
// command waits for the result.
func (p *partition) begin(ctx context.Context, c command) {
	now := time.Now()
	if now.Sub(c.since) > maxWait {
		p.s.refuse(c.reply, overloaded("the message has waited too long"))
		return
	}
	a := p.open(ctx, c.to, now)
	if a == nil {
		p.s.refuse(c.reply, overloaded("too many rooms are being read from the log"))
		return
	}
	if a.room == nil {
		if len(a.waiting) >= maxWaiting {
			p.s.refuse(c.reply, overloaded("the room is being read from the log and too much is waiting"))
			return
		}
		a.waiting = append(a.waiting, c)
		return
	}
	p.apply(ctx, a, c)
}

// open returns a room. If the room is not in memory, open begins to read it from the log. It
// returns nil if too many rooms are being read.
func (p *partition) open(ctx context.Context, to proto.Room, now time.Time) *active {
	a := p.term.rooms[to]
	if a == nil && p.loading < maxLoading {
		a = &active{used: now}
		p.term.rooms[to] = a
		p.active.Store(int64(len(p.term.rooms)))
		p.loading++
		p.term.load(ctx, to)
	}
	return a
}

// apply applies the rules of the room to a command. It appends the resulting record to the stream,
// and keeps the answer back until the record is committed.
func (p *partition) apply(ctx context.Context, a *active, c command) {
	t := p.term
	if t == nil {
		p.s.refuse(c.reply, p.unavailable(stream.ErrUnavailable).Refusal)
		return
	}
	if c.reply.state != nil {
		tell(p, a, c)
		return
	}
	cmd, refusal := p.s.read(&c)
	c.reply.act = actOf(&c, &cmd)
	if refusal != nil {
		p.s.refuse(c.reply, refusal)
		return
	}
	if c.seeks(&cmd) {
		p.seek(ctx, c, cmd.Terms.Member)
		return
	}
	cmd.Absent = cmd.Absent || c.absent
	if seq := cmd.Terms.Seq; seq > 0 && seq <= a.room.Seq() {
		if c.found == nil {
			p.find(ctx, c, seq)
			return
		}
		cmd.Target, cmd.Secret = c.found.record, c.found.secret
	}
	var erase []uint64
	if cmd.Act == proto.ActDelete {
		erase = a.room.Records(cmd.Terms.Seq)
	}
	now := time.Now()
	a.used = now
	o := a.room.Apply(&cmd, room.Moment{Now: now, Stream: t.fence.Floor(), MaxRecord: t.fence.MaxRecord()})
	if o.Record == nil && o.Reply.Close == 0 && !p.s.owner.Trusted() {
		// Another instance may own the room by now and may, for example, have reopened it. This
		// answer could then be wrong. An outcome with a record needs no such check: if another
		// instance owns the room, the stream refuses the record.
		o.Reply = p.unavailable(stream.ErrLost)
	}
	if p.s.cfg.LogMessages {
		daemon.LogMessage(p.s.cfg.Log, c.to, &cmd.Request, &o.Reply)
	}
	ans := answer{to: c.reply, reply: o.Reply, record: o.Record, since: c.since}
	if o.Record != nil && o.Record.State.Act == o.Record.Seq {
		snapshot := a.room.Snapshot()
		ans.snapshot, ans.room, ans.erase = &snapshot, c.to, erase
	}
	if !t.push(ans) || o.Record == nil {
		return
	}
	records, _, _ := t.status()
	a.last = records
	// The fence reports the error to the term too, and the term refuses the pending commands.
	_ = t.fence.Append(o.Record)
}

// sweep drops rooms from memory: all rooms without recent commands, and then any rooms while there
// are more than RoomsKept. A room with uncommitted records stays, because the log does not have
// them yet. A room that is about to begin a new epoch stays, because the log does not show that.
func (p *partition) sweep(now time.Time) {
	if p.term == nil {
		return
	}
	_, stored, _ := p.term.status()
	rooms := p.term.rooms
	surplus := len(rooms) - p.s.cfg.RoomsKept
	for name, a := range rooms {
		if a.room == nil || a.last > stored || a.room.Renewing() {
			continue
		}
		if now.Sub(a.used) > p.s.cfg.Idle || surplus > 0 {
			delete(rooms, name)
			surplus--
			continue
		}
		a.room.Expire(now)
	}
	p.active.Store(int64(len(rooms)))
}
