package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Bounds for keys.
const (
	// minHMAC is the length of the shortest HMAC secret in bytes. An attacker who has a token could
	// guess a shorter secret, and check each guess with the token. RFC 7518, section 3.2, requires
	// the length of the hash.
	minHMAC = 32

	minRSA, maxRSA = 2048, 8192 // bits; checking with a longer key would take too long
	maxKeys        = 100        // keys in one JWKS
)

// key checks tokens. Its type decides which algorithms it may use, so a token cannot choose the
// algorithm.
type key struct {
	id         string // kid; "" = the key may check tokens with any kid
	public     any
	algorithms []string
}

// fits reports whether the key may check a token with the given kid and algorithm. Every key may
// check a token that has no kid.
func (k *key) fits(kid, algorithm string) bool {
	return (k.id == "" || kid == "" || k.id == kid) && slices.Contains(k.algorithms, algorithm)
}

// parseKeys reads the content of a key file, which is a JWKS, a PEM public key or an HMAC
// secret.
func parseKeys(b []byte) ([]key, error) {
	if block, _ := pem.Decode(b); block != nil {
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %q is not a public key: %w", block.Type, err)
		}
		algorithms, err := algorithmsOf(public)
		if err != nil {
			return nil, err
		}
		return []key{{"", public, algorithms}}, nil
	}
	if looksLikeJWKS(b) {
		return parseJWKS(b, true)
	}
	secret := bytes.TrimRight(b, "\r\n")
	if len(secret) < minHMAC {
		return nil, fmt.Errorf("neither a JWKS, a PEM public key nor a secret of at least %d bytes", minHMAC)
	}
	return []key{{"", secret, []string{"HS256", "HS384", "HS512"}}}, nil
}

func looksLikeJWKS(b []byte) bool {
	var set struct {
		Keys json.RawMessage `json:"keys"`
	}
	return json.Unmarshal(b, &set) == nil && set.Keys != nil
}

// parseJWKS reads a JSON Web Key Set (RFC 7517). It ignores keys that it cannot use, as section
// 5 of the RFC recommends. Unless secrets is set, it also ignores secret keys. They would not be
// secret at a URL, which everybody can read.
func parseJWKS(b []byte, secrets bool) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil || set.Keys == nil {
		return nil, errors.New("not a JWKS: an object with keys")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the JWKS has %d keys; the limit is %d", len(set.Keys), maxKeys)
	}
	var keys []key
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(raw) != nil || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		secret, isSecret := jwk.Key.([]byte)
		if isSecret && (!secrets || len(secret) < minHMAC) {
			continue
		}
		algorithms, err := algorithmsOf(jwk.Key)
		if err != nil {
			continue
		}
		if jwk.Algorithm != "" {
			if !slices.Contains(algorithms, jwk.Algorithm) {
				continue
			}
			algorithms = []string{jwk.Algorithm}
		}
		keys = append(keys, key{jwk.KeyID, jwk.Key, algorithms})
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWKS has no key that can check tokens")
	}
	return keys, nil
}

// algorithmsOf returns the algorithms for which a key may be used.
func algorithmsOf(k any) ([]string, error) {
	switch k := k.(type) {
	case []byte:
		return []string{"HS256", "HS384", "HS512"}, nil
	case ed25519.PublicKey:
		return []string{"EdDSA"}, nil
	case *ecdsa.PublicKey:
		name, ok := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
		if !ok {
			return nil, errors.New("unsupported elliptic curve; use P-256, P-384 or P-521")
		}
		return []string{name}, nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return nil, fmt.Errorf("the RSA key has %d bits; use %d to %d", n, minRSA, maxRSA)
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	}
	return nil, fmt.Errorf("unsupported type of public key: %T", k)
}
