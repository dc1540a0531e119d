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

// FromGateway reports whether a reply subject is one of a gateway. In a NATS with accounts, nobody
// else receives answers there.
func FromGateway(reply string) bool { return strings.HasPrefix(reply, prefixAck) }

// Answerable reports whether a program may publish an answer to a reply subject, because that
// subject is for answers only. The NATS server makes the subjects that begin with _R_, for
// requests from other accounts.
func Answerable(reply string) bool {
	return strings.HasPrefix(reply, prefixAck) || strings.HasPrefix(reply, "_R_.") || strings.HasPrefix(reply, "_INBOX")
}

// HeaderAccount is the header that the NATS server sets on a request from another account. It is
// JSON whose field acc names that account. The server overwrites the header of a client.
const HeaderAccount = "Nats-Request-Info"

// AskKeys is a request on [SubjectKeys] for the signing keys, of a revision or a later one. Without
// the revision, an outdated replica of the store could answer.
type AskKeys struct {
	Revision uint64 `json:"revision,omitempty"`
}

// Keys is the answer on [SubjectKeys].
type Keys struct {
	SigningKeys
	Revision uint64 `json:"revision,omitempty"` // of the keys
	Imported bool   `json:"imported,omitempty"` // the request came from another account; see ImportedAPI
	Resume   []byte `json:"resume,omitempty"`   // the oldest key, for gateways of version 0.1.0, which read no other
	Window   int64  `json:"window,omitempty"`   // for how long roomsvc remembers the keys of messages, in milliseconds
	Error    string `json:"error,omitempty"`    // why roomsvc does not know the keys; "" = it does
}

// SigningKeys are the keys that sign resume strings and tickets, the newest first. roomsvc stores
// them in this form under [SecretKey].
type SigningKeys struct {
	List []SigningKey `json:"keys"`
}

// A SigningKey signs from a time on, until the next key does. Gateways receive it before that time.
type SigningKey struct {
	Secret []byte `json:"secret"`         // at least [MinSecret] bytes
	From   int64  `json:"from,omitempty"` // in milliseconds since 1970
}

// MinSecret is the minimum length of the secret of a [SigningKey], in bytes.
const MinSecret = 32

// KeysChanged is the message of roomsvc to all gateways on [SubjectKeysChanged]. It holds no key.
type KeysChanged struct {
	Revision uint64 `json:"revision"`
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
