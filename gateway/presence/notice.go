package presence

import (
	"time"

	"roomcast/proto"
)

// The members of a room receive at most this many joins and leaves a second. If there are more, the
// next second begins with one count that sums them up.
const (
	noticeRate = 10
	countRate  = 1 // in rooms with more than [proto.MaxListed] people
)

// Notice tells members that a person has come or gone.
type Notice struct {
	Left   bool
	Who    proto.Identity    // zero = the notice has only the count
	Reason proto.LeaveReason // of a leave
	Count  int               // people in the room
}

// AppendJSON appends the frame that members receive.
func (n *Notice) AppendJSON(b []byte, room proto.Room) []byte {
	if n.Left {
		return proto.AppendLeft(b, room, n.Who, n.Count, n.Reason)
	}
	return proto.AppendJoined(b, room, n.Who, n.Count)
}

// notices limits the notices of one room. Its tracker owns it.
type notices struct {
	ready   []Notice
	second  int64 // the second that told belongs to
	told    int
	pending bool   // a count is due
	latest  Notice // gives the pending count its kind and reason
	shown   int    // the last count that members received
}

func (n *notices) add(a Notice, now time.Time) {
	if n.second != now.Unix() {
		n.second, n.told = now.Unix(), 0
	}
	if n.pending || n.told >= rate(a.Count) {
		n.pending, n.latest = true, a
		return
	}
	n.told++
	if a.Count > proto.MaxListed {
		a.Who = proto.Identity{}
	}
	n.ready = append(n.ready, a)
}

// count sums up the further notices of this second as one count, because the changes are no news to
// members.
func (n *notices) count(count int) {
	if !n.pending {
		n.pending, n.latest = true, Notice{Count: count}
	}
}

func rate(count int) int {
	if count > proto.MaxListed {
		return countRate
	}
	return noticeRate
}

// take returns the notices that are due in a room of count people.
func (n *notices) take(count int, now time.Time) []Notice {
	if n.second != now.Unix() {
		n.second, n.told = now.Unix(), 0
	}
	if n.pending && n.told < rate(count) {
		n.pending = false
		n.told++
		if last := n.last(); last != count {
			a := n.latest
			a.Who, a.Count = proto.Identity{}, count
			n.ready = append(n.ready, a)
		}
	}
	n.shown = n.last()
	ready := n.ready
	n.ready = nil
	return ready
}

// last returns the count that members have received, or are about to.
func (n *notices) last() int {
	if len(n.ready) > 0 {
		return n.ready[len(n.ready)-1].Count
	}
	return n.shown
}
