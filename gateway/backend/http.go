package backend

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto/daemon"
)

// poster posts questions to a URL. It implements [Transport].
type poster struct {
	url     string
	client  *http.Client
	secrets *auth.File[[][]byte] // nil = questions are not signed
}

// newPoster reads the files and errors name the flag.
func newPoster(cfg *Config) (*poster, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("--ask-url: %q is not a URL such as https://app.example.org/roomcast", cfg.URL)
	}
	if u.Scheme == "http" && !cfg.Insecure && !daemon.IsLoopback(u.Host) {
		return nil, errors.New("--ask-url must be https, because questions carry credentials; --ask-insecure allows http")
	}
	p := &poster{url: cfg.URL}
	transport := &http.Transport{
		MaxConnsPerHost: cfg.Inflight, MaxIdleConnsPerHost: min(cfg.Inflight, 64), IdleConnTimeout: time.Minute,
		MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--ask-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ask-ca: %s has no certificate in PEM", cfg.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	p.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if cfg.SecretFile != "" {
		if p.secrets, err = auth.OpenFile(cfg.SecretFile, parseSecrets, cfg.Log); err != nil {
			return nil, fmt.Errorf("--ask-secret-file: %w", err)
		}
	}
	return p, nil
}

// Ask implements [Transport]. Only 200 is an answer; 401 and 403 deny.
func (p *poster) Ask(ctx context.Context, _ Kind, question []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if p.secrets != nil {
		sign(req.Header, p.secrets.Get(), "ask_"+rand.Text(), time.Now(), question)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return nil, deny("")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	return body, err
}

// sign adds the headers of the Standard Webhooks convention: each secret signs the id, the
// time and the body.
func sign(header http.Header, secrets [][]byte, id string, now time.Time, body []byte) {
	at := strconv.FormatInt(now.Unix(), 10)
	var list []string
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", at)
	header.Set("Webhook-Signature", strings.Join(list, " "))
}

// parseSecrets reads one or two secrets, each in base64 behind whsec_ or as it is.
func parseSecrets(b []byte) (list [][]byte, err error) {
	for word := range bytes.FieldsSeq(b) {
		secret := bytes.Clone(word)
		if text, ok := strings.CutPrefix(string(word), "whsec_"); ok {
			if secret, err = base64.StdEncoding.DecodeString(text); err != nil {
				return nil, errors.New("what follows whsec_ is not base64")
			}
		}
		if len(secret) < 24 {
			return nil, fmt.Errorf("a secret has %d bytes and could be guessed; it needs at least 24", len(secret))
		}
		list = append(list, secret)
	}
	if len(list) < 1 || len(list) > 2 {
		return nil, fmt.Errorf("there are %d secrets; one or two are allowed", len(list))
	}
	return list, nil
}
