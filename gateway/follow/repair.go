package follow

import (
	"context"

	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// After this many failed repairs in a row, the feed ends the sessions of the room's members.
// Between two attempts about one feedTick passes. A failure does not count if the log cannot be
// reached at all.
const (
	maxUnread  = 3  // if this gateway cannot decode a record
	maxRepairs = 40 // if the repairs fail for another reason
)

// repairs reads from the log the records that sequencers miss. The feed owns it.
type repairs struct {
	shared
	reports *reports
	retry   []*room // rooms whose last repair failed
}

// begin starts a read of the records that the room misses, unless such a read is in progress.
func (p *repairs) begin(r *room) {
	if !r.live || r.reading || !r.sequencer.behind() {
		return
	}
	if len(r.followers) == 0 {
		r.live = false // no follower needs the records now; the next follower makes the feed read the head
		r.sequencer = sequencer{}
		return
	}
	r.reading = true
	q := history.Query{
		Room: r.name, Since: r.sequencer.head.Seq, HasSince: true, Epoch: r.sequencer.head.Epoch, At: r.sequencer.head.At,
		Stream: r.sequencer.head.Stream, Reach: r.sequencer.reach, Limit: history.MaxLimit,
	}
	p.stats.Repairs.Add(1)
	p.reader.Do(func(ctx context.Context) {
		page, err := p.reader.Page(ctx, q)
		p.box.Put(func() { p.done(r, q, page, err) })
	}, func() {
		p.box.Put(func() { p.done(r, q, history.Page{}, reads.Overloaded()) })
	})
}

func (p *repairs) done(r *room, q history.Query, page history.Page, err error) {
	r.reading = false
	if !r.live {
		if len(r.waiting) > 0 {
			p.rooms.open(r)
		} else {
			r.sequencer = sequencer{}
		}
		return
	}
	if err != nil {
		if p.failed(r, q, err) {
			return
		}
		p.log.Warn("fill hole of room", "room", r.name.String(), "error", err)
		p.retry = append(p.retry, r)
		return
	}
	r.failures = 0
	p.reports.compare(r, q, page)
	if gap := page.Gap; gap != nil && (gap.Reason == proto.GapReset || gap.To > r.sequencer.head.Seq) {
		p.skip(r, *gap, page)
	}
	r.sequencer.reached(page.Head)
	for _, rec := range page.Records {
		r.sequencer.take(rec, r.deliverRecord)
	}
	r.sequencer.release(r.deliverRecord)
	if r.sequencer.head.Seq == q.Since && page.Gap == nil && r.sequencer.reach == q.Reach {
		// The stream's leader knows no later record. So the record that arrived does not exist
		// in the log.
		r.sequencer.reach, r.sequencer.held = r.sequencer.head.Seq, nil
	}
	p.begin(r)
}

// skip announces a gap for records that the log no longer contains. Delivery continues after the
// gap.
func (p *repairs) skip(r *room, gap proto.Gap, page history.Page) {
	p.stats.Gaps.Add(1)
	p.log.Warn("records are missing", "room", r.name.String(), "from", gap.From, "to", gap.To, "reason", string(gap.Reason))
	if gap.Reason == proto.GapReset {
		r.sequencer.held = nil // they may belong to either epoch, so read them from the log
	} else {
		gap.From = max(gap.From, r.sequencer.head.Seq+1) // the members have received the records that arrived during the read
	}
	r.deliver(Delivery{Room: r.name, JSON: gap.AppendJSON(nil), Gap: &gap, Limits: page.Head.Limits})
	start := history.Head{Seq: gap.To, Epoch: page.Head.Epoch, Limits: page.Head.Limits}
	if len(page.Records) > 0 {
		start.Seq = page.Records[0].Seq - 1
	}
	if start.Seq == page.Head.Seq {
		start = page.Head // the page contains no records
	}
	r.sequencer.begin(start, r.deliverRecord)
}

// retryFailed repeats the failed repairs. It need not wait, because the failed read has already taken
// some time.
func (p *repairs) retryFailed() {
	rooms := p.retry
	p.retry = nil
	for _, r := range rooms {
		if !r.removed {
			p.begin(r)
		}
	}
}

// failed counts a failed repair, and reports whether to give up. It gives up after too many
// failures that waiting does not solve. Then it ends the sessions of the room's members. They would
// otherwise wait for ever.
func (p *repairs) failed(r *room, q history.Query, err error) bool {
	why := proto.AsRefusal(reads.Refusal(err))
	if why.Temporary() {
		return false
	}
	most := maxRepairs
	if reads.Unreadable(err) != nil {
		most = maxUnread
	}
	if r.failures++; r.failures < most {
		return false
	}
	if most == maxUnread {
		p.reader.PageFailed(q, err)
	} else {
		p.log.Error("fill hole of room", "room", r.name.String(), "error", err)
	}
	p.stats.Lost.Add(1)
	r.deliver(Delivery{Room: r.name, Lost: why})
	r.live, r.failures, r.sequencer = false, 0, sequencer{}
	return true
}
