// Package auth answers who somebody is and which pages may speak to us: identities a
// gateway makes itself and signs into resume strings, identities that tokens carry,
// and the origins of browsers.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"roomcast/proto"
)

// Config is what an Auth goes by. The zero value accepts no token, no resume string
// of any age, and pages of the same host and of loopback only.
type Config struct {
	AllowOrigins []string      // further origins, exact, such as https://chat.example.org
	KeyFile      string        // HMAC secret or PEM public key that tokens are checked with; "" = no tokens
	ResumeAge    time.Duration // how old a resume string may be
	HTTPS        bool          // the listener speaks TLS, so the scheme of its own pages is known
	Loopback     bool          // the listener is on loopback, so a request must name this machine
}

// DefaultConfig returns what the flags default to.
func DefaultConfig() Config {
	return Config{ResumeAge: 30 * 24 * time.Hour}
}

// Auth checks what clients show. It does not change after New and may be used by any
// number of goroutines.
type Auth struct {
	resumeKey [sha256.Size]byte
	resumeAge time.Duration
	https     bool
	loopback  bool
	origins   map[string]bool // of other sites, in one spelling
	hosts     map[string]bool // of these, without ports
	tokens    *tokens         // nil if none are accepted
	now       func() time.Time
}

// New makes an Auth. Secret signs resume strings; gateways that share it accept each
// other's. Its errors name the flag at fault.
func New(secret []byte, cfg Config) (*Auth, error) {
	if len(secret) < 16 {
		return nil, fmt.Errorf("resume secret of %d bytes is too short, 16 or more are needed", len(secret))
	}
	a := &Auth{
		resumeKey: deriveResumeKey(secret), resumeAge: cfg.ResumeAge,
		https: cfg.HTTPS, loopback: cfg.Loopback, now: time.Now,
	}
	var err error
	if a.origins, a.hosts, err = parseOrigins(cfg.AllowOrigins); err != nil {
		return nil, fmt.Errorf("--allow-origin: %w", err)
	}
	if cfg.KeyFile != "" {
		if a.tokens, err = loadTokens(cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("--auth-key-file: %w", err)
		}
	}
	return a, nil
}

// Bearer returns the token of an Authorization header. ok is false for the other
// schemes; the name of a scheme may have any case (RFC 9110, 11.1).
func Bearer(authorization string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(authorization, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// anonymous begins the id of everybody who showed no token.
const anonymous = "anon-"

// Anonymous makes an identity nobody has: 80 random bits, so that a billion of them
// stay apart, without a name.
func (a *Auth) Anonymous() proto.Identity {
	var b [10]byte
	rand.Read(b[:])
	return proto.Identity{ID: anonymous + idText.EncodeToString(b[:])}
}
