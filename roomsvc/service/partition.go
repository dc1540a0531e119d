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

// intake says what a partition does with the commands that arrive for it.
type intake int32

const (
	foreign        intake = iota // another instance's: they are passed over
	acquiring                    // commands with a key wait; the old owner may still answer the others
	acquiringAlone               // all wait, because no other instance answers them
	refusing                     // the partition cannot be owned now
	serving                      // owned
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
	found        chan lookup   // commands for which something was read or asked
	lost         chan report   // from gateways; they repeat a report that does not fit
	woken        chan struct{} // something has changed in the queue or the term
	intake       atomic.Int32
	active       atomic.Int64 // rooms in memory, for metrics
	subscription subscription

	// Owned by run.
	term    *term           // nil while another instance owns the partition
	loading int             // rooms being read from the log
	finding int             // commands for which something is being read or asked
	release chan<- struct{} // closed when nothing is under way; nil if nobody waits for that
	keep    bool            // commands stay in the queue after the release
}

// order is one of these types. The owner gives it to a partition.
type order interface{ order() }

type (
	begin         struct{ term *term }           // answers commands
	release       struct{ done chan<- struct{} } // finishes what is under way, then closes done
	pause         struct{ done chan<- struct{} } // the same, and keeps the commands that wait
	refuseWaiting struct{}                       // refuses the commands that wait
	refuseAll     struct{}                       // refuses them, and those that arrive
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

// wake makes the goroutine look at its queue and its term.
func (p *partition) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// offer takes a command that arrived for the partition.
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

// maxWait is how long a command may wait for its turn. It is shorter than a gateway's
// patience: a message that its sender has given up must not be stored behind a later one.
const maxWait = time.Second

// How long to wait before a refused command is worth sending again.
const (
	overloadedRetry  = 250 * time.Millisecond
	unavailableRetry = 200 * time.Millisecond
)

// unavailable returns the reply to a command that could not be committed for err.
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

// work applies the commands that are queued now, while the term is free to take them.
// Commands that arrive meanwhile have their turn after orders and reads.
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
		if p.term != nil { // the owner has seen the old term end before this partition did
			p.forget(stream.ErrLost)
		}
		p.term = o.term
		p.missed() // the last term may have left records that it did not know to be stored
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
		p.refuseKept(stream.ErrUnavailable) // nobody else answers them
	case passOver:
		p.intake.Store(int32(foreign))
		p.empty(func(command) {})
	}
}

// refuseKept refuses the commands whose turn has not come as unavailable, for err.
func (p *partition) refuseKept(err error) {
	refusal := p.unavailable(err).Refusal
	p.empty(func(c command) { p.s.refuse(c.reply, refusal) })
}

// look sees whether the term is over, or may end because it is to be released and
// nothing is on its way.
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
		// The next owner may not have heard what waits.
		if !p.keep && p.queue.len() > 0 || !p.term.settled() {
			return
		}
		if p.keep { // nobody else answers meanwhile, so messages without a key are kept too
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

// empty takes the commands whose turn has not come out of the queue.
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

// begin takes a command in hand: it applies it, or has its room read from the log first.
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

// open returns a room, which is read from the log first if it is not in memory; nil if too
// many are being read.
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

// apply lets the rules decide, sends the record on its way and keeps the answer until it
// may be given.
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
		// Another instance may own the room by now and know better, for example that it has
		// been reopened. A record needs no such doubt: the fence decides.
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
	// An error has been told to the term, which refuses what is on its way.
	_ = t.fence.Append(o.Record)
}

// sweep forgets what is not needed: rooms in which nobody spoke lately, and more of them
// if there are too many. A room with records on their way stays, for the log does not
// know them yet, and so does one that begins a new epoch.
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
