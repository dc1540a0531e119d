package hub

import (
	"roomcast/gateway/loop"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Notice reports one thing about one connection.
type Notice struct {
	Kind   NoticeKind
	Room   proto.Room
	Head   history.Head // of Joined and Barred
	Member string       // of Kicked
	Why    string       // of Closed, Kicked and Barred
	Err    error        // of Refused; also of Lost, if another try would not help
}

// NoticeKind is the kind of a notice.
type NoticeKind uint8

// The notices.
const (
	Joined  NoticeKind = iota // the connection is a member; its replay follows the bytes that the session sends now
	Refused                   // the room cannot be followed; the connection is no member
	Closed                    // the connection has been shown that the room is closed; it is still a member
	Kicked                    // a moderator has kicked Member, who may be another member
	Barred                    // the bans of the room have changed; Head has them
	Lost                      // the member would miss events, because the log cannot be read further
	Slow                      // the connection does not read, and too many bytes wait
	Blocked                   // the connection takes no more bytes for now; ask Stuck later
	Drained                   // the connection's queue is empty: after Close or TellDrained
)

// notices wait to be passed to the sessions.
type notices struct{ list []notice }

type notice struct {
	Notice
	id       loop.ID
	audience uint32 // of Joined
}

func (ns *notices) add(id loop.ID, n Notice) { ns.list = append(ns.list, notice{Notice: n, id: id}) }

// joined adds a Joined notice of a member of the audience.
func (ns *notices) joined(id loop.ID, a *audience) {
	n := Notice{Kind: Joined, Room: a.room.Name, Head: a.room.Head}
	ns.list = append(ns.list, notice{n, id, a.self})
}

// dispatcher passes notices to the sessions. Notices wait until run is called, so that no session
// acts while the hub is in the middle of an operation.
type dispatcher struct {
	*notices
	sessions Sessions
	conns    *conns
	catchups *catchups
}

func (d *dispatcher) run() {
	for i := 0; i < len(d.list); i++ { // a session may cause further notices
		n := d.list[i]
		d.sessions.OnNotice(n.id, n.Notice)
		if n.Kind != Joined {
			continue
		}
		c, a := d.conns.live(n.id), d.catchups.fanout.audiences[n.audience]
		if c == nil || a == nil || a.room.Name != n.Room {
			continue
		}
		if m := d.conns.find(c, n.audience); m >= 0 {
			d.catchups.start(c, d.conns.memberships(c)[m], n.Head)
		}
	}
	clear(d.list)
	d.list = d.list[:0]
}
