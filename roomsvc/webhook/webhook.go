// Package webhook posts events to an application. A post has a [Batch] as its body; [Pause] says
// when to send a failed post again. Package events reads the events and stores how far they were
// posted.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"roomcast/proto/webhook"
)

// Limits of a post.
const (
	timeout   = 10 * time.Second // limit for the whole post, up to the end of the answer
	maxAnswer = 64 << 10         // how many bytes of the answer are read; after a longer answer the connection is closed
)

// Receiver is an application that receives posts. It is safe for concurrent use.
type Receiver struct {
	URL string

	client *http.Client
	file   string
	log    *slog.Logger

	mu      sync.Mutex // guards the fields below
	secrets webhook.Secrets
	refused string // the last logged error of reading the file; it is not logged twice
}

// Open returns the receiver at a URL. Its posts are signed with the secrets in the file. Every post
// reads the file again, so a changed secret needs no restart.
func Open(address, file string, log *slog.Logger) (*Receiver, error) {
	if err := CheckURL(address); err != nil {
		return nil, err
	}
	if err := CheckFile(file); err != nil {
		return nil, err
	}
	r := &Receiver{URL: address, file: file, log: log, client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			MaxConnsPerHost: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	r.current()
	return r, nil
}

// CheckURL returns an error that names the flag of a URL that cannot be used. Posts contain what
// people say, so they must be encrypted unless the receiver is on this machine.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("--webhook: %q is not a URL such as https://app.example.org/roomcast", address)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--webhook: %q must be https, because events contain what people say; http is for this machine only", address)
	}
	return nil
}

// Name returns a name for the receiver that can be a key of a NATS bucket. The same URL always
// gives the same name.
func Name(address string) string {
	sum := sha256.Sum256([]byte(address))
	return "webhook-" + hex.EncodeToString(sum[:12])
}

// CheckFile returns an error, which names the flag, if a file does not contain secrets.
func CheckFile(file string) error {
	if _, err := readSecrets(file); err != nil {
		return fmt.Errorf("--webhook-secret-file: %w", err)
	}
	return nil
}

func readSecrets(file string) (webhook.Secrets, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err // an *fs.PathError, which names the file
	}
	secrets, err := webhook.ParseSecrets(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return secrets, nil
}

// current returns the secrets in the file. If the file cannot be used, it returns the secrets that
// were read last.
func (r *Receiver) current() webhook.Secrets {
	secrets, err := readSecrets(r.file)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.secrets, r.refused = secrets, ""
	} else if err.Error() != r.refused {
		r.refused = err.Error()
		r.log.Warn("read changed secrets of webhook; the old ones stay in use", "error", err)
	}
	return r.secrets
}

// Post posts a body with the given id. It succeeds if the receiver answers with a 2xx status within
// ten seconds. Its errors never contain the body.
func (r *Receiver) Post(ctx context.Context, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post events: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "roomcast")
	r.current().Sign(req.Header, id, time.Now(), body)
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("post events: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post events: the receiver answers %d", resp.StatusCode)
	}
	// An answer that breaks off counts as a failure, because the receiver may not have handled the
	// events.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("post events: read answer: %w", err)
	}
	return nil
}

// Close closes idle connections.
func (r *Receiver) Close() { r.client.CloseIdleConnections() }
