package session

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/hub"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// subprotocol is what a client offers to get a JSON session.
const subprotocol = "roomcast.v1"

// resumeOffer begins the subprotocol offer that carries a resume string beside it. The
// answer never names such an offer, and logs of proxies do not keep it as they keep URLs.
const resumeOffer = "resume."

// greet reads the request a connection begins with, and makes it a session, hands it
// to net/http or refuses it.
func (ss *Sessions) greet(s *session, p []byte) (used int) {
	req, n, err := wire.ParseRequest(p, ss.cfg.MaxRequest)
	if err == nil && n == 0 {
		return 0
	}
	if err == nil && !req.Upgrade {
		ss.handOver(s)
		return len(p)
	}
	if err == nil {
		err = ss.upgrade(s, &req)
	}
	if err != nil {
		ss.refuse(s, err)
		return len(p)
	}
	return n
}

// upgrade makes the connection a session. Its errors go to the client.
func (ss *Sessions) upgrade(s *session, req *wire.Request) error {
	var err error
	if s.kind, s.home, err = ss.route(req); err != nil {
		return err
	}
	err = ss.auth.CheckHost(string(req.Host), req.Proxied)
	if err == nil {
		err = ss.auth.CheckOrigin(string(req.Origin), string(req.Host))
	}
	if err != nil {
		ss.tellRefusedPage(req, err)
		return proto.Refuse(proto.Forbidden, "%v", err)
	}
	from, err := proto.ParseFrom(req.Query)
	if err != nil {
		return err
	}
	if err := ss.identify(s, req); err != nil {
		return err
	}

	protocol := ""
	if s.kind == jsonKind {
		protocol = subprotocol
	}
	deflate := ss.cfg.Compress && req.Deflate
	s.reader.Deflate = deflate
	s.flags |= upgraded
	ss.hub.Open(s.id, formatOf(s))
	ss.buf = req.AppendAccept(ss.buf[:0], protocol, deflate)
	ss.stats.Sockets.Add(1)
	ss.stats.Opened.Add(1)
	if ss.verbose {
		ss.log(s).Debug("session opened", "room", s.home.String(), "name", s.who.Name)
	}

	if s.home.IsZero() {
		ss.hub.Send(s.id, ss.buf)
		s.phase = open
		if s.kind == jsonKind {
			ss.hello(s, hub.Notice{})
		}
		ss.arm(s)
		return nil
	}
	s.phase = joiningIn
	ss.joins[joining{s.id, s.home}] = string(ss.buf)
	ss.loop.SetDeadline(s.id, ss.cfg.TextPatience)
	ss.hub.Join(s.id, s.home, from)
	return nil
}

// accept answers the handshake of a session that has waited for its room. A client that
// reads the answer is shown everything that is said from then on. A text session has no
// other way to learn that it is in the room.
func (ss *Sessions) accept(s *session) {
	j := joining{s.id, s.home}
	if answer, held := ss.joins[j]; held {
		delete(ss.joins, j)
		ss.hub.Send(s.id, []byte(answer))
	}
}

// tellRefusedPage logs the first page that is refused in each minute. Its reader sees
// only that there is no connection, so the operator has to learn the reason here.
func (ss *Sessions) tellRefusedPage(req *wire.Request, err error) {
	if now := ss.loop.Now(); ss.refusedPage.IsZero() || now.Sub(ss.refusedPage) >= time.Minute {
		ss.refusedPage = now
		ss.cfg.Log.Warn("page refused; more of them are not logged for a minute", "error", err, "origin", string(req.Origin), "host", string(req.Host))
	}
}

