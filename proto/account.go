package proto

import "strings"

// NATS lets a client name any reply subject and does not check that the client may
// publish there. Programs that answer requests therefore check the reply subject with
// [Answerable]. The shipped configuration also keeps roomsvc, gateways, backends and
// guests in four accounts: a reply subject has no meaning outside its account.

// prefixAck begins the subjects on which gateways receive the answers of roomsvc.
const prefixAck = "room.ack."

// AckPrefix returns room.ack.<id>., with which the reply subjects of a gateway begin.
func AckPrefix(gateway string) string { return prefixAck + gateway + "." }

// Answerable reports whether a program may publish an answer to a reply subject, because that
// subject is for answers only. The NATS server makes the subjects that begin with _R_, for
// requests from other accounts.
func Answerable(reply string) bool {
	return strings.HasPrefix(reply, prefixAck) || strings.HasPrefix(reply, "_R_.") || strings.HasPrefix(reply, "_INBOX")
}

// HeaderAccount is the header that the NATS server sets on a request from another account. It is
// JSON whose field acc names that account. The server overwrites the header of a client.
const HeaderAccount = "Nats-Request-Info"

// Keys is the answer on [SubjectKeys].
type Keys struct {
	Resume   []byte `json:"resume"`             // signs resume strings
	Imported bool   `json:"imported,omitempty"` // the request came from another account; see ImportedAPI
}

// DirectAPI is the prefix of the JetStream API in the account that holds the streams, and
// ImportedAPI the one in accounts that import the reads. The imports need another prefix,
// because the server itself adds $JS.API to each account.
const (
	DirectAPI   = "$JS.API."
	ImportedAPI = "room.js."
)

// PrefixAsk begins the subjects on which gateways ask the application's backend; connect, join or
// say follows. Only gateways may publish there, and only backends may subscribe.
const PrefixAsk = "room.ask."
