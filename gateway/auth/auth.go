// Package auth authenticates clients and checks the origins of pages. A client gets its
// identity from a token, from a resume string that a gateway signed, or as a new anonymous
// one.
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

// Config configures an Auth. The zero value accepts no tokens and no resume strings, and
// only pages of the same host and of loopback.
type Config struct {
	AllowOrigins []string      // exact additional origins, such as https://chat.example.org
	KeyFile      string        // HMAC secret or PEM public key for checking tokens; "" = no tokens
	ResumeAge    time.Duration // maximal age of a resume string
	HTTPS        bool          // the listener speaks TLS, so its own pages have the scheme https
	Loopback     bool          // the listener is on loopback, so requests must name this machine as host
}

// DefaultConfig returns the defaults of the flags.
func DefaultConfig() Config {
	return Config{ResumeAge: 30 * 24 * time.Hour}
}

// Auth checks tokens, resume strings and origins. It is immutable after New and safe for
// concurrent use.
type Auth struct {
	resumeKey [sha256.Size]byte
	resumeAge time.Duration
	https     bool
	loopback  bool
	origins   map[string]bool // of other sites, normalized
	hosts     map[string]bool // of origins, without ports
	tokens    *tokens         // nil = no tokens are accepted
	now       func() time.Time
}

// New returns an Auth. Secret signs resume strings; gateways with the same secret accept
// each other's strings. Its errors name the flag of the wrong setting.
func New(secret []byte, cfg Config) (*Auth, error) {
	if len(secret) < 16 {
		return nil, fmt.Errorf("the resume secret has %d bytes; it needs at least 16", len(secret))
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

// Bearer returns the token of an Authorization header. ok is false for other schemes. The
// case of the scheme does not matter (RFC 9110, section 11.1).
func Bearer(authorization string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(authorization, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// anonymous is the prefix of the ids of clients without a token.
const anonymous = "anon-"

// Anonymous returns a new identity without a name. Its 80 random bits keep a billion
// identities distinct.
func (a *Auth) Anonymous() proto.Identity {
	var b [10]byte
	rand.Read(b[:])
	return proto.Identity{ID: anonymous + idText.EncodeToString(b[:])}
}
