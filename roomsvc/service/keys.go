package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// openSecret reads the key that signs resume strings, and makes it if it does not exist.
func (s *Service) openSecret(ctx context.Context) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	kv, err := stream.Bucket(ctx, js, jetstream.KeyValueConfig{
		Bucket:      proto.SecretBucket,
		Description: "the key that signs resume strings of roomcast",
		Storage:     jetstream.FileStorage,
		History:     1,
		Replicas:    s.cfg.Replicas,
	}, s.cfg.Log)
	if err != nil {
		return err
	}
	s.secret = make([]byte, 32)
	rand.Read(s.secret)
	if _, err = kv.Create(ctx, proto.SecretKey, s.secret); err == nil {
		return nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("make key %s: %w", proto.SecretKey, err)
	}
	entry, err := kv.Get(ctx, proto.SecretKey)
	if err != nil { // also ErrKeyNotFound, from a replica that is behind
		return fmt.Errorf("read key %s: %w; if its store is damaged, restore a replica, or remove the bucket with: nats kv del %s", proto.SecretKey, err, proto.SecretBucket)
	}
	if len(entry.Value()) < 32 {
		return fmt.Errorf("read key %s: it has %d bytes, not 32; remove it with: nats kv del %s %s",
			proto.SecretKey, len(entry.Value()), proto.SecretBucket, proto.SecretKey)
	}
	s.secret = entry.Value()
	return nil
}

// answerKeys answers a gateway. Only the account of the gateways, or whoever shares the
// account of this service, can ask.
func (a api) answerKeys(r micro.Request) {
	a.respond(r, proto.Keys{Resume: a.s.secret, Imported: r.Headers().Get(proto.HeaderAccount) != ""})
}
