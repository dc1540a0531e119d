package backend

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto/daemon"
	"roomcast/proto/webhook"
)

// poster posts questions to a URL. It implements [Transport].
type poster struct {
	url     string
	client  *http.Client
	secrets *auth.File[webhook.Secrets] // secrets that sign the posts; nil = they are not signed
}

// newPoster reads the files that cfg names. Its errors name the flag.
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
		if p.secrets, err = auth.OpenFile(cfg.SecretFile, webhook.ParseSecrets, cfg.Log); err != nil {
			return nil, fmt.Errorf("--ask-secret-file: %w", err)
		}
	}
	return p, nil
}

// Ask implements [Transport]. A response with status 200 is an answer. A response with status 401
// or 403 is a refusal.
func (p *poster) Ask(ctx context.Context, _ Kind, question []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if p.secrets != nil {
		p.secrets.Get().Sign(req.Header, "ask_"+rand.Text(), time.Now(), question)
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
