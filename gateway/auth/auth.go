// Package auth authenticates clients and checks the origins of pages. A token, a ticket or a resume
// string that a gateway signed identifies a client. A client without any of them gets a new
// anonymous identity.
package auth

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"roomcast/gateway/limit"
	"roomcast/proto"
	"roomcast/proto/grant"
)

// Config configures an Auth. The zero value accepts no tokens and no resume strings. It accepts
// only pages of the same host and of loopback.
type Config struct {
	AllowOrigins []string      // exact additional origins, such as https://chat.example.org
	KeyFiles     []string      // files of keys that check tokens, each with or without the name of its issuer: acme=path
	JWKSURLs     []string      // URLs of such keys
	Issuers      []string      // accepted values of the claim iss, such as acme=https://id.example.org
	Audiences    []string      // values of the claim aud; a token needs one of them
	Rights       []string      // of tokens without the claim rooms, see grant.FromFlag
	GuestRights  []string      // of clients without a token; nil = Rights, or nothing if tokens are accepted or Asked is set
	Revoked      *Revocations  // nil = none
	MaxAge       time.Duration // of a token, from iat to exp
	Tickets      bool          // the HTTP API may make tickets, so a client without rights may send one
	Asked        bool          // the backend decides who may connect; guests have no rights unless GuestRights says so
	ResumeAge    time.Duration // maximum age of a resume string
	HTTPS        bool          // the listener speaks TLS, so its own pages have the scheme https
	Loopback     bool          // the listener is on loopback, so requests must name this machine as host
	Log          *slog.Logger
}

// DefaultConfig returns the defaults of the flags.
func DefaultConfig() Config {
	return Config{ResumeAge: proto.MaxCredential, MaxAge: proto.MaxCredential, Rights: []string{"read say"}, Log: slog.Default()}
}

// TakesTokens reports whether a gateway with this configuration accepts tokens.
func (c *Config) TakesTokens() bool { return len(c.KeyFiles)+len(c.JWKSURLs) > 0 }

// Guests returns the rights of clients without a token, as values of the flag.
func (c *Config) Guests() []string {
	switch {
	case c.GuestRights != nil:
		return c.GuestRights
	case c.TakesTokens() || c.Asked:
		return nil
	}
	return c.Rights
}

// Auth checks tokens, resume strings and origins, and knows the rights of clients. Check and the
// fetching of keys need Run. All methods are safe for concurrent use.
type Auth struct {
	signer
	https    bool
	loopback bool
	origins  map[string]bool // of other sites, normalized
	hosts    map[string]bool // of origins, without ports
	issuers  []*issuer       // of tokens; none = no tokens are accepted
	defaults *grant.Grant    // of tokens without the claim rooms
	guests   *grant.Grant
	grants   sharedGrants
	failures limit.Failures
	tickets  bool
	revoked  *Revocations
	maxAge   time.Duration
	checks   chan check
}

// New returns an Auth. Gateways with the same keys accept each other's strings. Its errors name
// the flag of the wrong setting.
func New(keys *SigningKeys, cfg Config) (*Auth, error) {
	if err := keys.check(); err != nil {
		return nil, err
	}
	a := &Auth{
		signer: signer{keys: keys, resumeAge: cfg.ResumeAge, now: time.Now}, tickets: cfg.Tickets, revoked: cfg.Revoked, maxAge: cfg.MaxAge,
		https: cfg.HTTPS, loopback: cfg.Loopback,
		checks: make(chan check, maxChecks),
	}
	var err error
	if a.origins, a.hosts, err = parseOrigins(cfg.AllowOrigins); err != nil {
		return nil, fmt.Errorf("--allow-origin: %w", err)
	}
	if a.issuers, err = newIssuers(&cfg, cfg.Log); err != nil {
		return nil, err
	}
	if a.defaults, err = grant.FromFlag(cfg.Rights); err != nil {
		return nil, fmt.Errorf("--default-rights: %w", err)
	}
	if a.guests, err = grant.FromFlag(cfg.Guests()); err != nil {
		return nil, fmt.Errorf("--guest-rights: %w", err)
	}
	return a, nil
}

// Bearer returns the token of an Authorization header. ok is false for other schemes. The case of
// the scheme does not matter (RFC 9110, section 11.1).
func Bearer(authorization string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(authorization, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// anonymous is the prefix of the ids of clients without a token.
const anonymous = "anon-"

// Revoked returns the revoked credentials; nil = there are none.
func (a *Auth) Revoked() *Revocations { return a.revoked }

// Guests returns the rights of clients without a token.
func (a *Auth) Guests() *grant.Grant { return a.guests }

// Anonymous returns a new identity without a name. Its 80 random bits keep a billion
// identities distinct.
func (a *Auth) Anonymous() proto.Identity {
	var b [10]byte
	rand.Read(b[:])
	return proto.Identity{ID: anonymous + idText.EncodeToString(b[:])}
}
