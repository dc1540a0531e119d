package auth

import (
	"runtime"
	"sync"
	"weak"

	"roomcast/proto/grant"
)

// sharedGrants lets all tokens with the same claim rooms share one grant. It forgets the grant
// when no session uses it any longer. It is safe for concurrent use.
type sharedGrants struct {
	mu      sync.Mutex
	byClaim map[string]weak.Pointer[grant.Grant]
}

// parse parses a claim like grant.Parse, but returns the same grant for the same claim.
func (s *sharedGrants) parse(claim []byte) (*grant.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.byClaim[string(claim)].Value(); g != nil {
		return g, nil
	}
	g, err := grant.Parse(claim)
	if err != nil {
		return nil, err
	}
	if s.byClaim == nil {
		s.byClaim = make(map[string]weak.Pointer[grant.Grant])
	}
	s.byClaim[string(claim)] = weak.Make(g)
	runtime.AddCleanup(g, s.forget, string(claim))
	return g, nil
}

func (s *sharedGrants) forget(claim string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byClaim[claim].Value() == nil {
		delete(s.byClaim, claim)
	}
}
