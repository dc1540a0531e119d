package daemon

import (
	"context"
	"log/slog"

	"roomcast/proto"
)

// Act describes an action that an operator must be able to trace: an act of a moderator, the issue
// of a ticket, a revocation or a change of keys. The action may have been refused. An Act contains
// neither message texts nor credentials.
type Act struct {
	Name       string // such as ban, ticket or revoke
	By         string // id of the person or program that acts
	Credential string // kind of the credential that By has presented: guest, token, ticket, backend, api-token, local or nats
	Holder     string // name of this credential: an issuer, an API token or a NATS account; "" = none
	Peer       string // address of the author; "" = unknown
	Target     string // id or session that the action concerns; "" = none
	Room       string
	Seq        uint64 // seq of the act's event; 0 = none
	Of         uint64 // seq of the message that the act changes; 0 = none
	Why        string // reason that the author has given
}

// Audit writes one log line about an action. If the action was refused, the parameter refused is
// the reason.
func Audit(log *slog.Logger, a Act, refused error) {
	attrs := make([]slog.Attr, 0, 12)
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	add("act", a.Name)
	add("by", a.By)
	add("credential", a.Credential)
	add("holder", a.Holder)
	add("peer", a.Peer)
	add("target", a.Target)
	add("room", a.Room)
	if a.Seq > 0 {
		attrs = append(attrs, slog.Uint64("seq", a.Seq))
	}
	if a.Of > 0 {
		attrs = append(attrs, slog.Uint64("of", a.Of))
	}
	add("reason", a.Why)
	if refused != nil {
		add("refused", string(proto.AsRefusal(refused).Code))
	}
	log.LogAttrs(context.Background(), slog.LevelInfo, "audit", attrs...)
}

// AuditReply writes the log line of an act when the room's owner has replied. A nil act means that
// the request was a message.
func AuditReply(log *slog.Logger, a *Act, reply *proto.Reply) {
	if a == nil {
		return
	}
	a.Seq = reply.Seq
	if reply.Refusal != nil {
		Audit(log, *a, reply.Refusal)
		return
	}
	Audit(log, *a, nil)
}

// ActOf returns the description of an act in a room, with the fields of its terms.
func ActOf(room proto.Room, act proto.Act, terms *proto.Terms, why string) Act {
	return Act{Name: string(act), Room: room.String(), Target: terms.Member, Of: terms.Seq, Why: why}
}

// LogMessage writes one log line about a request and its reply. The line never holds the text,
// because readers of the log may not have the right to read the room.
func LogMessage(log *slog.Logger, room proto.Room, r *proto.Request, reply *proto.Reply) {
	attrs := []any{"room", room.String(), "from", r.From.ID, "kind", string(r.Content.Kind), "bytes", len(r.Content.Body)}
	switch {
	case reply.Refusal != nil:
		attrs = append(attrs, "refused", string(reply.Refusal.Code))
	case reply.Close != 0:
		attrs = append(attrs, "close", reply.Close.String())
	default:
		attrs = append(attrs, "seq", reply.Seq, "duplicate", reply.Duplicate)
	}
	if r.Act != "" {
		attrs = append(attrs, "act", string(r.Act))
	}
	log.Info("message", attrs...)
}
