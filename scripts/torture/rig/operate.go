//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/scripts/torture/fault"
)

const (
	operateTime = 45 * time.Second // how long the servers may take to carry out a request, because other faults may delay them
	kept        = 100              // how many records of each room a trimmed log keeps
)

// operate trims, purges or edits the log, as an operator can. The servers may be too slow because
// of other faults. So it is no error if they do not carry out the request in time. It returns an
// error if it cannot restore an edited setting.
func (r *Rig) operate(ctx context.Context, s fault.Step) error {
	nc, err := nats.Connect(strings.Join(r.Servers(), ","), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	var before int64
	switch s.Kind {
	case fault.Trim:
		err = insist(ctx, js, func(ctx context.Context, log jetstream.Stream) error { return trim(ctx, log) })
	case fault.Purge:
		err = insist(ctx, js, func(ctx context.Context, log jetstream.Stream) error { return log.Purge(ctx) })
	case fault.Edit:
		err = insist(ctx, js, func(ctx context.Context, log jetstream.Stream) error {
			cfg := log.CachedInfo().Config
			if before == 0 { // a try whose answer was lost may have changed the setting already
				before = cfg.MaxMsgsPerSubject
			}
			cfg.MaxMsgsPerSubject = kept
			_, err := js.UpdateStream(ctx, cfg)
			return err
		})
		if err != nil {
			break
		}
		sleep(ctx, s.For)
		undone := insist(context.WithoutCancel(ctx), js, func(ctx context.Context, log jetstream.Stream) error {
			cfg := log.CachedInfo().Config
			cfg.MaxMsgsPerSubject = before
			_, err := js.UpdateStream(ctx, cfg)
			return err
		})
		if undone != nil {
			return fmt.Errorf("undo %s: %w", s, undone)
		}
	}
	if err != nil {
		fmt.Printf("torture: gave up %s: %v\n", s, err)
	}
	return nil
}

// trim removes all but the newest records of every room.
func trim(ctx context.Context, log jetstream.Stream) error {
	info, err := log.Info(ctx, jetstream.WithSubjectFilter(proto.SubjectAnyLog))
	if err != nil {
		return err
	}
	for subject := range info.State.Subjects {
		if err := log.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeKeep(kept)); err != nil {
			return err
		}
	}
	return nil
}

// insist repeats a request until the servers have carried it out.
func insist(ctx context.Context, js jetstream.JetStream, order func(ctx context.Context, log jetstream.Stream) error) error {
	ctx, cancel := context.WithTimeout(ctx, operateTime)
	defer cancel()
	var last error // error of the previous try
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		log, err := js.Stream(try, proto.StreamName)
		if err == nil {
			err = order(try, log)
		}
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(err, last)
		}
		last = err
		sleep(ctx, 200*time.Millisecond)
	}
}
