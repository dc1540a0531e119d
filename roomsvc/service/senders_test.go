package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// senders is a group of senders. Each sends one message after another. Like a gateway, a sender
// resends a message with the same key until it receives an ack. The group remembers the acks.
type senders struct {
	nc       *nats.Conn
	patience time.Duration
	cancel   context.CancelFunc
	tasks    sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	acks  map[proto.Room]map[string]uint64
	pause time.Duration // the longest time a sender had to wait for an ack
	when  time.Time     // when the longest wait ended
	err   error
}

// startSenders starts count senders. Each sends to the rooms one after the other, again and again.
func startSenders(t testing.TB, srv *natstest.Server, count int, rooms ...string) *senders {
	return startSendersOver(t, srv.Connect(t), count, rooms...)
}

func startSendersOver(t testing.TB, nc *nats.Conn, count int, rooms ...string) *senders {
	return startSendersAs(t, nc, 0, count, 20*time.Second, rooms...)
}

// startSendersAs starts count senders, numbered from first on. A sender fails if a message has no
// ack after patience.
func startSendersAs(t testing.TB, nc *nats.Conn, first, count int, patience time.Duration, rooms ...string) *senders {
	ctx, cancel := context.WithCancel(context.Background())
	c := &senders{nc: nc, cancel: cancel, patience: patience, acks: map[proto.Room]map[string]uint64{}}
	for _, name := range rooms {
		c.acks[proto.MustRoom(name)] = map[string]uint64{}
	}
	for i := first; i < first+count; i++ {
		c.tasks.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				c.say(rooms[(i+n)%len(rooms)], fmt.Sprintf("s%d", i), fmt.Sprintf("%d-%d", i, n))
			}
		})
	}
	t.Cleanup(func() { cancel(); c.tasks.Wait() })
	return c
}

func (c *senders) say(room, from, key string) {
	for begun := time.Now(); ; {
		got, err := c.nc.RequestMsg(message(room, from, key, key), 300*time.Millisecond)
		if err == nil {
			r, err := proto.ParseReply(got.Data)
			if err != nil || r.Refusal != nil && !r.Refusal.Temporary() || r.Close != 0 {
				c.fail(fmt.Errorf("%s in %s: %s, %w", key, room, got.Data, err))
				return
			}
			if r.Refusal == nil {
				c.ack(proto.MustRoom(room), from+" "+key, r.Seq, time.Since(begun))
				return
			}
		}
		if time.Since(begun) > c.patience {
			c.fail(fmt.Errorf("%s in %s: no ack in %s: %w", key, room, c.patience, err))
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *senders) ack(room proto.Room, key string, seq uint64, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks[room][key] = seq
	if took > c.pause {
		c.pause, c.when = took, time.Now()
	}
}

func (c *senders) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = errors.Join(c.err, err)
}

// longest returns the longest time for which a sender has waited for an ack, since the last call of
// longest.
func (c *senders) longest() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pause
	c.pause = 0
	return p
}

func (c *senders) count() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, acks := range c.acks {
		n += len(acks)
	}
	return n
}

// waitAcks waits for more further acks.
func (c *senders) waitAcks(t testing.TB, more int) {
	t.Helper()
	goal := c.count() + more
	natstest.Eventually(t, fmt.Sprintf("%d acks", goal), func() bool { return c.count() >= goal })
}

// check stops the senders and compares the log with their acks. No message may be lost or stored
// twice, no seq may be missing, and each sender's messages must be in order.
func (c *senders) check(t testing.TB, srv *natstest.Server) {
	t.Helper()
	c.cancel()
	c.tasks.Wait()
	if c.err != nil {
		t.Error(c.err)
	}
	for room, acks := range c.acks {
		records := readLog(t, srv, room)
		stored := map[string]uint64{}
		last := map[string]int{}
		for i, r := range records {
			if r.Seq != uint64(i+1) {
				t.Fatalf("%s: record %d has seq %d and stream sequence %d", room, i+1, r.Seq, r.Stream)
			}
			if i > 0 && r.State.At.Before(records[i-1].State.At) {
				t.Errorf("%s: time goes backwards at seq %d", room, r.Seq)
			}
			key := r.From + " " + r.Key
			if stored[key] != 0 {
				t.Errorf("%s: %s is stored at seq %d and %d", room, key, stored[key], r.Seq)
			}
			stored[key] = r.Seq
			var who, n int
			if _, err := fmt.Sscanf(r.Key, "%d-%d", &who, &n); err != nil {
				continue
			}
			if before, ok := last[r.From]; ok && n <= before {
				t.Errorf("%s: %s said %d after %d", room, r.From, n, before)
			}
			last[r.From] = n
		}
		for key, seq := range acks {
			if stored[key] != seq {
				t.Errorf("%s: %s was acknowledged as seq %d and is at %d", room, key, seq, stored[key])
			}
		}
	}
	t.Logf("%d messages acknowledged and found", c.count())
}

// readLog reads all records of a room from the stream's leader. After the network was split,
// another replica may have fewer records for a while.
func readLog(t testing.TB, srv *natstest.Server, room proto.Room) (records []proto.Record) {
	t.Helper()
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var cons jetstream.Consumer
	natstest.Eventually(t, "a consumer on the leader", func() bool { // NATS places it on any replica
		log, err := js.Stream(ctx, proto.StreamName)
		if err != nil {
			return false
		}
		cons, err = log.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{room.LogSubject()}})
		if err != nil {
			return false
		}
		leader, mine := log.CachedInfo().Cluster, cons.CachedInfo().Cluster
		return leader == nil || mine == nil || leader.Leader == mine.Leader
	})
	left := cons.CachedInfo().NumPending
	if left == 0 {
		return nil
	}
	msgs, err := cons.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer msgs.Stop()
	for ; left > 0; left-- {
		msg, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		rec, err := proto.ParseRecord(msg.Subject(), msg.Headers(), msg.Data())
		if err != nil {
			t.Fatal(err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		rec.Stream = meta.Sequence.Stream
		records = append(records, rec)
	}
	return records
}
