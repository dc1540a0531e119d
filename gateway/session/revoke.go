package session

import (
	"roomcast/gateway/auth"
	"roomcast/proto"
)

// revoke ends the sessions whose credentials the revocations in list make invalid.
func (qs *questions) revoke(list []proto.Revocation) {
	ids, families := make(map[string]*proto.Revocation), make(map[string]*proto.Revocation)
	for i := range list {
		if e := &list[i]; e.ID != "" {
			ids[e.ID] = e
		} else {
			families[e.Session] = e
		}
	}
	qs.each(func(s *session) {
		if s.flags&upgraded == 0 || s.phase == ending {
			return
		}
		e := ids[s.who.ID]
		if e == nil && len(ids) > 0 {
			e = ids[qs.tokenID(s)]
		}
		if e != nil && int64(s.iat)*1000 >= e.At {
			e = nil
		}
		if e == nil && len(families) > 0 {
			if e = families[qs.family(s)]; e == nil {
				e = families[qs.hub.Session(s.id)]
			}
		}
		if e != nil {
			err := auth.RevokedRefusal(e)
			qs.close(s, auth.CloseCode(err), proto.AsRefusal(err).Message, proto.LeftServer)
		}
	})
}
