package session

import (
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/history"
)

// bearerOffer is the beginning of a subprotocol that contains a token, as in bearer.eyJhbGci…. A
// script in a browser can choose the subprotocols of a WebSocket handshake, but no other header.
const bearerOffer = "bearer."

// unnamedLimits bounds the first frame of a client that must send auth. A token has up to 12
// KiB, and the command around it needs space too.
var unnamedLimits = wire.Limits{Message: 20 << 10, Fragments: 64}

// given contains the credentials that a handshake presents.
type given struct {
	token   string // "" = none
	ticket  string
	refused *proto.Refusal // why the gateway refuses the token without checking it
	resume  string
	name    string
	named   bool // the request has a name parameter, whose value may be empty
}

// credential returns the credentials of a handshake: a resume string, and a token or a ticket. If
// the request has several tokens and tickets, only the strongest counts. credential returns an
// error if the request is malformed or exceeds a limit. The client receives the error as an HTTP
// status.
func (h *handshakes) credential(s *session, req *wire.Request, site auth.Site) (g given, err error) {
	if req.Proxied {
		s.flags |= proxied
	}
	if g.resume = req.Query("resume"); s.kind == events && len(req.Resume) > 0 {
		g.resume = string(req.Resume)
	}
	g.name, g.named = req.Lookup("name")
	resume, resumes := req.Offered(resumeOffer)
	bearer, shown := req.Offered(bearerOffer) // shown: the request has a token or ticket, which may be empty
	switch {
	case s.kind != jsonKind && (resumes || shown):
		return g, proto.Refuse(proto.BadRequest, "offer the subprotocol %s too; a credential is not accepted without it", subprotocol)
	case s.kind == jsonKind && g.resume != "":
		return g, proto.Refuse(proto.BadRequest, "resume in the URL is for text sessions; offer the subprotocol %s<string> beside %s", resumeOffer, subprotocol)
	case s.kind == jsonKind:
		g.resume, g.token = resume, bearer
	}
	if !shown {
		g.token, shown = auth.Bearer(string(req.Authorization))
	}
	if !shown {
		g.token = ""
		if h.cfg.Cookie != "" && h.cookieCounts(req, site) {
			g.token = cookie(req.Cookie, h.cfg.Cookie)
		}
		shown = g.token != "" // a page that logs its user out may leave an empty cookie
	}
	if !shown {
		g.ticket, shown = req.Lookup("ticket")
	}
	if !shown {
		if g.token, shown = req.Lookup("token"); shown && !h.cfg.QueryToken {
			g.refused = proto.Refuse(proto.Unauthorized, "tokens in the URL are not accepted here; offer the subprotocol %s<token> or send Authorization: Bearer", bearerOffer)
		}
	}
	if shown {
		if g.token == "" && g.ticket == "" && g.refused == nil {
			g.refused = proto.Refuse(proto.Unauthorized, "the token or ticket is empty")
		}
		return g, h.tooManyFailures(s)
	}
	if g.name != "" {
		if r := proto.CheckName(g.name); r != nil {
			return g, r
		}
	}
	return g, nil
}

// cookieCounts reports whether the gateway may accept the cookie of a request as a credential. If
// the request has an Origin, that origin must be allowed to use the cookie. Without an Origin, as
// in a request for events, it must have the header Sec-Fetch-Site. In this header, the browser
// must say that the request comes from the same origin.
func (h *handshakes) cookieCounts(req *wire.Request, site auth.Site) bool {
	if len(req.Origin) == 0 {
		return req.SameOrigin
	}
	return h.auth.CookieCounts(string(req.Origin), site)
}

// cookie returns the value of the first cookie that has the given name and is not empty. It accepts
// malformed cookies, because a page with a malformed cookie must not become a guest.
func cookie(header []byte, name string) string {
	for pair := range strings.SplitSeq(string(header), ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if strings.TrimSpace(key) == name && value != "" {
			return value
		}
	}
	return ""
}

// identify finds out who the client is from the client's credential. Then it continues with
// admit.
func (h *handshakes) identify(s *session, g given, from proto.From) {
	switch {
	case g.refused != nil:
		h.refuseToken(s, g.refused)
	case g.token != "":
		h.verify(s, g.token, func(s *session, holder auth.Holder, err error) {
			if err != nil {
				h.refuseToken(s, err)
				return
			}
			h.take(s, &holder)
			h.usePass(s, g.resume)
			h.permit(s, func(s *session) { h.admit(s, from) })
		})
	case g.ticket != "":
		h.redeem(s, g.ticket, func(s *session, err error) {
			if err != nil {
				h.refuseToken(s, err)
				return
			}
			h.admit(s, from)
		})
	default:
		s.who, s.issued, s.grant = h.auth.Anonymous(), secondOf(time.Now()), h.auth.Guests()
		s.iat = s.issued
		if err := h.usePass(s, g.resume); err != nil {
			h.refuseToken(s, err)
			return
		}
		if g.named && s.flags&admitted == 0 {
			s.who.Name = g.name
		}
		if h.mayAuthenticate(s) && !h.allowed(s) && !h.introduced(s) {
			h.admit(s, from)
			return
		}
		h.permit(s, func(s *session) { h.admit(s, from) })
	}
}

