package proto

import (
	"strings"
	"time"
)

// Revocation makes invalid the credentials that were issued before a certain time. It concerns
// either all credentials of one id, or the resume strings of one session and of all sessions that
// continue it.
type Revocation struct {
	ID        string `json:"id,omitempty"`
	Session   string `json:"session,omitempty"`
	Reconnect bool   `json:"reconnect,omitempty"` // the client may come back with a newer credential
	At        int64  `json:"at"`                  // in milliseconds since 1970
}

// Check refuses a revocation unless it names either an id or a session. It also refuses reserved
// ids, because no credential has them. Only the reserved ids of guests are in credentials.
func (e *Revocation) Check() *Refusal {
	switch {
	case (e.ID == "") == (e.Session == ""):
		return Refuse(BadRequest, "name an id or a session: one of them")
	case e.Session != "":
		if !strings.Contains(e.Session, "-") || checkToken("session", e.Session, MaxIDBytes) != nil {
			return Refuse(BadRequest, "the session is not one that a hello has named")
		}
		return nil
	case ReservedID(e.ID) && !IsGuest(e.ID):
		return Refuse(BadRequest, "no credential has the id %s, so none can be revoked", clip(e.ID))
	}
	return CheckID(e.ID)
}

// Family returns the part of a session's id that it has in common with all sessions that continue
// each other: the id of the first of them. The id of a resumed session has the form
// <id of its connection>.<id of the first session>.
func Family(session string) string {
	if _, first, resumed := strings.Cut(session, "."); resumed {
		return first
	}
	return session
}

// Revoked is the answer on [SubjectRevoke]. If it contains an Error, the revocation was not
// stored.
type Revoked struct {
	At    int64    `json:"at,omitempty"`
	Error *Refused `json:"error,omitempty"`
}

// Refused is a refusal by roomsvc.
type Refused struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// ListRevocations is a request on [SubjectRevocations] for the revocations after the given
// revision.
type ListRevocations struct {
	After uint64 `json:"after"`
}

// Revocations is the answer to [ListRevocations]. The list is ordered from the oldest to the
// newest. Last is the revision of its last entry.
type Revocations struct {
	List  []Revocation `json:"list"`
	Last  uint64       `json:"last"`
	More  bool         `json:"more,omitempty"`
	Error string       `json:"error,omitempty"` // why roomsvc cannot answer; "" = it has answered
}

// Bounds for revocations. MaxCredential is the longest life of a credential. The bucket keeps a
// revocation for RevocationAge. This is longer, so a revocation outlives all credentials that it
// concerns.
const (
	MaxRevocations  = 100000
	RevocationsPage = 64 << 10 // bytes of the revocations in one answer; NATS carries 1 MB by default
	MaxCredential   = 30 * 24 * time.Hour
	RevocationAge   = MaxCredential + 24*time.Hour
)
