package proto

import "time"

// A Revocation makes credentials that were issued before a time invalid. They are those of one id,
// or the resume strings of one session and of the sessions that have resumed it.
type Revocation struct {
	ID        string `json:"id,omitempty"`
	Session   string `json:"session,omitempty"`
	Reconnect bool   `json:"reconnect,omitempty"` // the client may come back with a newer credential
	At        int64  `json:"at"`                  // in milliseconds since 1970
}

// Revoked is the answer on [SubjectRevoke]. With an Error, the entry is not stored.
type Revoked struct {
	At    int64    `json:"at,omitempty"`
	Error *Refused `json:"error,omitempty"`
}

// Refused is a refusal by roomsvc.
type Refused struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// ListRevocations is a request on [SubjectRevocations] for the entries after a revision.
type ListRevocations struct {
	After uint64 `json:"after"`
}

// Revocations is the answer to [ListRevocations]: the oldest entries first, and the revision of
// the last one.
type Revocations struct {
	List  []Revocation `json:"list"`
	Last  uint64       `json:"last"`
	More  bool         `json:"more,omitempty"`
	Error string       `json:"error,omitempty"` // why roomsvc does not know; "" = it knows
}

// Bounds of revocations. The longest life of a credential is MaxCredential. The bucket keeps an
// entry for RevocationAge, which is longer.
const (
	MaxRevocations  = 100000
	RevocationsPage = 2000
	MaxCredential   = 30 * 24 * time.Hour
	RevocationAge   = MaxCredential + 24*time.Hour
)
