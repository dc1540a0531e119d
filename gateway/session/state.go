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

// session is the state of one connection. The loop owns it. It takes less than 200 bytes. Its only
// strings are in its identity and its room.
type session struct {
	id     loop.ID // 0 = none
	who    proto.Identity
	grant  *grant.Grant // rights of the client; several sessions may share one
	home   proto.Room   // the room of /room/<group>/; zero on /ws
	reader wire.Reader
	bucket limit.Bucket // limits commands and messages
	errors limit.Bucket // limits commands that were refused because they exceeded the rate
	peer   [16]byte
	port   uint16

	// Times in seconds of the loop's clock; 0 = never.
	heard   uint32 // when the client last sent bytes; for a reader of events, when the gateway last sent a heartbeat
	pinged  uint32 // when the gateway sent the ping that is still unanswered
	flooded uint32 // when the last series of pauses because of the rate began; see slowDown
	partial uint32 // when the incomplete message began, plus the length of all pauses since then
	held    uint32 // when the gateway last stopped reading the session

	wakeMs uint32 // in milliseconds of the loop's clock: when pauseRate ends, or when it ended last

	// Times in seconds of the wall clock since 1970; 0 = never.
	expires uint32 // when to end the session, a little after its token expires
	issued  uint32 // of a guest: when it got its first resume string; of others: when the session last sent auth
	iat     uint32 // when the session's credential was issued

	rest   uint32 // bytes that the session's unused input takes from the memory budget
	saying uint8  // number of messages without an answer

	phase  phase
	kind   kind
	format hub.Format
	paused pause
	flags  sessionFlags
}

// phase is the stage of a connection's life.
type phase uint8

const (
	handshake phase = iota // waits for the whole request
	joiningIn              // waits for the room to be joined; the handshake is not answered, and nothing is read
	unnamed                // the handshake is answered; the first frame must be auth
	open
	ending // a close frame or an HTTP refusal is on its way; input is ignored
)

// kind is the protocol of a session.
type kind uint8

const (
	text     kind = iota
	jsonKind      // subprotocol roomcast.v1
	events        // a reader of one of wire.Streams
	poll          // an HTTP request that waits for the next messages of a room
	verbatim      // a text session that receives messages exactly as they were sent
	echo          // returns the bytes that it receives
)

// pause is a set of reasons why the gateway does not read a session. If it is 0, the gateway
// reads.
type pause uint8

const (
	pauseJoin  pause = 1 << iota // the session is not in its room yet
	pauseRate                    // the client exceeds its rate
	pauseSays                    // too many of the session's messages wait to be stored
	pauseQueue                   // the client does not read its answers
	pauseDrain                   // Drain waits for the answers to the session's last messages
	pausePage                    // the session waits for a page of history
	pauseAuth                    // the session's token is being checked
)

// sessionFlags is a set of facts about a session.
type sessionFlags uint8

const (
	counted   sessionFlags = 1 << iota // the connection counts for the connection limits
	upgraded                           // the connection is or was a session
	noReplay                           // the handshake requested no replay
	hasToken                           // the session's identity came with a token
	commanded                          // the session has sent a command
	proxied                            // the request came through a proxy
	admitted                           // the backend has decided who the client is
	forwarded                          // peer is the client's address, as a trusted proxy has told it
)

const slabSize = 512

// state contains what all parts of the sessions of one loop share. The loop owns it.
type state struct {
	// static
	cfg        Config
	loop       *loop.Loop
	bridge     *bridge.Bridge
	auth       *auth.Auth
	backend    *backend.Backend // nil = there is no backend
	caps       *limit.Caps
	hub        *hub.Hub
	stats      *Stats
	codecs     []wire.Codec // indexed by hub.Format
	textLimits wire.Limits
	jsonLimits wire.Limits
	verbose    bool // log each connection

	// owned by the loop
	draining bool // Drain has been called, so no session may begin
	streams  streams
	families families
	slab     []*[slabSize]session
	buf      []byte     // scratch space for one answer
	parts    limit.Part // bytes of unfinished messages in the memory budget
	requests limit.Part // bytes of unfinished requests in the memory budget
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

// later calls do on the loop, unless the session has ended by then. Any goroutine may call it.
func (st *state) later(id loop.ID, do func(*session)) {
	st.hub.Post(func() {
		if s := st.get(id); s != nil && s.phase != ending {
			do(s)
		}
	})
}

// open makes the session of a new connection, which waits for the request.
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

// hold adds a reason not to read the session. The method release removes a reason. When no
// reason is left, the gateway reads the session again.
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
		s.heard = st.second() // do not count the pause as silence of the client
		if s.partial != 0 {
			s.partial += s.heard - s.held
		}
		st.loop.Resume(s.id)
	}
}

// checkQueue stops reading a session if many answers wait for the client to read them.
func (st *state) checkQueue(s *session) {
	if s.phase == open && st.hub.Due(s.id) > st.cfg.Hub.QueueBytes/4 {
		st.hold(s, pauseQueue)
		st.hub.TellDrained(s.id)
	}
}

// second returns the seconds since the loop began, plus 1, so that 0 can mean never. Neither
// second nor ms jumps when the system's clock is set.
func (st *state) second() uint32 { return uint32(st.loop.Elapsed()/time.Second) + 1 }

func (st *state) ms() uint32 { return uint32(st.loop.Elapsed() / time.Millisecond) }

// secondOf returns a wall-clock time in seconds since 1970. A time later than the greatest value
// of uint32 becomes that value.
func secondOf(expires time.Time) uint32 { return uint32(min(expires.Unix(), math.MaxUint32)) }

// families contains the first session of those that continue each other, for each session that came
// with a resume string. The loop owns it.
type families map[loop.ID]string

// sessionID returns the id of a session in its hello. The parameter own is the id of its
// connection. The id of a resumed session also names its family, so a revocation by any of the ids
// can find all sessions that continue each other. See [proto.Family].
func (f families) sessionID(id loop.ID, own string) string {
	if family, resumed := f[id]; resumed {
		return own + "." + family
	}
	return own
}

func (st *state) log(s *session) *slog.Logger {
	return st.cfg.Log.With("session", st.families.sessionID(s.id, st.hub.Session(s.id)), "id", s.who.ID,
		"peer", netip.AddrPortFrom(netip.AddrFrom16(s.peer).Unmap(), s.port).String())
}

// ok returns the beginning of the answer to a command. The caller appends one JSON value and
// passes the result to send, which completes the answer.
func (st *state) ok(id []byte) []byte { return proto.AppendOK(st.buf[:0], id) }

// send adds the closing brace to an answer and queues the answer for the client.
func (st *state) send(s *session, b []byte) {
	st.buf = append(b, '}')
	st.hub.Text(s.id, st.buf)
}

func (st *state) answerRefusal(s *session, id []byte, r *proto.Refusal) {
	st.stats.refusal(r.Code)
	st.buf = proto.AppendError(st.buf[:0], id, r)
	st.hub.Text(s.id, st.buf)
}