// route says what a path leads to.
func (ss *Sessions) route(req *wire.Request) (kind, proto.Room, error) {
	k := text
	if req.Offers(subprotocol) {
		k = jsonKind
	}
	path, below := strings.CutPrefix(req.Path, ss.cfg.PathPrefix)
	if !below {
		path = ""
	}
	rest, isRoom := strings.CutPrefix(path, "/room/")
	if !isRoom && ss.cfg.Conformance {
		if path == "/echo" {
			return echo, proto.Room{}, nil
		}
		if rest, isRoom = strings.CutPrefix(path, "/verbatim/"); isRoom {
			k = verbatim
		}
	}
	switch {
	case isRoom:
		room, err := proto.ParseRoom(strings.TrimSuffix(rest, "/"))
		if err != nil {
			return k, room, proto.Refuse(proto.BadRoom, "%v", err)
		}
		return k, room, nil
	case path == "/ws" && k == jsonKind:
		return k, proto.Room{}, nil
	case path == "/ws":
		return k, proto.Room{}, proto.Refuse(proto.BadRequest, "%s/ws speaks the subprotocol %s; a text session is at %[1]s/room/<group>/", ss.cfg.PathPrefix, subprotocol)
	}
	return k, proto.Room{}, proto.Refuse(proto.NotFound, "no WebSocket here; connect to %s/room/<group>/ or %[1]s/ws", ss.cfg.PathPrefix)
}

// identify finds out who the session is: by its token, by the resume string of an
// earlier session, or as somebody new.
func (ss *Sessions) identify(s *session, req *wire.Request) error {
	token, bearer := auth.Bearer(string(req.Authorization))
	if !bearer {
		token = req.Query("token")
		if token != "" && !ss.cfg.QueryToken {
			return proto.Refuse(proto.Unauthorized, "tokens in the URL are not taken here; send Authorization: Bearer")
		}
	}
	resume := req.Query("resume")
	if s.kind == jsonKind {
		if resume != "" {
			return proto.Refuse(proto.BadRequest, "resume in the URL is for text sessions; offer the subprotocol %s<string> beside %s", resumeOffer, subprotocol)
		}
		resume = req.Offered(resumeOffer)
	}
	s.issued = secondOf(time.Now())
	switch {
	case token != "":
		who, expires, err := ss.auth.Token(token)
		if err != nil {
			return err
		}
		s.who, s.expires = who, secondOf(expires)
		s.flags |= byRequest
		return nil // the name is the token's too
	case ss.cfg.RequireToken:
		return proto.Refuse(proto.Unauthorized, "a token is needed; send Authorization: Bearer")
	case resume != "":
		who, issued, err := ss.auth.Resume(resume)
		if err != nil {
			s.who = ss.auth.Anonymous()
		} else {
			s.who, s.issued = who, secondOf(issued)
		}
	default:
		s.who = ss.auth.Anonymous()
	}
	if name := req.Query("name"); name != "" {
		if r := proto.CheckName(name); r != nil {
			return r
		}
		s.who.Name = name
	}
	return nil
}

// refuse answers a request that cannot become a session by a status and one line.
func (ss *Sessions) refuse(s *session, err error) {
	var plain *wire.Refusal
	if !errors.As(err, &plain) {
		r := proto.AsRefusal(err)
		plain = &wire.Refusal{Status: r.Code.Status(), Reason: r.Message}
	}
	ss.stats.Refused.Add(1)
	if ss.verbose {
		ss.log(s).Debug("handshake refused", "status", plain.Status, "why", plain.Reason)
	}
	ss.buf = wire.AppendRefusal(ss.buf[:0], plain)
	ss.loop.Write(s.id, ss.buf) // the first bytes of a connection fit
	ss.hangUp(s)
}

// handOver gives a connection to net/http.
func (ss *Sessions) handOver(s *session) {
	nc, err := ss.loop.Detach(s.id)
	if err != nil {
		ss.cfg.Log.Error("connection cannot be handed to HTTP", "error", err)
		ss.refuse(s, proto.Refuse(proto.Unavailable, "this server is short of resources; try again later"))
		return
	}
	s.phase = ending
	s.flags &^= counted // c ends the count
	ss.cfg.HTTP(&Handed{Conn: nc, ss: ss, peer: netip.AddrPortFrom(netip.AddrFrom16(s.peer), s.port)})
}

// hello is the first frame of a JSON session.
func (ss *Sessions) hello(s *session, n hub.Notice) {
	h := proto.Hello{
		Session: ss.hub.Session(s.id), You: s.who, Time: time.Now(),
		Resume: ss.auth.Sign(s.who, time.Unix(int64(s.issued), 0)),
	}
	if !s.home.IsZero() {
		h.Joined = joined(s.home, n.Head)
	}
	ss.buf = h.AppendJSON(ss.buf[:0])
	ss.hub.Text(s.id, ss.buf)
}
