package presence

import (
	"time"

	"roomcast/proto"
)

// The members of a room receive at most this many joins and leaves per second. If there are
// more, the members receive a single notice with the count at the beginning of the next second.
const (
	noticeRate = 10
	countRate  = 1 // in rooms with more than [proto.MaxListed] people
)

// Notice tells the members of a room that a person has joined or left.
type Notice struct {
	Left   bool
	Who    proto.Identity    // zero = the notice contains only the count
	Reason proto.LeaveReason // reason of a leave
	Count  int               // number of people in the room
}

// AppendJSON appends the notice in the form that members receive.
func (n *Notice) AppendJSON(b []byte, room proto.Room) []byte {
	if n.Left {
		return proto.AppendLeft(b, room, n.Who, n.Count, n.Reason)
	}
	return proto.AppendJoined(b, room, n.Who, n.Count)
}

// notices limits the notices in one room. The room's tracker owns it.
type notices struct {
	ready   []Notice
	second  int64 // the second in which the notices counted by told were sent
	told    int
	pending bool   // a notice with only the count must be sent
	latest  Notice // kind and reason for that notice
	shown   int    // the last count that members have received
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

// count makes the members receive a notice with only the count, in place of the changes that follow
// in this second. The tracker calls it when it learns of people who were in the room before. They
// are not joining now, so there is no join to report.
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

// take returns the notices that must be sent now, in a room with count people.
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

// last returns the count that members have received, or will receive with the waiting notices.
func (n *notices) last() int {
	if len(n.ready) > 0 {
		return n.ready[len(n.ready)-1].Count
	}
	return n.shown
}
