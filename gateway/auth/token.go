package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/proto"
)

// minHMAC is the minimal length of an HMAC secret in bytes. A shorter one could be guessed
// from a token; RFC 7518, section 3.2, requires the length of the hash.
const minHMAC = 32

const maxToken = 4096 // bytes

// tokens checks JSON Web Tokens with one key. It accepts only the algorithms of that key's
// type, so a token cannot choose how it is checked. It is immutable.
type tokens struct {
	key    any
	parser *jwt.Parser
}

// claims are the claims of a token: sub (required) is the identity's id, name is shown to
// others, exp is required.
type claims struct {
	Name string `json:"name"`
	jwt.RegisteredClaims
}

func loadTokens(path string) (*tokens, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err // an *fs.PathError, which names the file
	}
	key, methods, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &tokens{key: key, parser: jwt.NewParser(
		jwt.WithValidMethods(methods),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(5*time.Second),
		jwt.WithStrictDecoding(),
	)}, nil
}

func parseKey(b []byte) (key any, methods []string, err error) {
	block, _ := pem.Decode(b)
	if block == nil {
		secret := bytes.TrimRight(b, "\r\n")
		if len(secret) < minHMAC {
			return nil, nil, fmt.Errorf("neither a PEM public key nor a secret of at least %d bytes", minHMAC)
		}
		return secret, []string{"HS256", "HS384", "HS512"}, nil
	}
	key, err = x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("PEM block %q is not a public key: %w", block.Type, err)
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
		return k, []string{"EdDSA"}, nil
	case *ecdsa.PublicKey:
		name, ok := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
		if !ok {
			return nil, nil, errors.New("unsupported elliptic curve; use P-256, P-384 or P-521")
		}
		return k, []string{name}, nil
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return nil, nil, fmt.Errorf("the RSA key has %d bits; it needs at least 2048", k.N.BitLen())
		}
		return k, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	}
	return nil, nil, fmt.Errorf("unsupported type of public key: %T", key)
}

// Token checks a token and returns its identity and the time of its expiry. The error is a
// *proto.Refusal with code unauthorized and never contains the token.
func (a *Auth) Token(token string) (proto.Identity, time.Time, error) {
	if a.tokens == nil {
		return proto.Identity{}, time.Time{}, proto.Refuse(proto.Unauthorized, "this server accepts no tokens; connect without one")
	}
	if len(token) > maxToken {
		return proto.Identity{}, time.Time{}, proto.Refuse(proto.Unauthorized, "the token has %d bytes; the limit is %d", len(token), maxToken)
	}
	var c claims
	_, err := a.tokens.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return a.tokens.key, nil })
	if err != nil {
		return proto.Identity{}, time.Time{}, refuseToken(err)
	}
	if r := proto.CheckID(c.Subject); r != nil {
		return proto.Identity{}, time.Time{}, proto.Refuse(proto.Unauthorized, "the token's sub is not a valid id: %s", r.Message)
	}
	if r := proto.CheckName(c.Name); r != nil {
		return proto.Identity{}, time.Time{}, proto.Refuse(proto.Unauthorized, "the token's name is not valid: %s", r.Message)
	}
	return proto.Identity{ID: c.Subject, Name: c.Name}, c.ExpiresAt.Time, nil
}

func refuseToken(err error) *proto.Refusal {
	for _, known := range []struct {
		err error
		say string
	}{
		{jwt.ErrTokenExpired, "the token has expired; get a new one"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet; check its nbf and the clocks"},
		{jwt.ErrTokenUsedBeforeIssued, "the token was issued in the future; check the clocks"},
		{jwt.ErrTokenRequiredClaimMissing, "the token has no exp; tokens must expire"},
		{jwt.ErrTokenMalformed, "the token is not a JSON Web Token"},
		{jwt.ErrTokenSignatureInvalid, "the token's signature does not match this server's key and algorithm"},
	} {
		if errors.Is(err, known.err) {
			return proto.Refuse(proto.Unauthorized, "%s", known.say)
		}
	}
	return proto.Refuse(proto.Unauthorized, "the token is not accepted")
}

// TakesTokens reports whether the gateway accepts tokens.
func (a *Auth) TakesTokens() bool { return a.tokens != nil }