// verify checks a token in another goroutine. Then it calls done on the loop, unless the session
// has ended meanwhile.
func (qs *questions) verify(s *session, token string, done func(*session, auth.Holder, error)) {
	id := s.id
	taken := qs.auth.Check(token, func(h auth.Holder, err error) {
		qs.later(id, func(s *session) {
			if err == nil { // a revocation during the check could not find the session by this id
				err = qs.auth.Revoked().Check(h.Who.ID, "", h.Issued)
			}
			done(s, h, err)
		})
	})
	if !taken {
		done(s, auth.Holder{}, auth.Busy())
	}
}

// take gives the session the identity and rights of a token's holder.
func (st *state) take(s *session, h *auth.Holder) {
	s.who, s.grant, s.expires, s.iat = h.Who, h.Grant, secondOf(h.End()), secondOf(h.Issued)
	s.flags |= hasToken
}

// tokenEnd returns the time in the token's exp claim, or zero if the session has no token.
func (s *session) tokenEnd() time.Time {
	if s.expires == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s.expires), 0).Add(-auth.Leeway)
}

// allowed reports whether the session has the right that it needs to begin. A session with a
// room in its URL must be allowed to read this room. A stream of several rooms must be allowed
// to read one of them.
func (st *state) allowed(s *session) bool {
	if st := st.streams[s.id]; st != nil && len(st.rooms) > 0 {
		return st.allows(s)
	}
	if s.home.IsZero() {
		return s.flags&(hasToken|admitted) != 0 || s.kind == echo || !s.grant.IsEmpty()
	}
	return s.grant.Of(s.home, s.who.ID).Allow(proto.RightRead)
}

// mayAuthenticate reports whether the session came without a credential and may still send auth.
func (st *state) mayAuthenticate(s *session) bool {
	return s.kind == jsonKind && s.flags&(hasToken|admitted) == 0 && st.auth.TakesAuth()
}

// admit begins a session whose client is known. If the client has no rights, but may get some
// with auth, admit waits for this command. Until then the session joins no room.
func (h *handshakes) admit(s *session, from proto.From) {
	switch {
	case h.allowed(s):
	case s.flags&(hasToken|admitted) != 0:
		h.close(s, proto.CloseForbidden, "", proto.LeftServer)
		return
	case !h.mayAuthenticate(s):
		h.close(s, proto.CloseNoToken, tokenPlaces(s, h.auth), proto.LeftServer)
		return
	default:
		h.waiting[s.id] = from
		h.accept(s)
		s.phase = unnamed
		h.release(s, pauseJoin)
		h.loop.SetDeadline(s.id, h.cfg.AuthTime)
		return
	}
	if h.verbose {
		h.log(s).Debug("session opened", "room", s.home.String(), "name", s.who.Name)
	}
	if s.kind == events && s.home.IsZero() {
		h.joinAll(s)
		return
	}
	if !s.home.IsZero() {
		s.phase = joiningIn
		h.hold(s, pauseJoin)
		h.release(s, pauseAuth)
		h.loop.SetDeadline(s.id, h.cfg.TextPatience)
		h.askJoin(s, s.home, func(s *session, refusal *proto.Refusal) {
			if refusal != nil {
				h.closeRefused(s, refusal)
				return
			}
			h.hub.Join(s.id, s.home, from)
		})
		return
	}
	h.accept(s)
	s.phase = open
	if s.kind == jsonKind {
		h.hello(s, history.Head{})
	}
	h.release(s, pauseJoin|pauseAuth)
	h.arm(s)
}

// tokenPlaces says where a session that cannot send auth may present a credential.
func tokenPlaces(s *session, a *auth.Auth) string {
	if !a.TakesAuth() || s.kind == jsonKind {
		return ""
	}
	return "a token is needed here; send it as Authorization: Bearer, or a ticket as ?ticket="
}

// firstFrame handles the first frame of a session that must begin with auth. If the command
// succeeds, its answer is hello.
func (c *commands) firstFrame(s *session, f *wire.Frame) {
	if f.Deflated || f.Op != wire.OpText {
		c.close(s, proto.CloseNoToken, "the first frame must be auth, as text and not compressed", proto.LeftServer)
		return
	}
	cmd, err := proto.ParseCommand(f.Payload)
	if err != nil && cmd.Verb == proto.VerbAuth {
		c.close(s, proto.CloseNoToken, proto.AsRefusal(err).Message, proto.LeftServer)
		return
	}
	if err != nil || cmd.Verb != proto.VerbAuth {
		c.close(s, proto.CloseNoToken, `a token is needed here; send {"auth":{"token":"…"}} first`, proto.LeftServer)
		return
	}
	s.flags |= commanded
	c.authenticateFirst(s, &cmd)
}

// replaceGuest continues a session that began without a credential, after its client has
// presented a token or ticket. The parameter guest is the identity that the session had before.
func (h *handshakes) replaceGuest(s *session, guest proto.Identity) {
	if from, waits := h.waiting[s.id]; waits {
		delete(h.waiting, s.id)
		h.admit(s, from)
		return
	}
	if h.forbidden(s, s.home, proto.RightRead) != nil && !s.home.IsZero() {
		s.who = guest // leave the room as the guest, because the members know only this identity
		h.close(s, proto.CloseForbidden, "", proto.LeftServer)
		return
	}
	head, _, in := h.hub.Head(s.id, s.home)
	if in && h.banned(s, head.Limits) != nil {
		s.who = guest // leave the room as the guest, because the members know only this identity
		h.close(s, proto.CloseBanned, "", proto.LeftServer)
		return
	}
	h.release(s, pauseAuth)
	h.arm(s)
	if in {
		h.bridge.Left(s.home, guest, proto.LeftClient)
		h.bridge.Joined(s.home, s.who)
	}
	h.hello(s, head)
}
