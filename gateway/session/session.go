// Package session is what a client may say: it turns a loop's connections into text
// and JSON sessions, answers what they send, and closes those that break a rule.
//
// Everything that leaves goes through the loop's [hub.Hub], so it has one order;
// everything that has to be stored or found goes through the [bridge.Bridge], whose
// answers come back through the hub's inbox. Nothing here blocks.
package session

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/bridge"
	"roomcast/gateway/hub"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// Config is what sessions may do.
type Config struct {
	MaxMessage int        // bytes of one message; 1009 above
	MaxRooms   int        // of one session
	Rate       limit.Rate // of commands and messages of one connection
	Greeting   string     // first text frame of a text session; "" = none

	HandshakeTime time.Duration // from accept to the whole request
	MaxRequest    int           // bytes of a request head; 431 above
	PathPrefix    string        // such as /chat, below which all paths are; "" = none
	MessageTime   time.Duration // from the first byte of a message to its last
	PingAfter     time.Duration // of hearing nothing
	PongTime      time.Duration // to answer a ping
	SlowTime      time.Duration // how long a client may take nothing of what is due to it
	FloodTime     time.Duration // how long a text session may be held back over and over
	CloseTime     time.Duration // for the peer to end its side after a close frame
	TextPatience  time.Duration // how long a text message may wait to be stored
	JSONPatience  time.Duration // the same for JSON, where the client resends

	QueryToken   bool // take tokens from the URL too, where logs may keep them
	RequireToken bool // refuse who has none
	Compress     bool // agree to permessage-deflate
	Conformance  bool // offer /echo and /verbatim/<group>/ to protocol test suites

	// Wide are the limits of protocol test suites, which send large messages. The loop
	// must let twice as much wait.
	Wide wire.Limits

	// HTTP takes connections whose first request is not a WebSocket handshake.
	HTTP func(*Handed)

	Hub hub.Config
	Log *slog.Logger
}

// DefaultConfig returns the defaults; HTTP and Hub.Name are the caller's.
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
		Wide:          wire.Limits{Message: 16 << 20, Fragments: 1 << 20},
		Hub:           hub.DefaultConfig(),
		Log:           slog.Default(),
	}
}

// Sessions are the sessions of one loop, which it serves as its [loop.Handler]. It is
// owned by the loop's goroutine.
type Sessions struct {
	// static
	cfg      Config
	loop     *loop.Loop
	bridge   *bridge.Bridge
	auth     *auth.Auth
	caps     *limit.Caps
	hub      *hub.Hub
	stats    *Stats
	limits   wire.Limits // of text sessions
	envelope wire.Limits // of JSON sessions
	codecs   []codec     // by hub.Format
	verbose  bool        // connections are logged

	// owned by the loop
	draining    bool      // Drain has been called: nobody new
	refusedPage time.Time // when a refused page was logged last

	slab     []*[slabSize]session
	joins    map[joining]string // what waits for a Joined notice: ids of commands, answers to handshakes
	resends  map[joining]*limit.Resends
	inflater wire.Inflater
	buf      []byte // for one answer

	parts    limit.Part // bytes of unfinished messages
	requests limit.Part // bytes of unfinished requests
}

var _ loop.Handler = (*Sessions)(nil)

// New makes the sessions of l.
func New(cfg Config, l *loop.Loop, b *bridge.Bridge, a *auth.Auth, caps *limit.Caps) *Sessions {
	ss := &Sessions{
		cfg: cfg, loop: l, bridge: b, auth: a, caps: caps, stats: newStats(),
		limits: wire.Limits{Message: cfg.MaxMessage, Fragments: 1024},
		// Base64 makes four bytes of three, and there are names around it.
		envelope: wire.Limits{Message: cfg.MaxMessage*4/3 + 4096, Fragments: 1024},
		joins:    make(map[joining]string),
		resends:  make(map[joining]*limit.Resends),
		verbose:  cfg.Log.Enabled(context.Background(), slog.LevelDebug),
	}
	ss.codecs = newCodecs()
	cfg.Hub.Formats = formatConfigs(ss.codecs)
	ss.hub = hub.New(cfg.Hub, l, b, ss)
	ss.parts, ss.requests = cfg.Hub.Memory.Part(limit.Messages), cfg.Hub.Memory.Part(limit.Handshakes)
	return ss
}

// Stats returns the sessions' counters, which may be read from anywhere.
func (ss *Sessions) Stats() *Stats { return ss.stats }

// Hub returns the rooms of this loop.
func (ss *Sessions) Hub() *hub.Hub { return ss.hub }

// session is one connection. It fits a hundred bytes or two and holds strings only
// for who it is and where.
type session struct {
	id     loop.ID // 0 = none
	who    proto.Identity
	home   proto.Room // of /room/<group>/; zero on /ws
	reader wire.Reader
	bucket limit.Bucket // of commands and messages
	errors limit.Bucket // of commands refused for going too fast
	peer   [16]byte
	port   uint16

	// Seconds of the loop's clock; 0 = never.
	heard   uint32 // something came last
	pinged  uint32 // the ping that is not answered was sent
	flooded uint32 // it began to be held back over and over
	partial uint32 // a message began that is not complete; moved on by the time it was not read
	held    uint32 // it was paused last

	wakeMs uint32 // when reading goes on, or went on last, after being held, in the loop's milliseconds

	// Seconds of the wall clock since 1970; 0 = never.
	expires uint32 // its token runs out
	issued  uint32 // its identity got its first resume string

	rest   uint32 // bytes it is held to have sent that could not be used yet
	saying uint8  // messages without an answer

	phase  phase
	kind   kind
	paused pause
	flags  sessionFlags
}

