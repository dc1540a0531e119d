package service

import (
	"io"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// startNATS runs a NATS server. If mapped is true, its account maps the subject of each room to the
// subject of the room's partition.
func startNATS(t testing.TB, mapped bool, change ...func(*server.Options)) *natstest.Server {
	t.Helper()
	s := natstest.Start(t, change...)
	if mapped {
		acc, err := s.LookupAccount("$G")
		if err != nil {
			t.Fatal(err)
		}
		if err := acc.AddMapping("room.*", proto.MapTo); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// startService runs an instance until the test ends or stop is called.
func startService(t testing.TB, srv *natstest.Server, change ...func(*Config)) (s *Service, stop func()) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dial = srv.Dial
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = natstest.Run(t, "the service", s.Run)
	natstest.Eventually(t, "the service to be ready", func() bool { return s.Ready() == nil && s.owner.Held() > 0 })
	return s, stop
}

// say sends one message and returns the reply.
func say(t testing.TB, nc *nats.Conn, room, from, key, text string) proto.Reply {
	t.Helper()
	return ask(t, nc, message(room, from, key, text))
}

func message(room, from, key, text string) *nats.Msg {
	msg := nats.NewMsg(proto.MustRoom(room).Subject())
	msg.Data = []byte(text)
	if from != "" {
		msg.Header.Set(proto.HeaderFrom, from)
	}
	if key != "" {
		msg.Header.Set(proto.HeaderKey, key)
	}
	return msg
}

func ask(t testing.TB, nc *nats.Conn, msg *nats.Msg) proto.Reply {
	t.Helper()
	got, err := nc.RequestMsg(msg, 5*time.Second)
	if err != nil {
		t.Fatalf("request on %s: %v", msg.Subject, err)
	}
	r, err := proto.ParseReply(got.Data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// askUntil sends a request until wanted returns true for the answer. Like a gateway, it resends a
// request that gets no answer. An instance that has just lost a partition drops the requests for
// it.
func askUntil(t testing.TB, nc *nats.Conn, msg *nats.Msg, wanted func(proto.Reply) bool) (r proto.Reply) {
	t.Helper()
	natstest.Eventually(t, "an answer on "+msg.Subject, func() bool {
		got, err := nc.RequestMsg(msg, time.Second)
		if err != nil {
			return false
		}
		r, err = proto.ParseReply(got.Data)
		return err == nil && wanted(r)
	})
	return r
}

// final reports whether an answer is final. Other answers ask the sender to try again.
func final(r proto.Reply) bool { return r.Refusal == nil || !r.Refusal.Temporary() }

func TestMessageIsStoredAndFannedOut(t *testing.T) {
	for _, mapped := range []bool{true, false} {
		srv := startNATS(t, mapped)
		_, stop := startService(t, srv)
		nc := srv.Connect(t)
		out, err := nc.SubscribeSync(proto.MustRoom("聊天室1").OutSubject())
		if err != nil {
			t.Fatal(err)
		}
		nc.Flush()
		for seq, text := range []string{"你好", "hello"} {
			r := say(t, nc, "聊天室1", "", "", text)
			if r.Seq != uint64(seq+1) {
				t.Fatalf("got %+v, want seq %d", r, seq+1)
			}
			msg, err := out.NextMsg(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			rec, err := proto.ParseRecord(msg.Subject, msg.Header, msg.Data)
			if err != nil || rec.Seq != r.Seq {
				t.Fatalf("got record %+v, %v", rec, err)
			}
			e, err := proto.ParseEvent(rec.Payload)
			if err != nil || string(e.Content.Body) != text || e.From.ID != "nats" || !e.At.Equal(r.At) {
				t.Fatalf("got event %+v, %v", e, err)
			}
		}
		if r := say(t, nc, "聊天室1", "", "", "关闭"); r.Close != proto.CloseNormal {
			t.Errorf("close word: got %+v", r)
		}
		stop()
	}
}

// at makes a server listen at addr, where another server listened before.
func at(t testing.TB, addr string) func(*server.Options) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *server.Options) { o.Port = n }
}
