package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// credentials stores which tickets were used, and the revocations. The methods are safe for
// concurrent use after open.
type credentials struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	tickets jetstream.KeyValue // the used tickets
	revoked jetstream.KeyValue // revocations of ids and sessions
}

// open opens the buckets. The buckets are on disk, because a restart must not make a used ticket
// valid again.
func (c *credentials) open(ctx context.Context, nc *nats.Conn, replicas int, log *slog.Logger) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	bucket := func(name, description string, age time.Duration) (jetstream.KeyValue, error) {
		return stream.Bucket(ctx, js, jetstream.KeyValueConfig{
			Bucket: name, Description: description, TTL: age,
			Storage: jetstream.FileStorage, History: 1, Replicas: replicas,
		}, log)
	}
	c.nc, c.js = nc, js
	if c.tickets, err = bucket(proto.TicketBucket, "the tickets of roomcast that were used in the last minutes", proto.TicketMark); err == nil {
		c.revoked, err = bucket(proto.RevokedBucket, "the credentials that roomcast refuses", proto.RevocationAge)
	}
	return err
}

// answerTicket tells a gateway whether it is the first to use a ticket. Creating a key in the
// bucket fails if the key exists, so only one gateway can be the first.
func (a api) answerTicket(r micro.Request) {
	var use proto.UseTicket
	if err := json.Unmarshal(r.Data(), &use); err != nil || !use.Valid() {
		a.respond(r, proto.Used{Error: "the request names no ticket"})
		return
	}
	a.run(r, func(ctx context.Context) any {
		_, err := a.s.credentials.tickets.Create(ctx, use.Number, nil)
		switch {
		case err == nil:
			return proto.Used{First: true}
		case errors.Is(err, jetstream.ErrKeyExists):
			return proto.Used{}
		}
		a.s.cfg.Log.Warn("mark ticket as used", "error", err)
		return proto.Used{Error: "the use of the ticket cannot be stored now"}
	})
}

// run answers a request with the result of do.
func (a api) run(r micro.Request, do func(context.Context) any) {
	if !a.start(func(ctx context.Context) { a.respond(r, do(ctx)) }) {
		a.respond(r, proto.Used{Error: "too many requests are under way"})
	}
}

func (a api) respond(r micro.Request, answer any) {
	body, err := json.Marshal(answer)
	if err == nil {
		err = r.Respond(body)
	}
	if err != nil {
		a.s.metrics.unsent.Inc()
	}
}
