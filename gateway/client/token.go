package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roomcast/proto"
)

// token returns the token for the next connection, "" for a guest.
func (c *connector) token(ctx context.Context) (string, error) {
	if c.cfg.Token == nil {
		return "", nil
	}
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("get token: %w", err)
	}
	if last := c.presented.Load(); last == nil || *last != token {
		c.expirations = 0
	}
	if c.expirations > 1 {
		return "", &expiredError{c.expired}
	}
	c.presented.Store(&token)
	return token, nil
}

// expiredError ends the client: the server has called the token expired, and Config.Token has no
// other one.
type expiredError struct{ *CloseError }

func (e *expiredError) Unwrap() error { return e.CloseError }

// noteExpired records err if it says that the newest token has expired.
func (c *connector) noteExpired(err error) {
	var closed *CloseError
	if errors.As(err, &closed) && closed.Code == proto.CloseTokenExpired {
		c.expired = closed
		c.expirations++
	}
}

// refresh sends a new token each time before the present one expires by the server's clock, until
// ctx ends. If it cannot, the server closes the session with 4003.
func (c *connector) refresh(ctx context.Context, h *Hello) {
	if c.cfg.Token == nil || h.Expires.IsZero() {
		return
	}
	began, expires := time.Now(), h.Expires
	for failures := 0; ; {
		left := expires.Sub(h.Time) - time.Since(began)
		wait := max(time.Second, left-min(time.Minute, left/4))
		if failures > 0 {
			wait = time.Second + backoff(failures, time.Second, 20*time.Second)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		failures++
		if fresh, err := c.present(ctx); err == nil {
			expires, failures = fresh, 0
		}
	}
}

// present gets a token, sends it on the open session, and returns the time at which the token
// expires.
func (c *connector) present(ctx context.Context) (expires time.Time, err error) {
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if *c.presented.Load() == token {
		return time.Time{}, errors.New("Config.Token returned the old token again")
	}
	k, err := c.state.addCall(proto.VerbAuth, fields{Token: token})
	if err != nil {
		return time.Time{}, err
	}
	select {
	case a := <-k.done:
		var ok struct{ Expires time.Time }
		if a.err == nil {
			a.err = a.decode(&ok)
		}
		if a.err == nil {
			c.presented.Store(&token)
		}
		return ok.Expires, a.err
	case <-ctx.Done():
		c.state.forgetCall(k)
		return time.Time{}, ctx.Err()
	}
}
