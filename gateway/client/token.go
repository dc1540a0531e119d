package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roomcast/proto"
)

// present returns the credential for the next connection: a token or a ticket. Without a token and
// a ticket, the client is a guest, unless it has a resume string.
func (c *connector) present(ctx context.Context, resume string) (token, ticket string, err error) {
	if c.credential == nil || c.tickets && resume != "" {
		return "", "", nil
	}
	given, err := c.credential(ctx)
	if err != nil {
		return "", "", fmt.Errorf("get %s: %w", c.kind(), err)
	}
	if last := c.presented.Load(); last == nil || *last != given {
		c.expirations = 0
	}
	if c.expirations > 1 {
		return "", "", &expiredError{c.expired}
	}
	c.presented.Store(&given)
	if c.tickets {
		return "", given, nil
	}
	return given, "", nil
}

func (c *connector) kind() string {
	if c.tickets {
		return "ticket"
	}
	return "token"
}

// expiredError ends the client, because its only token or ticket has expired.
type expiredError struct{ *CloseError }

func (e *expiredError) Unwrap() error { return e.CloseError }

// noteExpired remembers err if err is a close with code 4003: the newest credential has expired. It
// also makes the client forget the resume string, which may have been revoked.
func (c *connector) noteExpired(err error) {
	var closed *CloseError
	if errors.As(err, &closed) && closed.Code == proto.CloseTokenExpired {
		c.expired = closed
		c.expirations++
		c.state.forgetResume()
	}
}

// refresh sends a new credential before the session expires by the server's clock, until ctx ends.
// If that fails, the server closes the session with 4003.
func (c *connector) refresh(ctx context.Context, h *Hello) {
	if c.credential == nil || h.Expires.IsZero() {
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
		if fresh, err := c.renew(ctx); err == nil {
			expires, failures = fresh, 0
		}
	}
}

// renew sends a new credential on the open session, and returns the time at which the session will
// expire.
func (c *connector) renew(ctx context.Context) (expires time.Time, err error) {
	fresh, err := c.credential(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if *c.presented.Load() == fresh {
		return time.Time{}, fmt.Errorf("the %s is not fresh", c.kind())
	}
	f := fields{Token: fresh}
	if c.tickets {
		f = fields{Ticket: fresh}
	}
	k, err := c.state.addCall(proto.VerbAuth, f)
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
			c.presented.Store(&fresh)
		}
		return ok.Expires, a.err
	case <-ctx.Done():
		c.state.forgetCall(k)
		return time.Time{}, ctx.Err()
	}
}
