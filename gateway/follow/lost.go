package follow

import (
	"slices"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
)

// A gateway knows the last record that its members have received. So it notices that the log has
// lost its end. roomsvc may not notice, because it may have restarted at the same time.

const (
	reportTicks = 8   // number of feed ticks between two reports about the same room
	reportBatch = 256 // the most reports in one tick; the other rooms wait for the next tick
)

// lost describes a record that members have received and the log does not contain. The feed owns
// it.
type lost struct {
	proto.Lost
	queued    bool // the room is in reports.open
	confirmed bool // an owner has confirmed the loss since the room was put into reports.open
	tick      int  // when the loss was last reported; 0 = never
}

// reports repeatedly sends the losses to the owners of the rooms, until the owners confirm them.
// The feed owns it.
type reports struct {
	stats *Stats
	nc    *nats.Conn
	inbox string  // prefix of the subjects of answers, followed by the room's token
	open  []*room // rooms with a loss that no owner has confirmed
}

// compare reports a loss if page shows that the log lacks a record that members have received.
// If the page has another epoch, the room's owner already knows of the loss.
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

// send sends the reports that are due. Each report is repeated until an owner answers. An owner
// does not answer if it has no space for the report or has not loaded the room. If the room has
// begun a new epoch, the loss is known, and send drops the report.
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
		case r.live && r.sequencer.head.Epoch != "" && r.sequencer.head.Epoch != l.Epoch:
			r.lost = nil
			return true
		case sent < reportBatch && (l.tick == 0 || tick-l.tick >= reportTicks):
			sent++
			l.tick = tick
			// If sending fails, the next report is another attempt.
			_ = s.nc.PublishRequest(proto.SubjectLost, s.inbox+r.name.Token(), l.JSON())
		}
		return false
	})
}

// confirmed ends the reports for a room, because its owner has answered.
func (s *reports) confirmed(r *room) {
	if r.lost != nil {
		r.lost.confirmed = true
	}
}
