package session

import "roomcast/proto"

// authenticate takes a fresh token of the same identity, so that a session outlives the
// token it began with.
func (c *commands) authenticate(s *session, cmd *proto.Command) error {
	who, expires, err := c.auth.Token(cmd.Token)
	switch {
	case err != nil:
		return err
	case who.ID != s.who.ID:
		return proto.Refuse(proto.Forbidden, "the token is somebody else's; open another connection for it")
	}
	s.expires = secondOf(expires)
	c.arm(s)
	b := append(c.ok(cmd.ID), `{"you":`...)
	c.send(s, append(s.who.AppendJSON(b), '}'))
	return nil
}
