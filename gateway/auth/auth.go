// Package auth authenticates clients, and checks from which pages requests may come. A client
// proves its identity with a token, a ticket, or a resume string that a gateway has signed. A
// client without any of these gets a new anonymous identity.
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

// Config configures an Auth. With the zero Config, an Auth accepts no tokens and no resume
// strings. It accepts only pages of the same host and of loopback.
type Config struct {
	AllowOrigins []string      // additional origins, exactly as browsers send them, such as https://chat.example.org
	KeyFiles     []string      // files with keys that check tokens, each with or without the name of an issuer: acme=path
	JWKSURLs     []string      // URLs of such keys
	Issuers      []string      // allowed values of the claim iss, such as acme=https://id.example.org
	Audiences    []string      // allowed values of the claim aud; a token needs one of them
	Rights       []string      // rights of tokens without the claim rooms, see grant.FromFlag
	GuestRights  []string      // rights of clients without a token; nil = the same as Rights, but none if tokens are accepted or Asked is set
	Revoked      *Revocations  // nil = no credential is revoked
	MaxAge       time.Duration // longest life of a token, from iat to exp
	Tickets      bool          // the HTTP API may make tickets, so a client without rights may still send one
	Asked        bool          // the backend decides who may connect, so guests have only the rights in GuestRights
	ResumeAge    time.Duration // longest life of a resume string
	HTTPS        bool          // the listener uses TLS, so its own pages have the scheme https
	Loopback     bool          // the listener is on a loopback address, so requests must name this machine as Host
	Log          *slog.Logger
}

// DefaultConfig returns the default values of the flags.
func DefaultConfig() Config {
	return Config{ResumeAge: proto.MaxCredential, MaxAge: proto.MaxCredential, Rights: []string{"read say"}, Log: slog.Default()}
}

// TakesTokens reports whether a gateway with this configuration accepts tokens.
func (c *Config) TakesTokens() bool { return len(c.KeyFiles)+len(c.JWKSURLs) > 0 }

// Guests returns the rights of clients without a token, as values of the flag --guest-rights.
func (c *Config) Guests() []string {
	switch {
	case c.GuestRights != nil:
		return c.GuestRights
	case c.TakesTokens() || c.Asked:
		return nil
	}
	return c.Rights
}

// Auth checks tokens, resume strings and origins, and knows the rights of clients. The method Run
// must be running: it serves Check and fetches keys. All methods are safe for concurrent use.
type Auth struct {
	signer
	https    bool
	loopback bool
	origins  map[string]bool // allowed origins of other sites, in normal form
	hosts    map[string]bool // hosts of the allowed origins, without ports
	issuers  []*issuer       // issuers of tokens; if there are none, no tokens are accepted
	defaults *grant.Grant    // rights of tokens without the claim rooms
	guests   *grant.Grant
	grants   sharedGrants
	failures limit.Failures
	tickets  bool
	revoked  *Revocations
	maxAge   time.Duration
	checks   chan check
}

// New returns an Auth. Gateways with the same keys accept each other's resume strings and
// tickets. If a setting is wrong, the error names its flag.
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

// Bearer returns the token in the value of an Authorization header, which may be empty. It returns
// false if the header has another scheme. The scheme may be in upper or lower case (RFC 9110, section 11.1).
func Bearer(authorization string) (token string, ok bool) {
	scheme, token, _ := strings.Cut(strings.ReplaceAll(authorization, "\t", " "), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// anonymous is the prefix of the ids of clients without a credential.
const anonymous = "anon-"

// Revoked returns the revoked credentials. Nil means that no credential is revoked.
func (a *Auth) Revoked() *Revocations { return a.revoked }

// Guests returns the rights of clients without a token.
func (a *Auth) Guests() *grant.Grant { return a.guests }

// Anonymous returns a new identity without a name. Its id has 80 random bits, so that even a
// billion ids differ from each other.
func (a *Auth) Anonymous() proto.Identity {
	var b [10]byte
	rand.Read(b[:])
	return proto.Identity{ID: anonymous + idText.EncodeToString(b[:])}
}
