package session

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/hub"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/history"
)

// subprotocol is the WebSocket subprotocol with which a client requests a JSON session.
const subprotocol = "roomcast.v1"

// resumeOffer is the beginning of a second subprotocol, which contains the client's resume
// string. The gateway never selects this subprotocol in its answer. The string is not in the URL,
// because proxies log URLs but not this header.
const resumeOffer = "resume."

// handshakes turns connections into sessions. The loop owns it.
type handshakes struct {
	*questions
	refusedPage time.Time // when the last refused page was logged
}

// handleRequest reads the first request of a connection. It makes the connection a session,
// hands the connection to net/http, or refuses the request.
func (h *handshakes) handleRequest(s *session, p []byte) (used int) {
	req, n, err := wire.ParseRequest(p, h.cfg.MaxRequest)
	if err == nil && n == 0 {
		return 0
	}
	if err == nil && !req.Upgrade && req.Stream == nil {
		h.handOver(s)
		return len(p)
	}
	if err == nil {
		err = h.upgrade(s, &req)
	}
	if err != nil {
		h.refuse(s, err)
		return len(p)
	}
	return n
}

// upgrade makes the connection a session. The caller sends its error to the client.
func (h *handshakes) upgrade(s *session, req *wire.Request) error {
	site, err := h.forwarded(s, req)
	if err != nil {
		return err
	}
	if err := h.checkPage(req, site); err != nil {
		h.logRefusedPage(req, err)
		return proto.Refuse(proto.Forbidden, "%v", err)
	}
	if req.Stream != nil {
		h.streams[s.id] = &stream{origin: string(req.Origin)}
	}
	if s.kind, s.home, err = h.route(req); err != nil {
		return err
	}
	var from proto.From
	if req.Stream != nil || !s.home.IsZero() { // a session that joins no room yet names the positions in its joins
		if from, err = replayFrom(req); err != nil {
			return err
		}
	}
	several := s.kind == events && s.home.IsZero()
	if several {
		if err := h.streams[s.id].add(req, from, h.cfg.MaxRooms); err != nil {
			return err
		}
	}
	given, err := h.credential(s, req, site)
	if err != nil {
		return err
	}
	h.buf = h.appendAccept(h.buf[:0], s, req)
	s.flags |= upgraded
	if from.None() && !several {
		s.flags |= noReplay
	}
	s.format = formatOf(s, req)
	h.hub.Open(s.id, s.format)
	h.stats.Sockets.Add(1)
	h.stats.Opened.Add(1)
	s.phase = joiningIn
	h.joins[memberKey{s.id, s.home}] = string(h.buf)
	if h.backend != nil {
		h.asked[s.id] = &asked{headers: h.askHeaders(req, site)}
	}
	h.loop.SetDeadline(s.id, h.cfg.TextPatience)
	h.withKey(s, given.resume, func(s *session, err error) {
		if err != nil {
			h.refuseToken(s, err)
			return
		}
		h.identify(s, given, from)
	})
	return nil
}

// forwarded returns the scheme and host of the URL by which the client reached the gateway. If
// the connection comes from a trusted proxy, forwarded also replaces the session's address. From
// then on, the session counts for the limits of the client's address, not of the proxy's.
func (h *handshakes) forwarded(s *session, req *wire.Request) (auth.Site, error) {
	site := auth.Site{Host: string(req.Host)}
	peer, proxies := netip.AddrFrom16(s.peer).Unmap(), h.caps.Proxies()
	if !proxies.Trust(peer) {
		return site, nil
	}
	site = site.Forwarded(string(req.ForwardedProto), string(req.ForwardedHost))
	if client := proxies.Client(peer, string(req.ForwardedFor)); client != peer {
		if refusal := h.caps.OpenClient(client); refusal != nil {
			return site, &wire.Refusal{Status: http.StatusServiceUnavailable, Reason: refusal.Message}
		}
		s.peer, s.port = client.As16(), 0
		s.flags |= forwarded
	}
	return site, nil
}

