// Package webhook signs posts to an application by the Standard Webhooks convention
// (https://www.standardwebhooks.com). It does no I/O.
package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// minSecret is the minimum length of a secret in bytes.
const minSecret = 24

// Secrets are one or two secrets. While an application replaces its secret, both sign.
type Secrets [][]byte

// ParseSecrets reads one or two secrets. A secret is whsec_ with base64, or the bytes themselves.
func ParseSecrets(b []byte) (list Secrets, err error) {
	for word := range bytes.FieldsSeq(b) {
		secret := bytes.Clone(word)
		if text, ok := strings.CutPrefix(string(word), "whsec_"); ok {
			if secret, err = base64.StdEncoding.DecodeString(text); err != nil {
				return nil, errors.New("what follows whsec_ is not base64")
			}
		}
		if len(secret) < minSecret {
			return nil, fmt.Errorf("a secret has %d bytes and could be guessed; it needs at least %d", len(secret), minSecret)
		}
		list = append(list, secret)
	}
	if len(list) < 1 || len(list) > 2 {
		return nil, fmt.Errorf("there are %d secrets; one or two are allowed", len(list))
	}
	return list, nil
}

// Sign sets the headers of a post: each secret signs the id, the time and the body.
func (s Secrets) Sign(header http.Header, id string, now time.Time, body []byte) {
	at := strconv.FormatInt(now.Unix(), 10)
	var list []string
	for _, secret := range s {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", at)
	header.Set("Webhook-Signature", strings.Join(list, " "))
}
