// Package webhook signs the posts to an application according to Standard Webhooks
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

// Secrets contains one or two secrets. While an application is replacing its secret, each post
// is signed with both.
type Secrets [][]byte

// ParseSecrets reads one or two secrets. A secret is either whsec_ followed by base64, or the
// bytes of the secret themselves.
func ParseSecrets(b []byte) (list Secrets, err error) {
	for word := range bytes.FieldsSeq(b) {
		secret := bytes.Clone(word)
		if text, ok := strings.CutPrefix(string(word), "whsec_"); ok {
			if secret, err = base64.StdEncoding.DecodeString(text); err != nil {
				return nil, errors.New("the text after whsec_ is not base64")
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

// Sign adds headers to a post. They contain the id, the time, and a signature of id, time and
// body for each secret.
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
