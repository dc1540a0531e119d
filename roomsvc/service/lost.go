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

// report says that a gateway has sent a record to members, but does not find it in the log.
type report struct {
	proto.Lost
	from   micro.Request
	term   *term // the term that has looked for the record in the log; nil = no term has looked yet
	absent bool  // the log does not have the record; valid only if term is set
}

// answerLost passes a report on to its partition, which answers it. It may drop the report, because
// the gateway repeats a report until the owner answers. Only clients of the gateways' account, or
// of this service's own account, can send a report.
func (a api) answerLost(r micro.Request) {
	l, err := proto.ParseLost(r.Data())
	if err != nil {
		a.s.cfg.Log.Debug("parse report of a gateway", "error", err)
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

// compare checks a gateway's report against the room. If the room's log lacks an event that the
// gateway has sent to members, compare gives the room a new epoch. Then it answers the gateway. The
// report alone proves nothing, because the gateway may have read a replica that is behind.
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
		p.s.metrics.unsent.Inc() // the gateway repeats the report
	}
}

// renew makes the next record of the room begin a new epoch, and logs and counts that.
func (p *partition) renew(a *active, l proto.Lost) {
	a.room.Renew()
	p.s.metrics.renewed.Inc()
	if now := time.Now().Unix() / 60; p.s.renewed.Swap(now) != now {
		p.s.cfg.Log.Error("a gateway has sent records to members that the log lacks: acknowledged messages are gone, and rooms begin new epochs",
			"stream", proto.StreamName, "room", l.Room.String(), "epoch", l.Epoch, "shown_seq", l.Seq, "log_seq", a.room.Seq())
	}
}

// askLog starts a goroutine that looks for the record of a report in the log, and then passes the
// report back to the partition. If the log cannot be read now, askLog drops the report, and the
// gateway repeats it.
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
		if err != nil || page.Head.Seq < r.Seq { // the owner has a record with this seq, so the replica that has answered is behind
			return
		}
		r.absent = page.Gap != nil && page.Gap.Reason == proto.GapReset && page.Head.Epoch == r.Epoch
		select {
		case p.lost <- r:
		case <-ctx.Done():
		}
	})
}
