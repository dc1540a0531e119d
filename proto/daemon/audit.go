package daemon

import (
	"context"
	"log/slog"

	"roomcast/proto"
)

// An Act is what somebody did, or tried to do, that an operator must be able to trace: an act of a
// moderator, a ticket, a revocation, a change of keys. It holds no texts of messages and no
// credentials.
type Act struct {
	Name       string // such as ban, ticket, revoke
	By         string // the id of its author
	Credential string // its kind: guest, token, ticket, backend, api-token, local or nats
	Holder     string // the name of the credential: an issuer, an API token, a NATS account; "" = none
	Peer       string // the author's address; "" = not known
	Target     string // the id or session that it concerns; "" = none
	Room       string
	Seq        uint64 // of the event that it became; 0 = none
	Of         uint64 // the seq of the message that it changes; 0 = none
	Why        string // the reason that its author gave
}

// Audit writes one log line about an act. Refused is why it had no effect; nil = it had one.
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

// ActOf returns the part of an act in a room that its terms tell.
func ActOf(room proto.Room, act proto.Act, terms *proto.Terms, why string) Act {
	return Act{Name: string(act), Room: room.String(), Target: terms.Member, Of: terms.Seq, Why: why}
}
