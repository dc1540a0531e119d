// Package session turns a loop's connections into sessions, answers the commands of clients, and
// closes the sessions that break a rule. There are text sessions and JSON sessions over
// WebSocket, readers of streams such as Server-Sent Events, and HTTP requests that wait for
// messages.
//
// All bytes for clients go through the loop's [hub.Hub], which keeps them in order. To store or
// read messages, this package calls the [bridge.Bridge]. The answers of the bridge come back to
// the loop through the hub. No function of this package blocks.
//
// # Reading order
//
// handshake.go: how a session begins. frame.go and dispatch.go: frames of clients. Then one file
// for each verb: say.go, join.go, leave.go, history.go, members.go, signal.go, auth.go.
// ask.go and asksay.go: what the backend decides. pass.go and ticket.go: credentials that the
// gateway makes. stream.go: readers of several rooms. poll.go: requests that wait. lifecycle.go:
// how sessions end. state.go: the state of a session.
package session

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/hub"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// Config sets what sessions may do.
type Config struct {
	MaxMessage int          // bytes of one message; a longer one is refused, and closes a text session with 1009
	MaxRooms   int          // the most rooms that one session may be in
	Rate       limit.Rate   // limit of commands and messages of one connection
	Rates      *limit.Rates // limits of commands and messages of each sender with a credential, shared by all loops; nil = no limit
	Greeting   string       // first text frame of a text session; "" = none

	HandshakeTime time.Duration // time limit from accept to the end of the request
	MaxRequest    int           // the most bytes of a request head; a longer one is refused with 431
	PathPrefix    string        // such as /chat, in front of all paths; "" = none
	MessageTime   time.Duration // time limit from the first byte of a message to its last
	PingAfter     time.Duration // how long a session is silent before the gateway sends a ping
	PongTime      time.Duration // time limit for the answer to a ping
	SlowTime      time.Duration // how long bytes may wait for a client that accepts none
	FloodTime     time.Duration // how long a text session may stay at its rate limit
	CloseTime     time.Duration // how long the peer has to close its side after a close frame
	TextPatience  time.Duration // how long a text message may wait to be stored
	JSONPatience  time.Duration // how long a message of a JSON session may wait to be stored; then the client resends it

	AuthTime   time.Duration // how long a client without rights has to send auth
	Cookie     string        // name of the cookie that may contain a token; "" = none
	QueryToken bool          // accept tokens in the URL too, although logs may store URLs

	Compress    bool // accept offers of permessage-deflate
	Conformance bool // serve /echo and /verbatim/<group>/ to protocol test suites

	// Wide has the message limits for protocol test suites, which send large messages. The loop's
	// MaxPending must be large enough for these limits.
	Wide wire.Limits

	// HTTP takes over each connection whose first request does not begin a session.
	HTTP func(*CountedConn)

	Hub hub.Config
	Log *slog.Logger
}

// DefaultConfig returns the defaults; the caller sets HTTP and Hub.Name.
func DefaultConfig() Config {
	return Config{
		MaxMessage:    64 << 10,
		MaxRooms:      64,
		Rate:          limit.Rate{PerSecond: 20, Burst: 40},
		HandshakeTime: 5 * time.Second,
		MaxRequest:    wire.MaxRequest,
		PingAfter:     25 * time.Second,
		MessageTime:   30 * time.Second,
		PongTime:      10 * time.Second,
		SlowTime:      10 * time.Second,
		FloodTime:     15 * time.Second,
		CloseTime:     5 * time.Second,
		TextPatience:  10 * time.Second,
		JSONPatience:  2 * time.Second,
		AuthTime:      10 * time.Second,
		Wide:          wire.Limits{Message: 16 << 20, Fragments: 1 << 20},
		Hub:           hub.DefaultConfig(),
		Log:           slog.Default(),
	}
}

// Sessions contains the sessions of one loop. It is the loop's [loop.Handler]. The loop's
// goroutine owns it. Other goroutines may call only Stats.
type Sessions struct {
	*lifecycle
	questions  *questions
	handshakes handshakes
	commands   commands
}

var (
	_ loop.Handler = (*Sessions)(nil)
	_ hub.Sessions = (*Sessions)(nil)
)

