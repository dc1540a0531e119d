package stream

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// A batch contains records of two partitions, and the fence of one of them is lost. Only the
// records of that partition are refused.
func TestEachPartitionOfABatchIsFenced(t *testing.T) {
	s := startNATS(t, true)
	cfg := config(s)
	cfg.SyncAlways = true
	nc := s.Connect(t)
	if err := Ensure(t.Context(), nc, cfg); err != nil {
		t.Fatal(err)
	}
	a, b := NewCommitter(cfg), NewCommitter(cfg)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	log, err := js.Stream(t.Context(), proto.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		gone := new(heard)
		f := take(t, a, lobby.Partition(), "a", new(heard))
		g := take(t, a, hall.Partition(), "a", gone)
		take(t, b, hall.Partition(), "b", new(heard)) // another owner takes the partition
		for seq := range uint64(20) {                 // too many for single commits
			if err := f.Append(record(lobby, seq+1)); err != nil {
				t.Fatal(err)
			}
		}
		// The fence may be lost before this record is appended.
		_ = g.Append(record(hall, 1))
		natstest.Eventually(t, "the loss", func() bool { _, err := gone.state(); return errors.Is(err, ErrLost) })
		if got, err := log.GetLastMsgForSubject(t.Context(), hall.LogSubject()); !errors.Is(err, jetstream.ErrMsgNotFound) {
			t.Fatalf("got record %v, %v, want none under a lost fence", got, err)
		}
	}
}

// After a split of the network, the former leader of the stream may refuse records that the new
// leader has stored. This second answer comes late and must not count for the next commit.
func TestSecondAnswerToACommitIsIgnored(t *testing.T) {
	ways(t, func(t *testing.T, s *natstest.Server, cfg Config) {
		c := NewCommitter(cfg)
		defer c.Close()
		former := s.Connect(t)
		records, err := former.SubscribeSync(proto.SubjectAnyLog)
		if err != nil {
			t.Fatal(err)
		}
		sink := new(heard)
		f := take(t, c, lobby.Partition(), "a", sink)
		const refusal = `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"},"stream":"ROOMS","seq":0}`
		for seq := range 20 {
			if err := f.Append(record(lobby, uint64(seq+1))); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, "the ack", func() bool { n, err := sink.state(); return n == seq+1 || err != nil })
			if _, err := sink.state(); err != nil {
				t.Fatalf("record %d: %v", seq+1, err)
			}
			msg, err := records.NextMsgWithContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := former.Publish(msg.Reply, []byte(refusal)); err != nil {
				t.Fatal(err)
			}
			if err := former.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// ackDropper is a connection that drops one received ack.
type ackDropper struct {
	net.Conn
	rest []byte       // bytes that were read from the server and not passed on yet
	left atomic.Int32 // drop the ack with this number, counted from now; 0 = drop none
}

func (c *ackDropper) Read(p []byte) (int, error) {
	for {
		// Pass on whole protocol messages only.
		if line, _, found := bytes.Cut(c.rest, []byte("\r\n")); found {
			size := len(line) + 2
			if name, args, _ := bytes.Cut(line, []byte(" ")); string(name) == "MSG" {
				fields := bytes.Fields(args)
				n := 0
				for _, digit := range fields[len(fields)-1] {
					n = 10*n + int(digit-'0')
				}
				size += n + 2
			}
			if size <= len(c.rest) {
				if bytes.Contains(c.rest[:size], ackStart) && c.left.Load() > 0 && c.left.Add(-1) == 0 {
					c.rest = c.rest[size:]
					continue
				}
				if size > len(p) {
					return 0, fmt.Errorf("a message of %d bytes is too long", size)
				}
				copy(p, c.rest[:size])
				c.rest = c.rest[size:]
				return size, nil
			}
		}
		buf := make([]byte, 32<<10)
		n, err := c.Conn.Read(buf)
		c.rest = append(c.rest, buf[:n]...)
		if err != nil {
			return 0, err
		}
	}
}

type ackDroppers struct{ last *ackDropper }

func (d *ackDroppers) Dial(network, address string) (net.Conn, error) {
	nc, err := net.Dial(network, address)
	d.last = &ackDropper{Conn: nc}
	return d.last, err
}

// A record whose ack was lost is not confirmed. In particular, the ack of the next record does not
// confirm it.
func TestALostAckConfirmsNothing(t *testing.T) {
	ways(t, func(t *testing.T, s *natstest.Server, cfg Config) {
		cfg.Deadline = 400 * time.Millisecond
		var way ackDroppers
		cfg.Dial = func(opts ...nats.Option) (*nats.Conn, error) {
			return nats.Connect(s.ClientURL(), append(opts, nats.SetCustomDialer(&way))...)
		}
		c := NewCommitter(cfg)
		defer c.Close()
		var h heard
		f := take(t, c, lobby.Partition(), "a", &h)
		rooms := []proto.Room{lobby}
		for i := 0; len(rooms) < 5; i++ {
			if r := proto.MustRoom(fmt.Sprint("r", i)); r.Partition() == lobby.Partition() {
				rooms = append(rooms, r)
			}
		}
		const lost = 3 // number of the lost ack
		way.last.left.Store(lost)
		for _, room := range rooms {
			if err := f.Append(record(room, 1)); err != nil {
				t.Fatal(err)
			}
		}
		natstest.Eventually(t, "the failure", func() bool { _, err := h.state(); return errors.Is(err, ErrUnavailable) })
		js, err := jetstream.New(s.Connect(t))
		if err != nil {
			t.Fatal(err)
		}
		log, err := js.Stream(t.Context(), proto.StreamName)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := h.state(); n >= lost {
			t.Errorf("%d records are confirmed, want fewer than %d, whose ack was lost", n, lost)
		}
		for i, seq := range h.stored {
			msg, err := log.GetMsg(t.Context(), seq)
			if err != nil || msg.Subject != rooms[i].LogSubject() {
				t.Errorf("record %d: got %v at %d, %v, want %s", i+1, msg, seq, err, rooms[i].LogSubject())
			}
		}
	})
}
