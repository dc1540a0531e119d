package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// Revocations receives the revocations made at any gateway. Add must be safe for concurrent use
// and must not block.
type Revocations interface {
	Add([]proto.Revocation)
}

const (
	revokedWait  = 250 * time.Millisecond // between two attempts to read the revocations
	revokedEvery = 10 * time.Second       // between two questions for new revocations
)

// Revoke asks the room service to store a revocation, and returns its time. The room service
// sends the revocation to every gateway. The revocation of a session revokes its whole family,
// because the resume string of any of its sessions opens another one.
func (b *Bridge) Revoke(ctx context.Context, e proto.Revocation) (time.Time, error) {
	e.Session = proto.Family(e.Session)
	var answer proto.Revoked
	if err := b.askService(ctx, proto.SubjectRevoke, e, &answer); err != nil {
		b.cfg.Log.Warn("revoke", "error", err)
		return time.Time{}, proto.Refuse(proto.Unavailable, "the revocation cannot be stored now; try again").After(time.Second)
	}
	if r := answer.Error; r != nil {
		return time.Time{}, proto.Refuse(r.Code, "%s", r.Message)
	}
	e.At = answer.At
	b.cfg.Revoked.Add([]proto.Revocation{e}) // do not wait for the room service's message, which NATS may lose
	return time.UnixMilli(e.At), nil
}

// followRevocations passes revocations to cfg.Revoked until ctx ends. It reads the whole list at
// the beginning and after each interruption of the connection. If NATS servers cannot reach each
// other, the connection is not interrupted, but messages are lost. So followRevocations also asks
// for new revocations at intervals.
func (b *Bridge) followRevocations(ctx context.Context) error {
	if b.cfg.Revoked == nil {
		b.revocations.Store(true)
		return nil
	}
	added := make(chan *nats.Msg, 1024)
	sub, err := b.feedConn.ChanSubscribe(proto.SubjectRevoked, added)
	if err != nil {
		return fmt.Errorf("follow revocations: %w", err)
	}
	defer sub.Unsubscribe()
	status := b.feedConn.StatusChanged(nats.CONNECTED)
	defer b.feedConn.RemoveStatusListener(status)
	every := time.NewTicker(revokedEvery)
	defer every.Stop()
	var known uint64 // revision of the newest revocation that was read
	for due, failed := true, false; ; {
		var again <-chan time.Time
		if due {
			if known, err = b.readRevocations(ctx, known); err == nil {
				b.revocations.Store(true)
			} else {
				again = time.After(revokedWait)
				if !failed && ctx.Err() == nil {
					b.cfg.Log.Info("waiting for roomsvc to send the list of revocations", "error", err)
				}
			}
			due, failed = err != nil, err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-status:
			due, known = true, 0
		case <-every.C:
			due = true
		case <-again:
		case m := <-added:
			var e proto.Revocation
			if json.Unmarshal(m.Data, &e) == nil {
				b.cfg.Revoked.Add([]proto.Revocation{e})
			}
		}
	}
}

// readRevocations reads the revocations after a revision, and returns the newest revision. If it
// returns an error, its caller tries again from the returned revision.
func (b *Bridge) readRevocations(ctx context.Context, after uint64) (uint64, error) {
	for {
		var page proto.Revocations
		if err := b.askService(ctx, proto.SubjectRevocations, proto.ListRevocations{After: after}, &page); err != nil {
			return after, err
		}
		if page.Error != "" {
			return after, errors.New(page.Error)
		}
		b.cfg.Revoked.Add(page.List)
		if page.Last < after {
			return 0, errors.New("the list of revocations was replaced")
		}
		if after = page.Last; !page.More {
			return after, nil
		}
	}
}
