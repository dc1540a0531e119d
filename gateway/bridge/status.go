package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
)

// status is the answer to a request on the subject gateway.<id>.status.
type status struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	Ready    bool   `json:"ready"`
	Why      string `json:"why,omitempty"` // why the gateway is not ready
	Rooms    int64  `json:"rooms"`
	InFlight int64  `json:"in_flight"`
	Stats    any    `json:"stats,omitempty"`
}

func (b *Bridge) status() status {
	s := status{
		ID: b.cfg.ID, Version: b.cfg.Version, Ready: true,
		Rooms: b.Feeds.Stats().Rooms.Load(), InFlight: b.Publisher.Stats().Waiting.Load(),
	}
	if err := b.Ready(); err != nil {
		s.Ready, s.Why = false, err.Error()
	}
	if b.cfg.Stats != nil {
		s.Stats = b.cfg.Stats()
	}
	return s
}

// serveStatus answers the commands nats micro ls, info and stats until ctx ends.
func (b *Bridge) serveStatus(ctx context.Context) error {
	svc, err := micro.AddService(b.readConn, micro.Config{
		Name: "gateway", Version: b.cfg.Version, Description: "WebSocket members of rooms",
		Metadata:     map[string]string{"instance": b.cfg.ID, "go": runtime.Version()},
		StatsHandler: func(*micro.Endpoint) any { return b.status() },
	})
	if err != nil {
		return fmt.Errorf("add micro service: %w", err)
	}
	// Without an endpoint, nats micro would not show the version.
	err = svc.AddEndpoint("status", micro.HandlerFunc(func(r micro.Request) {
		if !proto.Answerable(r.Reply()) {
			return
		}
		body, err := json.Marshal(b.status())
		if err == nil {
			err = r.Respond(body)
		}
		if err != nil {
			b.cfg.Log.Warn("answer status request", "error", err)
		}
	}), micro.WithEndpointSubject("gateway."+b.cfg.ID+".status"), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return fmt.Errorf("add micro endpoint: %w", err)
	}
	<-ctx.Done()
	if err := svc.Stop(); err != nil && b.readConn.IsConnected() {
		return fmt.Errorf("stop micro service: %w", err)
	}
	return nil
}