// New makes the Sessions of l. A nil ask means that there is no backend.
func New(cfg Config, l *loop.Loop, b *bridge.Bridge, a *auth.Auth, ask *backend.Backend, caps *limit.Caps) *Sessions {
	st := &state{
		cfg: cfg, loop: l, bridge: b, auth: a, backend: ask, caps: caps, stats: newStats(), codecs: newCodecs(),
		textLimits: wire.Limits{Message: cfg.MaxMessage, Fragments: 1024},
		jsonLimits: wire.Limits{Message: proto.CommandBytes(cfg.MaxMessage), Fragments: 1024},
		verbose:    cfg.Log.Enabled(context.Background(), slog.LevelDebug),
		streams:    make(streams), families: make(families), parts: cfg.Hub.Memory.Part(limit.Messages), requests: cfg.Hub.Memory.Part(limit.Handshakes),
	}
	lc := &lifecycle{state: st, joins: make(map[memberKey]string), resends: make(map[memberKey]*limit.Resends), signals: make(map[memberKey]time.Time), permissions: newPermissions(), waiting: make(map[loop.ID]proto.From), authIDs: make(map[loop.ID]string), polls: newPolls(st)}
	qs := &questions{lifecycle: lc, asked: make(map[loop.ID]*asked)}
	ss := &Sessions{lifecycle: lc, questions: qs, handshakes: handshakes{questions: qs}, commands: commands{questions: qs}}
	ss.commands.handshakes = &ss.handshakes
	cfg.Hub.Formats = formatConfigs(st.codecs)
	st.hub = hub.New(cfg.Hub, l, b, ss)
	a.Revoked().Watch(func(list []proto.Revocation) { st.hub.Post(func() { qs.revoke(list) }) })
	return ss
}

// Stats returns the counters of these sessions. Any goroutine may read them.
func (ss *Sessions) Stats() *Stats { return ss.stats }

// Hub returns the hub, which has the rooms and memberships of this loop.
func (ss *Sessions) Hub() *hub.Hub { return ss.hub }

// Opened implements [loop.Handler].
func (ss *Sessions) Opened(id loop.ID, peer netip.AddrPort) { ss.open(id, peer) }

// Received implements [loop.Handler].
func (ss *Sessions) Received(id loop.ID, p []byte) (used int) {
	s := ss.get(id)
	if s == nil {
		return len(p)
	}
	s.heard, s.pinged = ss.second(), 0
	ss.forgetRest(s)
	if s.phase == handshake {
		used = ss.handshakes.handleRequest(s, p)
	}
	if (s.kind == events || s.kind == poll) && s.phase == open {
		return len(p) // ignore bytes that a reader of events sends after its request
	}
	limits := ss.limitsOf(s)
	for (s.phase == open || s.phase == unnamed) && s.paused == 0 && used < len(p) {
		f, n, err := s.reader.Next(p[used:], limits)
		used += n
		if err != nil {
			ss.fail(s, err)
			break
		}
		if f.Op == 0 {
			break
		}
		if f.Op.IsData() {
			s.partial = 0
		}
		ss.commands.frame(s, &f)
	}
	switch s.phase {
	case joiningIn:
		ss.hold(s, pauseJoin)
	case ending:
		return len(p)
	case open:
		ss.awaitRest(s, used < len(p))
	}
	if !ss.holdRest(s, len(p)-used) {
		return len(p)
	}
	return used
}

// Writable implements [loop.Handler].
func (ss *Sessions) Writable(id loop.ID) { ss.hub.Writable(id) }

// Turn implements [loop.Handler].
func (ss *Sessions) Turn() (busy bool) {
	const writes = 32 // 32 writes take about an eighth of a millisecond
	ss.parts.Settle()
	ss.requests.Settle()
	return ss.hub.Flush(writes)
}

