package session

import (
	"log/slog"
	"math"
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
	"roomcast/proto/grant"
)

// session is one connection. It takes less than 200 bytes, and holds strings only for its identity
// and its room.
type session struct {
	id     loop.ID // 0 = none
	who    proto.Identity
	grant  *grant.Grant // shared by sessions
	home   proto.Room   // of /room/<group>/; zero on /ws
	reader wire.Reader
	bucket limit.Bucket // of commands and messages
	errors limit.Bucket // of commands refused for going too fast
	peer   [16]byte
	port   uint16

	// Seconds of the loop's clock; 0 = never.
	heard   uint32 // the client sent bytes last; for a reader of events, the last heartbeat
	pinged  uint32 // the unanswered ping was sent
	flooded uint32 // it reached its rate limit, and has come back to it ever since
	partial uint32 // the incomplete message began; later by the time of all pauses since
	held    uint32 // it was paused last

	wakeMs uint32 // in milliseconds of the loop: when pauseRate ends, or ended last

	// Seconds of the wall clock since 1970; 0 = never.
	expires uint32 // the session ends, a little after its token expires
	issued  uint32 // a guest got its first resume string, or another session last sent auth
	iat     uint32 // its credential was issued

	rest   uint32 // bytes of the memory budget for its unused input
	saying uint8  // messages without an answer

	phase  phase
	kind   kind
	paused pause
	flags  sessionFlags
}

// phase is the stage of a connection's life.
type phase uint8

const (
	handshake phase = iota // until the whole request is there
	joiningIn              // it waits for its room, and its handshake for the answer; nothing is read
	unnamed                // its handshake is answered; its first frame must be auth
	open
	ending // a close frame is on its way, or an HTTP refusal; input is ignored
)

// kind is the protocol of a session.
type kind uint8

const (
	text     kind = iota
	jsonKind      // subprotocol roomcast.v1
	events        // a reader of Server-Sent Events
	poll          // waits for the next messages of a room
	verbatim      // a text session that shows messages as they were sent
	echo          // returns what it gets
)

// pause says why a session is not read; 0 = it is.
type pause uint8

const (
	pauseJoin  pause = 1 << iota // it is not in its room yet
	pauseRate                    // it is too fast
	pauseSays                    // too many of its messages wait to be stored
	pauseQueue                   // it does not read its answers
	pauseDrain                   // Drain waits for its last answers
	pausePage                    // it waits for a page of history
	pauseAuth                    // its token is being checked
)

type sessionFlags uint8

const (
	counted   sessionFlags = 1 << iota // it counts for the connection limits
	upgraded                           // it is or was a session, not just a connection
	noReplay                           // its handshake requested no replay
	hasToken                           // its identity came with a token
	commanded                          // it has sent a command
	proxied                            // a proxy passed its request on
	admitted                           // the backend has decided who it is
	forwarded                          // peer is the client behind a trusted proxy
)

const slabSize = 512

// state is shared by all parts of the sessions of one loop. The loop owns it.
type state struct {
	// static
	cfg        Config
	loop       *loop.Loop
	bridge     *bridge.Bridge
	auth       *auth.Auth
	backend    *backend.Backend // nil = nothing is asked
	caps       *limit.Caps
	hub        *hub.Hub
	stats      *Stats
	codecs     []codec // by hub.Format
	textLimits wire.Limits
	jsonLimits wire.Limits
	verbose    bool // connections are logged

	// owned by the loop
	draining bool // Drain has been called: no session may begin
	streams  streams
	slab     []*[slabSize]session
	buf      []byte     // for one answer
	parts    limit.Part // bytes of unfinished messages
	requests limit.Part // bytes of unfinished requests
}

// get returns the session of a connection, or nil.
func (st *state) get(id loop.ID) *session {
	if slot := id.Slot(); int(slot/slabSize) < len(st.slab) {
		if s := &st.slab[slot/slabSize][slot%slabSize]; s.id == id && id != 0 {
			return s
		}
	}
	return nil
}

// open waits for the request of a new connection.
func (st *state) open(id loop.ID, peer netip.AddrPort) *session {
	slot := id.Slot()
	for int(slot/slabSize) >= len(st.slab) {
		st.slab = append(st.slab, new([slabSize]session))
	}
	s := &st.slab[slot/slabSize][slot%slabSize]
	*s = session{id: id, peer: peer.Addr().As16(), port: peer.Port(), heard: st.second()}
	s.flags |= counted // by the loops' gate
	st.loop.SetDeadline(id, st.cfg.HandshakeTime)
	return s
}

// each calls f for every connection.
func (st *state) each(f func(*session)) {
	for _, chunk := range st.slab {
		for i := range chunk {
			if chunk[i].id != 0 {
				f(&chunk[i])
			}
		}
	}
}

func (st *state) limitsOf(s *session) *wire.Limits {
	switch {
	case s.phase == unnamed:
		return &unnamedLimits
	case s.kind == jsonKind:
		return &st.jsonLimits
	case s.kind >= verbatim:
		return &st.cfg.Wide
	}
	return &st.textLimits
}

// hold adds a reason not to read the session, release removes one. Without reasons the session is
// read.
func (st *state) hold(s *session, why pause) {
	if s.paused == 0 {
		s.held = st.second()
		st.loop.Pause(s.id)
	}
	s.paused |= why
}

func (st *state) release(s *session, why pause) {
	if s.paused&why == 0 {
		return
	}
	if s.paused &^= why; s.paused == 0 {
		s.heard = st.second() // the pause is not the client's silence
		if s.partial != 0 {
			s.partial += s.heard - s.held
		}
		st.loop.Resume(s.id)
	}
}

// checkQueue stops reading a session that does not read its answers.
func (st *state) checkQueue(s *session) {
	if s.phase == open && st.hub.Due(s.id) > st.cfg.Hub.QueueBytes/4 {
		st.hold(s, pauseQueue)
		st.hub.TellDrained(s.id)
	}
}

// second counts from the loop's beginning, where it is 1, so that 0 can mean never. Neither second
// nor ms jumps when the system's clock is set.
func (st *state) second() uint32 { return uint32(st.loop.Elapsed()/time.Second) + 1 }
func (st *state) ms() uint32     { return uint32(st.loop.Elapsed() / time.Millisecond) }

// secondOf returns a time of the wall clock in seconds since 1970. Some tokens expire after
// the last second that fits.
func secondOf(expires time.Time) uint32 { return uint32(min(expires.Unix(), math.MaxUint32)) }

func (st *state) log(s *session) *slog.Logger {
	return st.cfg.Log.With("session", st.hub.Session(s.id), "id", s.who.ID,
		"peer", netip.AddrPortFrom(netip.AddrFrom16(s.peer).Unmap(), s.port).String())
}

// ok begins the answer to a command. The caller appends one JSON value and passes the answer to
// send, which completes it.
func (st *state) ok(id []byte) []byte { return proto.AppendOK(st.buf[:0], id) }

// send adds the closing brace to an answer and queues it.
func (st *state) send(s *session, b []byte) {
	st.buf = append(b, '}')
	st.hub.Text(s.id, st.buf)
}

func (st *state) answerRefusal(s *session, id []byte, r *proto.Refusal) {
	st.stats.refusal(r.Code)
	st.buf = proto.AppendError(st.buf[:0], id, r)
	st.hub.Text(s.id, st.buf)
}
