package service

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/roomsvc/room"
)

// maxReports is how many reports of gateways may wait for one partition.
const maxReports = 64

// report is a gateway's report of a record that the log does not hold, on its way
// through a partition.
type report struct {
	proto.Lost
	from   micro.Request
	term   *term // in which the log was asked; nil = it was not
	absent bool  // the log does not hold the record; only with term
}

// hearLost passes a report on to its partition. The gateway repeats it until the owner
// answers, so that it may be dropped here. Only the account of the gateways, or whoever
// shares the account of this service, can send one.
func (a api) hearLost(r micro.Request) {
	l, err := proto.ParseLost(r.Data())
	if err != nil {
		a.s.cfg.Log.Debug("report of a gateway cannot be read", "error", err)
		return
	}
	p := a.s.parts[l.Room.Partition()]
	if intake(p.intake.Load()) != serving {
		return
	}
	select {
	case p.lost <- report{Lost: l, from: r}:
	default:
	}
}

// compare renews the epoch of a room that does not hold what a gateway has shown, and
// answers the gateway. A report is not believed but compared: the gateway may have asked a
// replica that is behind.
func (p *partition) compare(ctx context.Context, r report) {
	if p.term == nil || r.term != nil && r.term != p.term {
		return
	}
	a := p.open(ctx, r.Room, time.Now())
	switch {
	case a == nil:
		return
	case a.room == nil:
		a.report = &r
		return
	}
	switch a.room.Compare(r.Epoch, r.Seq, r.At) {
	case room.Missing:
		p.renew(a, r.Lost)
	case room.Unsure:
		if r.term == nil {
			p.askLog(ctx, r)
			return
		}
		if r.absent {
			p.renew(a, r.Lost)
		}
	}
	if err := r.from.Respond(nil); err != nil {
		p.s.metrics.unsent.Inc() // the gateway asks again
	}
}

// renew has the next record of the room begin a new epoch.
func (p *partition) renew(a *active, l proto.Lost) {
	a.room.Renew()
	p.s.metrics.renewed.Inc()
	if now := time.Now().Unix() / 60; p.s.renewed.Swap(now) != now {
		p.s.cfg.Log.Error("a gateway has shown records that the log does not hold: acknowledged messages are gone, and rooms begin new epochs",
			"stream", proto.StreamName, "room", l.Room.String(), "epoch", l.Epoch, "shown_seq", l.Seq, "log_seq", a.room.Seq())
	}
}

// askLog asks the log whether it holds the record of a report, and hands the report back
// to the partition. The gateway repeats a report whose record cannot be read now.
func (p *partition) askLog(ctx context.Context, r report) {
	r.term = p.term
	select {
	case p.s.readers <- struct{}{}:
	default:
		return
	}
	p.s.tasks.Go(func() {
		page, err := r.term.readPage(ctx, history.Query{
			Room: r.Room, Since: r.Seq, HasSince: true, Epoch: r.Epoch, At: r.At, Stream: r.Stream, Limit: 1,
		})
		<-p.s.readers
		if err != nil || page.Head.Seq < r.Seq { // the owner knows of more
			return
		}
		r.absent = page.Gap != nil && page.Gap.Reason == proto.GapReset && page.Head.Epoch == r.Epoch
		select {
		case p.lost <- r:
		case <-ctx.Done():
		}
	})
}
