package proto

import "time"

// A Revocation refuses every credential that was issued before a time: those of one id, or the
// resume strings of one session and those that follow from it.
type Revocation struct {
	ID        string `json:"id,omitempty"`
	Session   string `json:"session,omitempty"`
	Reconnect bool   `json:"reconnect,omitempty"` // the client may come back with a newer credential
	At        int64  `json:"at"`                  // in milliseconds since 1970
}

// Revoked is the answer on [SubjectRevoke]: the entry is stored, or Error says why not.
type Revoked struct {
	At    int64    `json:"at,omitempty"`
	Error *Refused `json:"error,omitempty"`
}

// Refused is a refusal of roomsvc to a gateway.
type Refused struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// ListRevocations is a request on [SubjectRevocations] for the entries after a revision.
type ListRevocations struct {
	After uint64 `json:"after"`
}

// Revocations is the answer: the oldest entries first, and the revision of the last.
type Revocations struct {
	List  []Revocation `json:"list"`
	Last  uint64       `json:"last"`
	More  bool         `json:"more,omitempty"`
	Error string       `json:"error,omitempty"` // why roomsvc cannot tell now
}

// Bounds of revocations. A credential lives at most MaxCredential, and an entry longer.
const (
	MaxRevocations  = 100000
	RevocationsPage = 2000
	MaxCredential   = 30 * 24 * time.Hour
	RevocationAge   = MaxCredential + 24*time.Hour
)
