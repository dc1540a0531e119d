package proto

import "strings"

// A NATS client can name any subject for the reply to its request. NATS does not check that the
// client may publish on that subject. So a program that answers requests checks the reply
// subject with [Answerable] first. In addition, the shipped configuration puts roomsvc,
// gateways, backends and guests into four accounts, and a reply subject has no meaning outside
// its account.

// prefixAck is the beginning of the subjects on which gateways receive roomsvc's replies.
const prefixAck = "room.ack."

// AckPrefix returns room.ack.<id>., the beginning of the gateway's reply subjects.
func AckPrefix(gateway string) string { return prefixAck + gateway + "." }

// FromGateway reports whether a reply subject belongs to a gateway. If NATS has separate
// accounts, only gateways can receive replies on such a subject.
func FromGateway(reply string) bool { return strings.HasPrefix(reply, prefixAck) }

// Answerable reports whether a program may publish an answer on a reply subject. It may if the
// subject is used only for answers. The NATS server makes subjects that begin with _R_, for
// requests from other accounts.
func Answerable(reply string) bool {
	return strings.HasPrefix(reply, prefixAck) || strings.HasPrefix(reply, "_R_.") || strings.HasPrefix(reply, "_INBOX")
}

// HeaderAccount is the header that the NATS server sets on a request from another account. Its
// value is JSON, whose field acc names that account. If the client has set this header, the
// server overwrites it.
const HeaderAccount = "Nats-Request-Info"

// AskKeys is a request on [SubjectKeys] for the signing keys of the given revision, or of a
// later one. Without the revision, an outdated replica of the store could answer with old keys.
type AskKeys struct {
	Revision uint64 `json:"revision,omitempty"`
}

// Keys is the answer on [SubjectKeys].
type Keys struct {
	SigningKeys
	Revision uint64 `json:"revision,omitempty"` // revision of the keys
	Imported bool   `json:"imported,omitempty"` // the request came from another account; see ImportedAPI
	Resume   []byte `json:"resume,omitempty"`   // the oldest key, for gateways of version 0.1.0, which read only this field
	Window   int64  `json:"window,omitempty"`   // how long roomsvc remembers the keys of messages, in milliseconds
	Error    string `json:"error,omitempty"`    // why roomsvc does not know the keys; "" = it knows them
}

// SigningKeys contains the keys that sign resume strings and tickets, the newest first. roomsvc
// stores them in this form under [SecretKey].
type SigningKeys struct {
	List []SigningKey `json:"keys"`
}

// SigningKey signs resume strings and tickets from the time From until the next key replaces it.
// Gateways receive a key before its time From.
type SigningKey struct {
	Secret []byte `json:"secret"`         // at least [MinSecret] bytes
	From   int64  `json:"from,omitempty"` // in milliseconds since 1970
}

// MinSecret is the minimum length of the secret of a [SigningKey], in bytes.
const MinSecret = 32

// KeysChanged is roomsvc's message to all gateways on [SubjectKeysChanged]. It does not contain
// a key.
type KeysChanged struct {
	Revision uint64 `json:"revision"`
}

// DirectAPI is the prefix of the JetStream API in the account that owns the streams. ImportedAPI
// is the prefix in accounts that import the read requests. It must differ, because the NATS
// server adds $JS.API to every account itself.
const (
	DirectAPI   = "$JS.API."
	ImportedAPI = "room.js."
)

// PrefixAsk is the beginning of the subjects on which gateways ask the application's backend.
// The last token is connect, join or say. Only gateways may publish on these subjects, and only
// backends may subscribe to them.
const PrefixAsk = "room.ask."