// Gone implements [loop.Handler].
func (ss *Sessions) Gone(id loop.ID, why error) {
	s := ss.get(id)
	if s == nil {
		return
	}
	ss.forgetRest(s)
	ss.polls.forget(id)
	delete(ss.streams, id)
	delete(ss.waiting, id)
	delete(ss.authIDs, id)
	delete(ss.questions.asked, id)
	delete(ss.resends, memberKey{id: id})
	delete(ss.families, id)
	delete(ss.permissions.lapses, id)
	delete(ss.joins, memberKey{id, s.home}) // the session's answer to its handshake
	switch {
	case s.flags&counted == 0:
	case s.flags&forwarded != 0:
		ss.caps.CloseForwarded(netip.AddrFrom16(s.peer))
	default:
		ss.caps.Close(netip.AddrFrom16(s.peer))
	}
	if s.flags&upgraded != 0 {
		reason := proto.LeftLost
		if (s.kind == events || s.kind == poll) && why == io.EOF {
			reason = proto.LeftClient // closing the connection is the only way for a reader of events to leave
		}
		ss.stats.Sockets.Add(-1)
		ss.leaveAll(s, reason)
		ss.hub.Gone(id)
		if s.phase != ending && reason == proto.LeftLost {
			ss.stats.Lost.Add(1)
		}
		if ss.verbose {
			if why == io.EOF || why == loop.ErrClosed {
				why = nil
			}
			ss.log(s).Debug("session gone", "error", why)
		}
	}
	*s = session{}
}

// Due implements [loop.Handler].
func (ss *Sessions) Due(id loop.ID) {
	s := ss.get(id)
	if s == nil {
		return
	}
	switch s.phase {
	case handshake:
		ss.refuse(s, proto.Refuse(proto.BadRequest, "the request was not complete within %v", ss.cfg.HandshakeTime))
		ss.loop.Close(id) // all received bytes were read, so TCP still delivers the refusal; see loop.Close
	case joiningIn:
		ss.close(s, proto.CloseUnavailable, "the room cannot be reached now; reconnect later", proto.LeftServer)
	case unnamed:
		ss.close(s, proto.CloseNoToken, "", proto.LeftServer)
	case ending:
		ss.loop.Close(id)
	case open:
		if s.kind == poll {
			ss.polls.due(s)
		} else {
			renewals{ss.questions}.check(s)
			ss.check(s)
		}
	}
}

// OnNotice implements [hub.Sessions].
func (ss *Sessions) OnNotice(id loop.ID, n hub.Notice) {
	s := ss.get(id)
	if s == nil {
		delete(ss.joins, memberKey{id, n.Room})
		return
	}
	if s.phase == ending {
		if n.Kind == hub.Drained {
			ss.closeWrite(s)
		}
		return
	}
	switch n.Kind {
	case hub.Joined:
		ss.handshakes.joined(s, n)
	case hub.Refused:
		ss.notJoined(s, n)
	case hub.Closed:
		ss.roomClosed(s, n)
	case hub.Kicked:
		if n.Member == s.who.ID {
			ss.expel(s, n.Room, proto.CloseKicked, because(proto.CloseKicked.Meaning(), n.Why))
		}
	case hub.Barred:
		if n.Head.Limits.Banned(s.who.ID, ss.loop.Now()) {
			ss.expel(s, n.Room, proto.CloseBanned, because(proto.CloseBanned.Meaning(), n.Why))
		}
	case hub.Lost:
		ss.lost(s, n.Err)
	case hub.Slow:
		ss.tooSlow(s)
	case hub.Blocked:
		ss.arm(s)
	case hub.Drained:
		ss.release(s, pauseQueue)
	}
}

// Warn tells JSON sessions and readers of events that this gateway stops, and that it closes them
// within the given time.
func (ss *Sessions) Warn(in time.Duration) {
	drain := proto.Record{Kind: wire.KindDrain, Payload: proto.AppendDrain(nil, in)}
	ss.each(func(s *session) {
		if (s.kind == jsonKind || s.kind == events) && s.phase == open {
			ss.hub.Event(s.id, &drain)
		}
	})
}

// Drain closes at most n sessions with the code for going away, and returns how many sessions
// remain. After the first call, no session can begin. A session with messages that wait to be
// stored is not closed yet. Drain only stops reading it. A later call closes it, when its
// messages have been answered.
func (ss *Sessions) Drain(n int) (left int) {
	ss.draining = true
	ss.each(func(s *session) {
		switch {
		case s.phase == ending:
		case n <= 0:
			left++
		case s.phase == handshake:
			ss.refuse(s, proto.Refuse(proto.Unavailable, "this gateway is stopping; try again"))
			n--
		case s.saying > 0:
			ss.hold(s, pauseDrain)
			left++
		default:
			ss.close(s, proto.CloseGoingAway, "", proto.LeftServer)
			n--
		}
	})
	return left
}
