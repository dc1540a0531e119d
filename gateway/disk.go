package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
)

// historyBytes returns the default of --history-bytes in the standalone form. If a log exists,
// this is the limit of that log. Otherwise it is half of the disk's free space. So the stream
// drops its oldest messages before the disk is full, with any number of rooms and senders.
func (n *embedded) historyBytes(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	nc, err := n.dialer(userService)("gateway/disk")
	if err != nil {
		return 0, fmt.Errorf("find the log: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, fmt.Errorf("find the log: %w", err)
	}
	s, err := js.Stream(ctx, proto.StreamName)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		// When NATS starts, its default limit is three quarters of the free space. Two thirds of
		// this limit are half of the free space.
		return n.server.Load().JetStreamConfig().MaxStore / 3 * 2, nil
	case err != nil:
		return 0, fmt.Errorf("find the log: %w", err)
	}
	return max(s.CachedInfo().Config.MaxBytes, 0), nil
}
