package hub

import (
	"roomcast/gateway/loop"
	"roomcast/proto"
	"roomcast/proto/history"
)

// Notice reports a change of a connection or of one of its memberships.
type Notice struct {
	Kind   NoticeKind
	Room   proto.Room
	Head   history.Head // set in Joined and Barred
	Member string       // the id of the kicked user; set in Kicked
	Why    string       // the moderator's reason; set in Closed, Kicked and Barred
	Err    error        // the reason; set in Refused, and in Lost if another try would not help
}

// NoticeKind is the kind of a notice.
type NoticeKind uint8

// The notices.
const (
	Joined  NoticeKind = iota // the connection is a member; its replay follows the bytes that the session sends in response
	Refused                   // the room cannot be followed; the connection is not a member
	Closed                    // the connection has received the event that closes the room, and is still a member
	Kicked                    // a moderator has kicked Member; every session in the room gets this notice
	Barred                    // the bans of the room have changed; Head contains them
	Lost                      // the member would miss events, because the hub cannot read the log further
	Slow                      // the client does not read, and too many bytes wait for it
	Blocked                   // the connection accepts no bytes now; the session must call Stuck later
	Drained                   // all queued bytes have been written; follows Close and TellDrained
)

// notices contains notices that were not passed to the sessions yet.
type notices struct{ list []notice }

// notice is a [Notice] and its connection.
type notice struct {
	Notice
	id       loop.ID
	audience uint32 // the audience that was joined; set in Joined
}

func (ns *notices) add(id loop.ID, n Notice) { ns.list = append(ns.list, notice{Notice: n, id: id}) }

// joined adds a Joined notice for a member of the audience.
func (ns *notices) joined(id loop.ID, a *audience) {
	n := Notice{Kind: Joined, Room: a.room.Name, Head: a.room.Head}
	ns.list = append(ns.list, notice{n, id, a.self})
}

// dispatcher passes notices to the sessions. Notices wait until run is called. So no session
// acts while the hub is in the middle of an operation.
type dispatcher struct {
	*notices
	sessions Sessions
	conns    *conns
	catchups *catchups
}

func (d *dispatcher) run() {
	for i := 0; i < len(d.list); i++ { // a session may cause more notices
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
