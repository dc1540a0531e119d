//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/gateway/client"
	"roomcast/proto"
	"roomcast/scripts/torture/history"
)

const readTime = 2 * time.Minute // for reading all logs

// read makes a member who has never been here and wants to see every room from the
// beginning.
func (r *run) read(ctx context.Context) (*member, error) {
	m := r.newMember("reader", append(r.names[:len(r.names):len(r.names)], r.gavel))
	var err error
	if m.client, err = m.dial(ctx, ""); err != nil {
		return nil, err
	}
	for _, room := range m.rooms {
		if _, err := m.client.Join(ctx, room, proto.From{HasSince: true}); err != nil {
			m.client.Close()
			return nil, err
		}
	}
	return m, nil
}

// writeTruth writes down what is in the logs: read from the stream itself where NATS can
// be reached, otherwise as a client sees it.
func (r *run) writeTruth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	read := r.readStream
	if len(r.rig.Servers()) == 0 {
		read = r.readRooms
	}
	if err := read(ctx); err != nil {
		return fmt.Errorf("read logs: %w", err)
	}
	return nil
}

// readStream reads with nothing of ours in between.
func (r *run) readStream(ctx context.Context) error {
	nc, err := nats.Connect(strings.Join(r.rig.Servers(), ","))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.OrderedConsumer(ctx, proto.StreamName, jetstream.OrderedConsumerConfig{FilterSubjects: []string{proto.SubjectAnyLog}})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		if err := r.writeEvent(msg.Data()); err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}

func (r *run) writeEvent(payload []byte) error {
	event, err := proto.ParseEvent(payload)
	if err != nil {
		return err
	}
	e := history.Entry{Room: event.Room.String()}
	record(&e, history.Log, &event)
	r.history.Add(e)
	return nil
}

// readRooms reads every room as somebody new.
func (r *run) readRooms(ctx context.Context) error {
	c, err := client.Dial(ctx, client.Config{URLs: r.rig.Gateways(), Name: "historian"})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, room := range append(r.names[:len(r.names):len(r.names)], r.gavel) {
		head, err := c.Join(ctx, room, proto.From{HasSince: true})
		if err != nil {
			return err
		}
		for seq := uint64(0); seq < max(head, r.head(room)); {
			n, err := c.Next(ctx)
			if err != nil {
				return fmt.Errorf("%s after %d of %d: %w", room, seq, max(head, r.head(room)), err)
			}
			if n.Room != room || n.Event == nil {
				continue
			}
			seq = n.Event.Seq
			e := history.Entry{Room: room.String()}
			record(&e, history.Log, n.Event)
			r.history.Add(e)
		}
		if err := c.Leave(ctx, room); err != nil {
			return err
		}
	}
	return nil
}
