package bridge

import (
	"slices"

	"roomcast/proto"
	"roomcast/proto/history"
)

// The gateway is the second witness of a log that has lost its end. It still knows which
// record its members saw last where roomsvc and the NATS server's disk forgot it together.

const (
	reportTicks = 8   // between two reports of one room that no owner has confirmed
	reportBatch = 256 // reports of one tick; the other rooms wait for the next
)

// lost is a record that members were shown and the log does not hold. Its feed owns it.
type lost struct {
	proto.Lost
	queued    bool // it is in feed.untold
	confirmed bool // by an owner, since it was last queued
	tick      int  // of the last report
}

// testify reports a loss to the room's owner if page shows that the log is not the one that
// members have seen. A page of another epoch shows no such thing: the owner knows already.
func (f *feed) testify(r *room, q history.Query, page history.Page) {
	if page.Gap == nil || page.Gap.Reason != proto.GapReset || page.Head.Epoch != q.Epoch {
		return
	}
	f.b.stat.lost.Add(1)
	l := &lost{Lost: proto.Lost{Room: r.name, Epoch: q.Epoch, Seq: q.Since, Stream: q.Stream, At: q.At}, tick: f.ticks - reportTicks}
	l.queued = r.lost != nil && r.lost.queued
	r.lost = l
	f.report(r)
}

// report has the room's loss reported until an owner confirms it, if the room is still in
// the epoch of the loss.
func (f *feed) report(r *room) {
	l := r.lost
	if l == nil {
		return
	}
	if l.confirmed = false; !l.queued {
		l.queued = true
		f.untold = append(f.untold, r)
	}
}

// reportAgain sends the reports that are due. An owner that has no room for one, or that
// has not read the room yet, does not answer.
func (f *feed) reportAgain() {
	if !f.nc.IsConnected() {
		return
	}
	sent := 0
	f.untold = slices.DeleteFunc(f.untold, func(r *room) bool {
		l := r.lost
		switch {
		case f.rooms[r.name.Token()] != r:
			return true
		case l.confirmed:
			l.queued = false
			return true
		case r.live && r.tail.head.Epoch != "" && r.tail.head.Epoch != l.Epoch:
			r.lost = nil
			return true
		case sent < reportBatch && f.ticks-l.tick >= reportTicks:
			sent++
			l.tick = f.ticks
			// A report that cannot be sent is sent again.
			_ = f.nc.PublishRequest(proto.SubjectLost, f.home+r.name.Token(), l.JSON())
		}
		return false
	})
}

// confirmed ends the reports of a room: its owner has compared it with the log.
func (f *feed) confirmed(r *room) {
	if r.lost != nil {
		r.lost.confirmed = true
	}
}
