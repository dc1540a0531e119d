package server

import (
	"net/http"

	"roomcast/proto"
	"roomcast/proto/daemon"
)

// moderate carries out an act. The body contains the fields of a moderate command, or is empty.
func (a *api) moderate(r *http.Request, by *caller) (answer, error) {
	act := proto.Act(r.PathValue("act"))
	if !act.Known() {
		return nil, proto.Refuse(proto.NotFound, "there is no %s %s; PROTOCOL.md lists the requests", r.Method, r.URL.Path)
	}
	room, err := proto.ParseRoom(r.PathValue("room"))
	if err != nil {
		return nil, proto.Refuse(proto.BadRoom, "%v", err)
	}
	did := daemon.Act{Name: string(act), Room: room.String()}
	var reply proto.Reply
	if err = by.may(room, act.Permits(by.rights(room))); err == nil {
		reply, err = a.send(r, by, room, func(body []byte) (proto.Command, error) {
			cmd, err := proto.ParseAct(act, body)
			if err == nil {
				did = daemon.ActOf(room, act, &cmd.Terms, cmd.Why)
			}
			return cmd, err
		})
	}
	did.Seq = reply.Seq
	daemon.Audit(a.log, by.describe(r, a.auth.IssuerOf, did), err)
	if err != nil {
		return nil, err
	}
	return reply.AppendJSON(nil), nil
}
