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
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/proto"
	"roomcast/proto/grant"
)

// Mint describes a token to make. If a field is zero, the token does not have the claim.
type Mint struct {
	Key      []byte // an HMAC secret or a PEM private key, in the form of a key file
	KeyID    string // kid
	Subject  string // sub
	Name     string
	Issuer   string
	Audience string
	Rooms    []string      // as in a flag, see [grant.FromFlag]; nil = --default-rights apply
	TTL      time.Duration // time from now to exp
}

// Token makes a token. A gateway accepts it if the gateway's flags contain the key, the issuer
// and the audience. If a setting is wrong, the error names its flag.
func (m *Mint) Token(now time.Time) (string, error) {
	if refusal := proto.CheckID(m.Subject); refusal != nil {
		return "", fmt.Errorf("--sub: %s", refusal.Message)
	}
	if proto.ReservedID(m.Subject) {
		return "", fmt.Errorf("--sub: only Roomcast itself uses the id %s", m.Subject)
	}
	if refusal := proto.CheckName(m.Name); refusal != nil {
		return "", fmt.Errorf("--name: %s", refusal.Message)
	}
	if m.TTL < time.Second {
		return "", errors.New("--ttl must be at least 1s")
	}
	claims := jwt.MapClaims{"sub": m.Subject, "iat": now.Unix(), "exp": now.Add(m.TTL).Unix()}
	for name, value := range map[string]string{"name": m.Name, "iss": m.Issuer, "aud": m.Audience} {
		if value != "" {
			claims[name] = value
		}
	}
	if m.Rooms != nil {
		if _, err := grant.FromFlag(m.Rooms); err != nil {
			return "", fmt.Errorf("--rooms: %w", err)
		}
		rooms := make(map[string]string)
		for _, value := range m.Rooms {
			pattern, rights := grant.SplitRule(value)
			rooms[pattern] = rights
		}
		claims["rooms"] = rooms
	}
	key, method, err := parsePrivate(m.Key)
	if err != nil {
		return "", fmt.Errorf("--key-file: %w", err)
	}
	token := jwt.NewWithClaims(method, claims)
	if m.KeyID != "" {
		token.Header["kid"] = m.KeyID
	}
	return token.SignedString(key)
}

// parsePrivate reads the content of a file with a key that can sign.
func parsePrivate(b []byte) (any, jwt.SigningMethod, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		secret := bytes.TrimRight(b, "\r\n")
		if len(secret) < minHMAC {
			return nil, nil, fmt.Errorf("neither a PEM private key nor a secret of at least %d bytes", minHMAC)
		}
		return secret, jwt.SigningMethodHS256, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("PEM block %q is not a private key: %w", block.Type, err)
	}
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return key, jwt.SigningMethodEdDSA, nil
	case *rsa.PrivateKey:
		return key, jwt.SigningMethodRS256, nil
	case *ecdsa.PrivateKey:
		for _, method := range []*jwt.SigningMethodECDSA{jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodES512} {
			if method.CurveBits == key.Curve.Params().BitSize {
				return key, method, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("unsupported private key: %T", key)
}
