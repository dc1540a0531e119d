package service

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"roomcast/proto"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// intake is what a partition does with arriving commands.
type intake int32

const (
	foreign        intake = iota // another instance answers them: they are ignored
	acquiring                    // commands with a key wait; the old owner may still answer the others
	acquiringAlone               // all commands wait, because no other instance answers them
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
	read         chan reading  // rooms after their read from the log
	found        chan lookup   // commands after their read or question
	lost         chan report   // from gateways; they repeat a report that does not fit
	woken        chan struct{} // the queue or the term has changed
	intake       atomic.Int32
	active       atomic.Int64 // rooms in memory, for metrics
	subscription subscription

	// Owned by run.
	term    *term           // nil while another instance owns the partition
	loading int             // rooms being read from the log
	finding int             // commands that wait for a read or a question
	release chan<- struct{} // closed when no command is under way; nil if nobody waits for it
	keep    bool            // commands stay in the queue after the release
}

// order is one of the types below. The owner sends it to a partition.
type order interface{ order() }

type (
	begin         struct{ term *term }           // answers commands
	release       struct{ done chan<- struct{} } // finishes the commands under way, then closes done
	pause         struct{ done chan<- struct{} } // the same, but keeps the waiting commands
	refuseWaiting struct{}                       // refuses the waiting commands
	refuseAll     struct{}                       // refuses the waiting and all arriving commands
	passOver      struct{}                       // leaves all commands to another instance
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

// offer accepts a command that has arrived for the partition, if the intake allows it.
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

// unavailable returns the reply to a command that err kept from being committed.
func (p *partition) unavailable(err error) proto.Reply {
	why := "the log cannot be written now"
	if errors.Is(err, stream.ErrLost) {
		why = "the room has just gone to another instance"
	}
	return proto.Reply{Refusal: proto.Refuse(proto.Unavailable, "%s; send it again with the same key", why).After(unavailableRetry)}
}

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
		p.look()
	}
}

// work applies the commands that are in the queue now, while the term has space for them. Commands
// that arrive during work get their turn after orders and reads.
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
		if p.term != nil { // the owner noticed the end of the old term before this partition
			p.forget(stream.ErrLost)
		}
		p.term = o.term
		p.missed() // the last term may have stored records without learning it
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
		p.refuseKept(stream.ErrUnavailable) // no other instance answers them
	case passOver:
		p.intake.Store(int32(foreign))
		p.empty(func(command) {})
	}
}

// refuseKept refuses the waiting commands as unavailable, because of err.
func (p *partition) refuseKept(err error) {
	refusal := p.unavailable(err).Refusal
	p.empty(func(c command) { p.s.refuse(c.reply, refusal) })
}

// look checks whether the term is over. It also ends a term that is to be released and has no
// command under way.
func (p *partition) look() {
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
		// The next owner may not have received the waiting commands.
		if !p.keep && p.queue.len() > 0 || !p.term.settled() {
			return
		}
		if p.keep { // no other instance answers meanwhile, so messages without a key are kept too
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

// empty removes the waiting commands from the queue.
func (p *partition) empty(each func(command)) {
	for n := p.queue.len(); n > 0; n-- {
		if c, ok := p.queue.take(); ok {
			each(c)
		}
	}
}

// forget ends the term.
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

// begin applies a command, or has its room read from the log first.
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

// apply applies the rules to a command, appends the record to the stream and keeps the answer until
// the record is committed.
func (p *partition) apply(ctx context.Context, a *active, c command) {
	t := p.term
	if t == nil {
		p.s.refuse(c.reply, p.unavailable(stream.ErrUnavailable).Refusal)
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
	if seq := cmd.Terms.Seq; seq > 0 && seq <= a.room.Seq() {
		if c.found == nil {
			p.find(ctx, c, seq)
			return
		}
		cmd.Target = c.found.record
	}
	var erase []uint64
	if cmd.Act == proto.ActDelete {
		erase = a.room.Records(cmd.Terms.Seq)
	}
	now := time.Now()
	a.used = now
	o := a.room.Apply(&cmd, room.Moment{Now: now, Stream: t.fence.Floor(), MaxRecord: t.fence.MaxRecord()})
	if o.Record == nil && o.Reply.Close == 0 && !p.s.owner.Trusted() {
		// Another instance may own the room by now and know more, for example that the room was
		// reopened. A record needs no such check, because the fence decides.
		o.Reply = p.unavailable(stream.ErrLost)
	}
	if p.s.cfg.LogMessages {
		p.s.logMessage(&cmd, c.to, &o)
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
	// The term gets the error too, and refuses the pending commands.
	_ = t.fence.Append(o.Record)
}

// sweep drops rooms that are not needed: rooms without recent messages, and more of them if there
// are too many. A room with uncommitted records stays, because the log does not have them yet. A
// room that begins a new epoch stays too.
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
