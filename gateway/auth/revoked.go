package auth

import (
	"sync"
	"time"

	"roomcast/proto"
)

// Revocations contains the credentials that gateways refuse although they have not expired. The
// bridge adds to it. Each loop watches it, to end sessions. It is safe for concurrent use. A nil
// *Revocations refuses nothing.
type Revocations struct {
	mu       sync.RWMutex // guards the fields below
	ids      map[string]proto.Revocation
	sessions map[string]proto.Revocation
	watchers []func([]proto.Revocation)
}

// Refusals for revoked credentials.
var (
	errRevoked = proto.Refuse(proto.Unauthorized, "this credential has been revoked")
	errRenew   = proto.Refuse(proto.Unauthorized, "this credential has been revoked; get a new one")
)

// Watch makes Add call f with each list of new revocations. The function f must not block.
func (r *Revocations) Watch(f func([]proto.Revocation)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers = append(r.watchers, f)
}

// Add adds revocations. It ignores those that it knows already.
func (r *Revocations) Add(list []proto.Revocation) {
	r.mu.Lock()
	if r.ids == nil {
		r.ids, r.sessions = make(map[string]proto.Revocation), make(map[string]proto.Revocation)
	}
	var added []proto.Revocation
	for _, e := range list {
		to, name := r.ids, e.ID
		if name == "" {
			to, name = r.sessions, e.Session
		}
		if old, known := to[name]; !known || old.At < e.At {
			to[name] = e
			added = append(added, e)
		}
	}
	oldest := time.Now().Add(-proto.RevocationAge).UnixMilli()
	if len(r.ids)+len(r.sessions) > proto.MaxRevocations {
		for _, m := range []map[string]proto.Revocation{r.ids, r.sessions} {
			for name, e := range m {
				if e.At < oldest {
					delete(m, name)
				}
			}
		}
	}
	watchers := r.watchers
	r.mu.Unlock()
	if len(added) == 0 {
		return
	}
	for _, f := range watchers {
		f(added)
	}
}

// Check returns a refusal if a credential was revoked. The parameters describe the credential:
// its id, its family of sessions, and when it was issued. For the family, see [Pass]; "" means
// that there is none.
func (r *Revocations) Check(id, family string, issued time.Time) error {
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range []proto.Revocation{r.ids[id], r.sessions[family]} {
		if issued.UnixMilli() < e.At {
			return RevokedRefusal(&e)
		}
	}
	return nil
}

// RevokedRefusal returns the refusal for a credential that the revocation e makes invalid.
func RevokedRefusal(e *proto.Revocation) error {
	if e.Reconnect {
		return errRenew
	}
	return errRevoked
}
