package server_test

import (
	"strings"
	"sync"
	"testing"

	"roomcast/gateway/server/servertest"
)

// The log has a line for each ticket, revocation and act that was requested over HTTP, also for
// refused ones.
func TestRequestsAreAudited(t *testing.T) {
	tokens := servertest.File(t, "shop shop-token-0123456789 tickets:shop-* read:shop-* say:shop-*\nboss boss-token-0123456789 admin\n")
	var log logLines
	base := servertest.ServeLogging(t, &log, "--api-token-file", tokens)
	for _, tt := range []struct{ token, path, body, line string }{
		{"boss-token-0123456789", "tickets", `{"id":"ann","rooms":{"shop-1":"read"}}`, "act=ticket by=api:boss credential=api-token holder=api:boss peer=* target=ann"},
		{"shop-token-0123456789", "tickets", `{"id":"ann","rooms":{"lobby":"read"}}`, "act=ticket by=api:shop credential=api-token holder=api:shop peer=* target=ann refused=forbidden"},
		{"boss-token-0123456789", "revoke", `{"id":"ann"}`, "act=revoke by=api:boss credential=api-token holder=api:boss peer=* target=ann"},
		{"shop-token-0123456789", "revoke", `{"id":"ann"}`, "act=revoke by=api:shop credential=api-token holder=api:shop peer=* target=ann refused=forbidden"},
		{"boss-token-0123456789", "rooms/shop-1/close", `{"why":"done"}`, "act=close by=api:boss credential=api-token holder=api:boss peer=* room=shop-1 seq=1 reason=done"},
		{"shop-token-0123456789", "rooms/shop-1/close", `{"why":"done"}`, "act=close by=api:shop credential=api-token holder=api:shop peer=* room=shop-1 refused=forbidden"},
	} {
		_, answer := servertest.Call(t, "POST", base+"api/"+tt.path, tt.body, "Authorization", "Bearer "+tt.token, "Content-Type", "application/json")
		begin, end, _ := strings.Cut(tt.line, "*")
		if !log.has(begin, end) {
			t.Errorf("%s: no line is %s:\n%s\n%s", tt.path, tt.line, log.String(), answer)
		}
		if strings.Contains(log.String(), tt.token) {
			t.Errorf("the log contains the token:\n%s", log.String())
		}
	}
}

// logLines is a log in memory.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has reports whether the log has an audit line that begins with begin and ends with end.
func (l *logLines) has(begin, end string) bool {
	for line := range strings.Lines(l.String()) {
		_, rest, audit := strings.Cut(strings.TrimSuffix(line, "\n"), " msg=audit ")
		if audit && strings.HasPrefix(rest, begin) && strings.HasSuffix(rest, end) {
			return true
		}
	}
	return false
}
