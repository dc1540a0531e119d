package session

import (
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto"
)

// authEvery is the shortest time between two auth commands of a session.
const authEvery = 10 * time.Second

// authenticate handles the command auth of an open session. A guest may present a credential
// only in its first command. A session with a credential renews it with auth. The other members
// of its rooms do not notice the renewal.
func (c *commands) authenticate(s *session, cmd *proto.Command, first bool) error {
	switch {
	case s.flags&(hasToken|admitted) == 0 && first:
		c.authenticateFirst(s, cmd)
		return nil
	case s.flags&(hasToken|admitted) == 0:
		return proto.Refuse(proto.Forbidden, "this session is a guest's; open another connection and begin with the token or ticket")
	case (s.flags&hasToken == 0) == (cmd.Token != ""):
		return proto.Refuse(proto.Forbidden, "this kind of credential cannot renew this session; open another connection")
	}
	now := secondOf(time.Now())
	if since := time.Duration(now-s.issued) * time.Second; s.issued != 0 && now >= s.issued && since < authEvery {
		return proto.Refuse(proto.RateLimited, "a session may send auth once in %v", authEvery).After(authEvery - since)
	}
	if refusal := c.tooManyFailures(s); refusal != nil {
		c.close(s, proto.CloseShed, proto.AsRefusal(refusal).Message, proto.LeftServer)
		return nil
	}
	s.issued = now
	command, was := string(cmd.ID), s.who
	c.hold(s, pauseAuth)
	done := func(s *session, err error) {
		c.release(s, pauseAuth)
		if err != nil {
			c.countFailure(s, err)
			c.answerRefusal(s, []byte(command), proto.AsRefusal(err))
			return
		}
		c.arm(s)
		if s.who != was {
			renamed(c, s, was)
		}
		c.send(s, proto.AppendAuth(c.ok([]byte(command)), s.who, s.tokenEnd()))
		c.expelLost(s)
	}
	if cmd.Ticket != "" {
		c.redeem(s, cmd.Ticket, done)
		return nil
	}
	c.verify(s, cmd.Token, func(s *session, h auth.Holder, err error) {
		if err == nil && h.Who.ID != c.tokenID(s) {
			err = proto.Refuse(proto.Forbidden, "the token is for another id; open another connection for it")
		}
		if err == nil {
			c.take(s, &h)
			c.keepAnswer(s)
		}
		done(s, err)
	})
	return nil
}

// renamed gives the lists of members the session's new name. The session joins under the new name
// before it leaves under the old one, so no member receives a notice.
func renamed(c *commands, s *session, was proto.Identity) {
	for _, room := range c.hub.RoomsOf(s.id) {
		if _, waits := c.joins[memberKey{s.id, room}]; !waits {
			c.bridge.Joined(room, s.who)
			c.bridge.Left(room, was, proto.LeftClient)
		}
	}
}

// authenticateFirst handles auth in a session that has no credential yet. If the credential is
// valid, it answers with hello, and then with an ok if the command has an id.
func (c *commands) authenticateFirst(s *session, cmd *proto.Command) {
	if refusal := c.tooManyFailures(s); refusal != nil {
		c.close(s, proto.CloseShed, proto.AsRefusal(refusal).Message, proto.LeftServer)
		return
	}
	if cmd.ID != nil {
		c.authIDs[s.id] = string(cmd.ID)
	}
	resume, guest := cmd.Resume, s.who
	c.hold(s, pauseAuth)
	if cmd.Ticket != "" {
		c.redeem(s, cmd.Ticket, func(s *session, err error) {
			if err != nil {
				c.refuseToken(s, err)
				return
			}
			c.handshakes.replaceGuest(s, guest)
		})
		return
	}
	token := cmd.Token
	c.withKey(s, resume, func(s *session, err error) {
		if err != nil {
			c.refuseToken(s, err)
			return
		}
		c.verify(s, token, func(s *session, h auth.Holder, err error) {
			if err != nil {
				c.refuseToken(s, err)
				return
			}
			c.take(s, &h)
			s.issued = 0
			c.usePass(s, resume)
			c.permit(s, func(s *session) { c.handshakes.replaceGuest(s, guest) })
		})
	})
}