// checkPage returns an error if the request comes from a page that may not use this gateway.
func (h *handshakes) checkPage(req *wire.Request, site auth.Site) error {
	if err := h.auth.CheckHost(site.Host, req.Proxied); err != nil {
		return err
	}
	if req.Stream != nil && len(req.Origin) == 0 && req.CrossSite {
		return auth.ErrOrigin
	}
	return h.auth.CheckOrigin(string(req.Origin), site)
}

// replayFrom returns the position where the replay of a request begins. When a browser
// reconnects, it repeats the query of its first request, and sends its newest position in the
// header Last-Event-ID. The header does not name a room. So the gateway uses it only if the
// query names at most one room.
func replayFrom(req *wire.Request) (proto.From, error) {
	if req.Stream != nil && len(req.LastEventID) > 0 && len(req.Queries("room")) < 2 {
		return proto.ParseEventID(string(req.LastEventID))
	}
	return proto.ParseFrom(req.Query)
}

// appendAccept appends the HTTP answer that begins a session.
func (h *handshakes) appendAccept(b []byte, s *session, req *wire.Request) []byte {
	if req.Stream != nil {
		return req.Stream.AppendHead(b, string(req.Origin))
	}
	protocol := ""
	if s.kind == jsonKind {
		protocol = subprotocol
	}
	s.reader.Framing = req.Framing(h.cfg.Compress)
	return req.AppendAccept(b, protocol, s.reader.Framing)
}

// logRefusedPage logs at most one refused page a minute. The page's user sees only that the
// connection failed. So without this log line the operator could not find out why.
func (h *handshakes) logRefusedPage(req *wire.Request, err error) {
	if now := h.loop.Now(); h.refusedPage.IsZero() || now.Sub(h.refusedPage) >= time.Minute {
		h.refusedPage = now
		h.cfg.Log.Warn("page refused; others are not logged for a minute", "error", err, "origin", string(req.Origin), "host", string(req.Host))
	}
}

// route returns the kind of session and the room that the request's path names.
func (h *handshakes) route(req *wire.Request) (kind, proto.Room, error) {
	k := text
	switch {
	case req.Stream != nil:
		k = events
	case req.Offers(subprotocol):
		k = jsonKind
	}
	path, below := strings.CutPrefix(req.Path, h.cfg.PathPrefix)
	if !below {
		path = ""
	}
	rest, isRoom := strings.CutPrefix(path, "/room/")
	if !isRoom && h.cfg.Conformance {
		if path == "/echo" {
			return echo, proto.Room{}, nil
		}
		if rest, isRoom = strings.CutPrefix(path, "/verbatim/"); isRoom {
			k = verbatim
		}
	}
	switch {
	case isRoom && k == events:
		rest = strings.TrimSuffix(rest, "/"+req.Stream.Name)
	case k == events && path == "/"+req.Stream.Name:
		return k, proto.Room{}, nil
	case isRoom:
		rest = strings.TrimSuffix(rest, "/")
	case path == "/ws" && k == jsonKind:
		return k, proto.Room{}, nil
	case path == "/ws":
		return k, proto.Room{}, proto.Refuse(proto.BadRequest, "%s/ws speaks the subprotocol %s; a text session is at %[1]s/room/<group>/", h.cfg.PathPrefix, subprotocol)
	default:
		return k, proto.Room{}, proto.Refuse(proto.NotFound, "no room here; connect to %s/room/<group>/ or %[1]s/ws", h.cfg.PathPrefix)
	}
	room, err := proto.ParseRoom(rest)
	if err != nil {
		return k, room, proto.Refuse(proto.BadRoom, "%v", err)
	}
	return k, room, nil
}

// handOver hands a connection to net/http.
func (h *handshakes) handOver(s *session) {
	nc, err := h.loop.Detach(s.id)
	if err != nil {
		h.cfg.Log.Error("hand connection to HTTP", "error", err)
		h.refuse(s, proto.Refuse(proto.Unavailable, "this server is short of resources; try again later"))
		return
	}
	s.phase = ending
	s.flags &^= counted // from now on the CountedConn counts the connection
	h.cfg.HTTP(&CountedConn{Conn: nc, lc: h.lifecycle, peer: netip.AddrPortFrom(netip.AddrFrom16(s.peer), s.port)})
}