// phase is where a connection is in its life.
type phase uint8

const (
	handshake phase = iota // until the whole request is there
	joiningIn              // its handshake is answered when it is in its room; nothing is read
	open
	ending // a close frame is on its way, or an HTTP refusal; what comes in is passed over
)

// kind is how a session speaks.
type kind uint8

const (
	text     kind = iota
	jsonKind      // subprotocol roomcast.v1
	verbatim      // a text session that shows messages as they were sent
	echo          // gives back what it gets
)

// pause says why a session is not read; 0 = it is.
type pause uint8

const (
	pauseJoin  pause = 1 << iota // it is not in its room yet
	pauseRate                    // it is too fast
	pauseSays                    // too many of its messages wait to be stored
	pauseQueue                   // it does not read what it asked for
	pauseDrain                   // it is only to hear the answers it waits for, then to go
	pausePage                    // it waits for a page of history
)

type sessionFlags uint8

const (
	counted   sessionFlags = 1 << iota // by the connection caps
	byRequest                          // the identity came with a token
	upgraded                           // it is or was a session, not just a connection
)

const slabSize = 512

func (ss *Sessions) get(id loop.ID) *session {
	if slot := id.Slot(); int(slot/slabSize) < len(ss.slab) {
		if s := &ss.slab[slot/slabSize][slot%slabSize]; s.id == id && id != 0 {
			return s
		}
	}
	return nil
}

// Opened implements [loop.Handler].
func (ss *Sessions) Opened(id loop.ID, peer netip.AddrPort) {
	ss.begin(id, peer)
}

// begin waits for the request of a new connection.
func (ss *Sessions) begin(id loop.ID, peer netip.AddrPort) *session {
	slot := id.Slot()
	for int(slot/slabSize) >= len(ss.slab) {
		ss.slab = append(ss.slab, new([slabSize]session))
	}
	s := &ss.slab[slot/slabSize][slot%slabSize]
	*s = session{id: id, peer: peer.Addr().As16(), port: peer.Port(), heard: ss.second()}
	s.flags |= counted // by the loops' gate
	ss.loop.SetDeadline(id, ss.cfg.HandshakeTime)
	return s
}

// Received implements [loop.Handler].
func (ss *Sessions) Received(id loop.ID, p []byte) (used int) {
	s := ss.get(id)
	if s == nil {
		return len(p)
	}
	s.heard, s.pinged = ss.second(), 0
	ss.forgetRest(s)
	if s.phase == handshake {
		used = ss.greet(s, p)
	}
	limits := ss.limitsOf(s)
	for s.phase == open && s.paused == 0 && used < len(p) {
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
		ss.frame(s, &f)
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

// awaitRest begins the time that a message has to be complete. Rest says that bytes of it
// wait; one that came in fragments may also have none.
func (ss *Sessions) awaitRest(s *session, rest bool) {
	if s.partial == 0 && s.paused == 0 && (rest || s.reader.Partial()) {
		s.partial = ss.second()
		ss.arm(s)
	}
}

// Writable implements [loop.Handler].
func (ss *Sessions) Writable(id loop.ID) { ss.hub.Writable(id) }

// Turn implements [loop.Handler].
func (ss *Sessions) Turn() (busy bool) {
	const writes = 32 // about an eighth of a millisecond
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
	if s.flags&counted != 0 {
		ss.caps.Close(netip.AddrFrom16(s.peer))
	}
	if s.flags&upgraded != 0 {
		ss.stats.Sockets.Add(-1)
		ss.leaveAll(s, proto.LeftLost)
		ss.hub.Gone(id)
		if s.phase != ending {
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

func (ss *Sessions) limitsOf(s *session) *wire.Limits {
	switch {
	case s.kind == jsonKind:
		return &ss.envelope
	case s.kind >= verbatim:
		return &ss.cfg.Wide
	}
	return &ss.limits
}

// hold stops reading for one more reason, release takes a reason away.
func (ss *Sessions) hold(s *session, why pause) {
	if s.paused == 0 {
		s.held = ss.second()
		ss.loop.Pause(s.id)
	}
	s.paused |= why
}

func (ss *Sessions) release(s *session, why pause) {
	if s.paused&why == 0 {
		return
	}
	if s.paused &^= why; s.paused == 0 {
		s.heard = ss.second() // what it sent meanwhile has not been seen
		if s.partial != 0 {
			s.partial += s.heard - s.held
		}
		ss.loop.Resume(s.id)
	}
}

// second counts from the loop's beginning, where it is 1, so that 0 can mean never. It
// and ms do not jump when the system's clock is set.
func (ss *Sessions) second() uint32 { return uint32(ss.loop.Elapsed()/time.Second) + 1 }
func (ss *Sessions) ms() uint32     { return uint32(ss.loop.Elapsed() / time.Millisecond) }

// secondOf returns a time of the wall clock in seconds since 1970; some tokens are made
// to outlast the count.
func secondOf(expires time.Time) uint32 { return uint32(min(expires.Unix(), math.MaxUint32)) }

func (ss *Sessions) log(s *session) *slog.Logger {
	return ss.cfg.Log.With("session", ss.hub.Session(s.id), "id", s.who.ID,
		"peer", netip.AddrPortFrom(netip.AddrFrom16(s.peer).Unmap(), s.port).String())
}
