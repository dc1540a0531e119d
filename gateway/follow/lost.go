package follow

import (
	"slices"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
)

// A gateway knows which record its members have seen last. So it notices that the log has lost
// its end, even if roomsvc lost its memory together with the disk of the NATS server.

const (
	reportTicks = 8   // feed ticks between two reports of one room
	reportBatch = 256 // reports of one tick; the other rooms wait for the next tick
)

// lost is a record that members have seen and that the log does not hold. Its feed owns it.
type lost struct {
	proto.Lost
	queued    bool // it is in reports.open
	confirmed bool // an owner has confirmed it since it was queued
	tick      int  // of the last report; 0 = none
}

// reports sends losses to the owners of the rooms until they confirm them. The feed owns
// it.
type reports struct {
	stats *Stats
	nc    *nats.Conn
	inbox string  // prefix of the subjects of answers; the room's token follows
	open  []*room // rooms whose loss no owner has confirmed
}

// compare reports a loss if page shows that the log lacks a record that members have seen. If the
// page has another epoch, the owner knows of the loss already.
func (s *reports) compare(r *room, q history.Query, page history.Page) {
	if page.Gap == nil || page.Gap.Reason != proto.GapReset || page.Head.Epoch != q.Epoch {
		return
	}
	s.stats.LostEnds.Add(1)
	l := &lost{Lost: proto.Lost{Room: r.name, Epoch: q.Epoch, Seq: q.Since, Stream: q.Stream, At: q.At}}
	l.queued = r.lost != nil && r.lost.queued
	r.lost = l
	s.add(r)
}

// add makes the feed report the room's loss until an owner confirms it.
func (s *reports) add(r *room) {
	l := r.lost
	if l == nil {
		return
	}
	if l.confirmed = false; !l.queued {
		l.queued = true
		s.open = append(s.open, r)
	}
}

// send sends the reports that are due, again and again until an answer arrives. An owner without
// space for a report, or that has not loaded the room, does not answer. A room in a new epoch
// needs no report.
func (s *reports) send(tick int) {
	if !s.nc.IsConnected() {
		return
	}
	sent := 0
	s.open = slices.DeleteFunc(s.open, func(r *room) bool {
		l := r.lost
		switch {
		case r.removed:
			return true
		case l.confirmed:
			l.queued = false
			return true
		case r.live && r.tail.head.Epoch != "" && r.tail.head.Epoch != l.Epoch:
			r.lost = nil
			return true
		case sent < reportBatch && (l.tick == 0 || tick-l.tick >= reportTicks):
			sent++
			l.tick = tick
			// After an error, the next report is another try.
			_ = s.nc.PublishRequest(proto.SubjectLost, s.inbox+r.name.Token(), l.JSON())
		}
		return false
	})
}

// confirmed ends the reports of a room, because its owner has answered.
func (s *reports) confirmed(r *room) {
	if r.lost != nil {
		r.lost.confirmed = true
	}
}