// joined handles the hub's notice that a session has joined a room. The cause may be a command
// or the path of the session's URL.
func (h *handshakes) joined(s *session, n hub.Notice) {
	if s.kind == events && s.home.IsZero() {
		h.roomJoined(s, n)
		return
	}
	refusal := h.unfit(s, n)
	if begins := s.phase == joiningIn && n.Room == s.home; begins {
		if refusal != nil {
			h.closeRefused(s, refusal)
			return
		}
		h.accept(s)
		h.begin(s, n)
		h.bridge.Joined(n.Room, s.who)
		return
	}
	k := memberKey{s.id, n.Room}
	cmd, asked := h.joins[k]
	delete(h.joins, k)
	switch {
	case refusal != nil:
		h.hub.Leave(s.id, n.Room)
		delete(h.permissions.until, k)
		h.answerRefusal(s, []byte(cmd), refusal)
	case asked:
		j := h.head(s, n.Room, n.Head)
		j.Resume = h.passedRoom(s, n.Room)
		h.send(s, j.AppendJSON(h.ok([]byte(cmd))))
		h.arm(s)
		h.bridge.Joined(n.Room, s.who)
	}
}

// unfit returns a refusal if a session that has just joined a room may not stay there. For
// example, it may have lost its right since the request. Otherwise unfit returns nil.
func (h *handshakes) unfit(s *session, n hub.Notice) *proto.Refusal {
	if lost := h.forbidden(s, n.Room, proto.RightRead); lost != nil {
		return lost
	}
	if barred := h.banned(s, n.Head.Limits); barred != nil {
		return barred
	}
	if n.Head.Closed {
		return proto.Refuse(proto.RoomClosed, "%s", closedReason(n.Head.Why))
	}
	return nil
}

// begin opens a session that has joined the room of its URL.
func (h *handshakes) begin(s *session, n hub.Notice) {
	delete(h.streams, s.id)
	s.phase = open
	s.home = h.hub.Name(n.Room)
	switch {
	case s.kind == jsonKind || s.kind == events:
		h.hello(s, n.Head)
	case s.kind == text && h.cfg.Greeting != "":
		h.hub.Text(s.id, []byte(h.cfg.Greeting))
	}
	h.release(s, pauseJoin)
	h.arm(s)
}

// hello sends the first message of a JSON session or of a reader of events. If no replay follows,
// a reader of events also gets the position from which to resume.
func (h *handshakes) hello(s *session, head history.Head) {
	hello := proto.Hello{
		Session: h.families.sessionID(s.id, h.hub.Session(s.id)), You: s.who, Time: time.Now(),
		Resume: h.resumeOf(s), Expires: s.tokenEnd(),
		Limits: proto.Limits{Message: h.cfg.MaxMessage, Rooms: h.cfg.MaxRooms, Rate: h.cfg.Rate.PerSecond, KeyWindowMS: h.bridge.KeyWindow().Milliseconds()},
	}
	if !s.home.IsZero() {
		hello.Joined = h.head(s, s.home, head)
	}
	h.buf = hello.AppendJSON(h.buf[:0])
	h.position(s, &proto.Record{Room: s.home, Kind: wire.KindHello, Payload: h.buf}, head, s.flags&noReplay != 0)
	if id, asked := h.authIDs[s.id]; asked {
		delete(h.authIDs, s.id)
		h.send(s, proto.AppendAuth(h.ok([]byte(id)), s.who, hello.Expires))
	}
}

// position sends e, the answer to a join. If newest is true, no replay follows. Then e contains
// the position of the room's newest event, from which a reader of events can resume.
func (h *handshakes) position(s *session, e *proto.Record, head history.Head, newest bool) {
	if newest {
		e.Seq, e.State = head.Seq, proto.State{Epoch: head.Epoch, At: head.At}
		if head.Seq == 0 {
			e.State.At = time.Now() // the client can also resume from the beginning of the room
		}
	}
	h.hub.Event(s.id, e)
}
