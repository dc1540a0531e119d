package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

// anyAudience as a value of --auth-audience turns off the check of the audience.
const anyAudience = "any"

// keySource supplies the keys of an issuer. Its methods are safe for concurrent use.
type keySource interface {
	keys() (list []key, ok bool) // ok is false if the source has no keys now
	missed() bool                // requests newer keys, and reports whether they may come soon
}

// issuer makes tokens. It is immutable, except for its keys.
type issuer struct {
	name      string   // prefix of its ids; "" = none
	iss       []string // values of the claim iss; if empty, iss does not select the issuer
	audiences []string // a token must be for one of them; if empty or any, they are not checked
	sources   []keySource
}

// issuerName matches the valid names of issuers in flags.
var issuerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// splitName splits the value of a flag, such as acme=value, into the name of an issuer and the
// value.
func splitName(text string) (name, value string) {
	if name, value, ok := strings.Cut(text, "="); ok && issuerName.MatchString(name) {
		return name, value
	}
	return "", text
}

// issuers are the issuers that the flags name, while newIssuers reads the flags.
type issuers struct {
	list  []*issuer
	owner map[string]string // for the file or URL of each source: the name of its issuer
}

// newIssuers makes the issuers that the flags name.
func newIssuers(cfg *Config, log *slog.Logger) ([]*issuer, error) {
	all := issuers{owner: make(map[string]string)}
	err := errors.Join(
		all.add("auth-key-file", cfg.KeyFiles, func(path string) (keySource, error) { return newKeyFile(path, log) }),
		all.add("auth-jwks-url", cfg.JWKSURLs, func(url string) (keySource, error) { return newKeyURL(url, log) }))
	if err != nil {
		return nil, err
	}
	if err := all.assign("auth-issuer", cfg.Issuers, func(is *issuer, iss string) { is.iss = append(is.iss, iss) }); err != nil {
		return nil, err
	}
	if err := all.assign("auth-audience", cfg.Audiences, func(is *issuer, a string) { is.audiences = append(is.audiences, a) }); err != nil {
		return nil, err
	}
	for _, is := range all.list {
		if is.hasURL() && len(is.audiences) == 0 {
			return nil, errors.New("--auth-jwks-url needs --auth-audience, or the gateway would accept tokens for other services of the same issuer; to accept them, set it to any")
		}
	}
	return all.list, nil
}

// named returns the issuer with a name, or nil.
func (all *issuers) named(name string) *issuer {
	for _, is := range all.list {
		if is.name == name {
			return is
		}
	}
	return nil
}

// add gives issuers the sources of a flag. It makes the issuers that are not in the list yet.
func (all *issuers) add(flag string, values []string, open func(string) (keySource, error)) error {
	for _, text := range values {
		name, value := splitName(text)
		if name == "api" || name == "anon" {
			return fmt.Errorf("--%s: an issuer cannot be named %s; choose another name", flag, name)
		}
		if other, again := all.owner[value]; again && other != name {
			return fmt.Errorf("--%s: %s belongs to two issuers; name it only once", flag, value)
		}
		all.owner[value] = name
		source, err := open(value)
		if err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
		is := all.named(name)
		if is == nil {
			is = &issuer{name: name}
			all.list = append(all.list, is)
		}
		is.sources = append(is.sources, source)
	}
	return nil
}

// assign gives issuers the other values of a flag.
func (all *issuers) assign(flag string, values []string, to func(is *issuer, value string)) error {
	for _, text := range values {
		name, value := splitName(text)
		is := all.named(name)
		if is == nil {
			return fmt.Errorf("--%s %s: no --auth-key-file and no --auth-jwks-url belongs to this issuer", flag, text)
		}
		to(is, value)
	}
	return nil
}

func (is *issuer) hasURL() bool {
	return slices.ContainsFunc(is.sources, func(s keySource) bool { _, ok := s.(*keyURL); return ok })
}

// accepts reports whether a token with these audiences is for this gateway.
func (is *issuer) accepts(audiences []string) bool {
	return len(is.audiences) == 0 || slices.Contains(is.audiences, anyAudience) ||
		slices.ContainsFunc(audiences, func(a string) bool { return a != anyAudience && slices.Contains(is.audiences, a) })
}

// find returns the keys that may check a token. If ready is false, a source has no keys now, so
// the right key may be missing.
func (is *issuer) find(kid, algorithm string) (public []any, ready bool) {
	ready = true
	for _, source := range is.sources {
		list, ok := source.keys()
		ready = ready && ok
		for i := range list {
			if list[i].fits(kid, algorithm) {
				public = append(public, list[i].public)
			}
		}
	}
	return public, ready
}

// missed requests newer keys from the sources. It reports whether any source may have them soon.
func (is *issuer) missed() (soon bool) {
	for _, source := range is.sources {
		soon = source.missed() || soon
	}
	return soon
}

// run fetches the issuer's keys until ctx ends.
func (is *issuer) run(ctx context.Context, start func(func())) {
	for _, source := range is.sources {
		if k, ok := source.(*keyURL); ok {
			start(func() { k.run(ctx) })
		}
	}
}
