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

// revokedWait is the wait between two attempts to read the revocations.
const revokedWait = 250 * time.Millisecond

// Revoke asks the room service to store a revocation, and returns its time. The room service
// sends the revocation to every gateway. The revocation of a session revokes its whole family,
// because all sessions that continue each other have the same resume string.
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
// the beginning and after each interruption.
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
	for due := true; ; {
		var again <-chan time.Time
		if due {
			if err := b.readRevocations(ctx); err != nil {
				b.cfg.Log.Info("waiting for roomsvc to send the list of revocations", "error", err)
				again = time.After(revokedWait)
			} else {
				b.revocations.Store(true)
				due = false
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-status:
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

func (b *Bridge) readRevocations(ctx context.Context) error {
	for after := uint64(0); ; {
		var page proto.Revocations
		if err := b.askService(ctx, proto.SubjectRevocations, proto.ListRevocations{After: after}, &page); err != nil {
			return err
		}
		if page.Error != "" {
			return errors.New(page.Error)
		}
		b.cfg.Revoked.Add(page.List)
		if after = page.Last; !page.More {
			return nil
		}
	}
}
