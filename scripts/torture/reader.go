//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"roomcast/gateway/client"
	"roomcast/proto"
	"roomcast/scripts/torture/history"
)

const readTime = 2 * time.Minute // for reading all logs

// readAll reads the log of every room as somebody new, from the first event.
func (r *run) readAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URLs: r.rig.Gateways(), Name: "reader"})
	if err != nil {
		return fmt.Errorf("read logs: %w", err)
	}
	defer c.Close()
	for _, room := range append(r.names, r.gavel) {
		if err := r.readLog(ctx, c, room); err != nil {
			return fmt.Errorf("read the log of %s: %w", room, err)
		}
	}
	return nil
}

func (r *run) readLog(ctx context.Context, c *client.Client, room proto.Room) error {
	head, err := c.Join(ctx, room, proto.From{HasSince: true})
	if err != nil {
		return err
	}
	for seq := uint64(0); seq < max(head, r.head(room)); {
		n, err := c.Next(ctx)
		if err != nil {
			return fmt.Errorf("after %d of %d: %w", seq, max(head, r.head(room)), err)
		}
		if n.Room != room || n.Event == nil {
			continue
		}
		seq = n.Event.Seq
		e := history.Entry{Room: room.String()}
		record(&e, history.Log, n.Event)
		r.history.Add(e)
	}
	return c.Leave(ctx, room)
}
