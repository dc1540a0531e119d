//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/scripts/torture/history"
)

const (
	readTime = 2 * time.Minute // limit for reading all logs
	idleTime = 5 * time.Second // limit for the next record of a log
)

// all returns every room that has messages, except the moderated rooms.
func (r *run) all() []proto.Room { return slices.Concat(r.names, r.quiet, r.closing) }

// read makes a new member that reads every room from the beginning. Because it joins every room,
// all members also receive notices with the number of members.
func (r *run) read(ctx context.Context) (*member, error) {
	m := r.newMember("reader", append(r.all(), r.census))
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

// writeTruth writes the log of each room, as the stream has it, into the history.
func (r *run) writeTruth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	servers, err := r.rig.ServeLog(ctx)
	if err == nil {
		t := &truth{r.history, r.all(), map[proto.Room]string{}}
		err = t.readStream(ctx, servers)
	}
	if err != nil {
		return fmt.Errorf("read logs: %w", err)
	}
	return nil
}

// truth writes the log of all rooms into the history.
type truth struct {
	history *history.Writer
	rooms   []proto.Room          // the moderated rooms are not among them, because their check uses pages instead of the log
	epochs  map[proto.Room]string // the newest epoch of each room so far; its first event names it
}

// readStream reads the log directly from NATS. A consumer may read from a replica that is behind.
// So readStream reads again until the log ends with the leader's newest record.
func (t *truth) readStream(ctx context.Context, servers []string) error {
	nc, err := nats.Connect(strings.Join(servers, ","))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, proto.StreamName)
	if err != nil {
		return err
	}
	newest, err := stream.GetLastMsgForSubject(ctx, proto.SubjectAnyLog)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		records, last, err := readRecords(ctx, js, newest.Sequence)
		if err != nil {
			return err
		}
		if last >= newest.Sequence {
			for _, record := range records {
				if err := t.write(record); err != nil {
					return err
				}
			}
			return nil
		}
		fmt.Printf("torture: the log ends with %d on its leader and with %d on a copy, try %d\n", newest.Sequence, last, try)
		sleep(ctx, time.Second)
	}
}

// readRecords returns the records that one server has, up to newest. It also returns the stream
// sequence of the last returned record. It stops after idleTime without a record. There are two
// reasons to stop early. A replica may be behind. And a server never sends a damaged record, but
// counts it as pending.
func readRecords(ctx context.Context, js jetstream.JetStream, newest uint64) (records [][]byte, last uint64, err error) {
	consumer, err := js.OrderedConsumer(ctx, proto.StreamName, jetstream.OrderedConsumerConfig{FilterSubjects: []string{proto.SubjectAnyLog}})
	if err != nil {
		return nil, 0, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, 0, err
	}
	defer messages.Stop()
	for {
		quiet, cancel := context.WithTimeout(ctx, idleTime)
		msg, err := messages.Next(jetstream.NextContext(quiet))
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return records, last, nil
		case err != nil:
			return nil, 0, err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, 0, err
		}
		records, last = append(records, msg.Data()), meta.Sequence.Stream
		if last >= newest || meta.NumPending == 0 {
			return records, last, nil
		}
	}
}

// write adds one record to the history, if its room is one of t.rooms.
func (t *truth) write(payload []byte) error {
	event, err := proto.ParseEvent(payload)
	if err != nil {
		return err
	}
	if !slices.Contains(t.rooms, event.Room) {
		return nil
	}
	var first struct{ Epoch string }
	if err := json.Unmarshal(payload, &first); err != nil {
		return err
	}
	if first.Epoch != "" {
		t.epochs[event.Room] = first.Epoch
	}
	e := history.Entry{Room: event.Room.String()}
	record(&e, history.Log, &event)
	e.Epoch = t.epochs[event.Room]
	t.history.Add(e)
	return nil
}
