package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"roomcast/proto/daemon"
)

// Times and limits for fetching keys.
const (
	fetchTime  = 5 * time.Second
	fetchBytes = 1 << 20
	fetchEvery = 5 * time.Minute  // while fetching succeeds
	fetchAgain = 30 * time.Second // after a failed fetch, or after a token with an unknown kid
	keysLast   = 24 * time.Hour   // how long the old keys stay in use while fetching fails
)

// keyURL is a JWKS at a URL. The method run fetches it. All other methods are safe for
// concurrent use.
type keyURL struct {
	url    string
	log    *slog.Logger
	client *http.Client
	wanted chan struct{} // has a value if a token had an unknown kid

	mu      sync.Mutex // guards the fields below
	current []key
	fetched time.Time // when the last successful fetch ended
	tried   time.Time // when the last fetch ended, successful or not
	asked   bool      // a fetch because of an unknown kid has been requested and has not ended
}

func newKeyURL(text string, log *slog.Logger) (*keyURL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return nil, fmt.Errorf("%q is not a URL such as https://id.example.org/jwks.json", text)
	case u.Scheme != "https" && !(u.Scheme == "http" && daemon.IsLoopback(u.Host)):
		return nil, fmt.Errorf("%q must begin with https:// because anybody on the way could replace the keys", text)
	}
	return &keyURL{
		url: text, log: log, wanted: make(chan struct{}, 1),
		client: &http.Client{
			Timeout:       fetchTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
		},
	}, nil
}

// keys implements keySource. It returns false before the first successful fetch, and again when
// no fetch has succeeded for keysLast.
func (k *keyURL) keys() (list []key, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetched.IsZero() || time.Since(k.fetched) > keysLast {
		return nil, false
	}
	return k.current, true
}

// missed implements keySource. It requests a fetch, because the missing key may be newer than
// the last fetch.
func (k *keyURL) missed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.asked && time.Since(k.tried) >= fetchAgain {
		k.asked = true
		k.wanted <- struct{}{} // this does not block, because there is at most one request
	}
	return k.asked
}

// run fetches the keys until ctx ends.
func (k *keyURL) run(ctx context.Context) {
	defer k.client.CloseIdleConnections()
	for {
		next := fetchEvery
		if err := k.fetch(ctx); err != nil && ctx.Err() == nil {
			next = fetchAgain
			_, inUse := k.keys()
			k.log.Warn("cannot fetch keys; fetched keys stay in use for a day", "keys_in_use", inUse, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wanted:
		case <-time.After(next):
		}
	}
}

// TryURLs fetches each JWKS at a URL once. It returns an error for each that cannot be fetched.
func (c *Config) TryURLs(ctx context.Context) error {
	list, err := newIssuers(c, c.Log)
	problems := []error{err}
	for _, is := range list {
		for _, source := range is.sources {
			if k, ok := source.(*keyURL); ok {
				if err := k.fetch(ctx); err != nil {
					problems = append(problems, fmt.Errorf("--auth-jwks-url: %w", err))
				}
				k.client.CloseIdleConnections()
			}
		}
	}
	return errors.Join(problems...)
}

func (k *keyURL) fetch(ctx context.Context) error {
	keys, err := k.download(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.asked = time.Now(), false
	select { // this fetch also serves a request that came during the fetch
	case <-k.wanted:
	default:
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", k.url, err)
	}
	k.current, k.fetched = keys, k.tried
	return nil
}

func (k *keyURL) download(ctx context.Context) ([]key, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, fetchBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > fetchBytes {
		return nil, fmt.Errorf("the answer has more than %d bytes", fetchBytes)
	}
	return parseJWKS(b, false)
}
