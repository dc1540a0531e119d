package bridge_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/bridge"
	"roomcast/gateway/publish"
	"roomcast/proto"
	"roomcast/proto/history/historytest"
)

// If a request times out, the gateway refuses the sender's later requests too. Otherwise the log
// would contain them before the first request, which the sender sends again.
func TestRequestsBehindATimedOutRequestFailToo(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a")
	o.end(t)
	replies := make(chan proto.Reply, 2)
	for _, patience := range []time.Duration{100 * time.Millisecond, time.Hour} {
		m := text(proto.MustRoom("lobby"), "alice", "hi")
		m.Patience = patience
		a.Say(m, func(r proto.Reply) { replies <- r })
	}
	for range 2 {
		select {
		case r := <-replies:
			if r.Refusal == nil || r.Refusal.Code != proto.Unavailable {
				t.Errorf("got %+v, want unavailable", r)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("got no reply")
		}
	}
}

// A gateway accepts replies only on its own reply subjects. No other client can guess these
// subjects, even if it knows the reply subjects of other gateways.
func TestAnswersCannotBeForged(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a, b := open(t, s, "a"), open(t, s, "b")
	o.end(t)
	nc := s.Conn()
	requests := make(chan *nats.Msg, 64)
	sub, err := nc.ChanSubscribe("room.*", requests)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	got := make(chan proto.Reply, 4)
	var replies []string
	for _, g := range []*gateway{a, b, a} {
		g.Say(text(proto.MustRoom("lobby"), fmt.Sprint("sender", len(replies)), "hi"), func(r proto.Reply) { got <- r })
		replies = append(replies, (<-requests).Reply)
	}
	for i, id := range []string{"a", "b", "a"} {
		token, ok := strings.CutPrefix(replies[i], proto.AckPrefix(id))
		if !ok || len(token) < 26 || strings.Contains(token, ".") {
			t.Errorf("got reply subject %s, want %s and a long token", replies[i], proto.AckPrefix(id))
		}
	}
	secretOf := func(i int) string {
		return strings.SplitN(strings.TrimPrefix(replies[i], proto.AckPrefix([]string{"a", "b", "a"}[i])), "-", 2)[0]
	}
	if secretOf(0) == secretOf(1) || secretOf(0) != secretOf(2) {
		t.Errorf("got %q, want one secret for each gateway", replies)
	}
	answer := func(seq uint64) []byte {
		r := proto.Reply{Seq: seq}
		return r.AppendJSON(nil)
	}
	for _, to := range []string{"1-1", "2-1", secretOf(1) + "-1-1"} {
		if err := nc.Publish(proto.AckPrefix("a")+to, answer(99)); err != nil {
			t.Fatal(err)
		}
	}
	for i, reply := range replies {
		if err := nc.Publish(reply, answer(uint64(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	for range replies {
		if r := <-got; r.Seq == 0 || r.Seq > 3 {
			t.Errorf("got %+v, want a seq that was not forged", r)
		}
	}
}

// The room is closed when the first attempt arrives, but may be open when the second arrives. So
// if the answer to the first attempt comes late, it says nothing about the message.
func TestOnlyTheAnswerToTheNewestAttemptCounts(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a")
	o.end(t)
	nc := s.Conn()
	tries := make(chan *nats.Msg, 8)
	sub, err := nc.ChanSubscribe("room.lobby", tries)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	got := make(chan proto.Reply, 1)
	m := text(proto.MustRoom("lobby"), "alice", "hi")
	m.Patience = 10 * time.Second
	a.Say(m, func(r proto.Reply) { got <- r })
	first, second := <-tries, <-tries
	for _, answer := range []struct {
		to    *nats.Msg
		reply proto.Reply
	}{
		{first, proto.Reply{Refusal: proto.Refuse(proto.RoomClosed, "the room is closed")}},
		{second, proto.Reply{Seq: 7}},
	} {
		if err := answer.to.Respond(answer.reply.AppendJSON(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-got; r.Refusal != nil || r.Seq != 7 {
		t.Errorf("got %+v, want seq 7", r)
	}
}

// tries returns the messages that gateways send to the room lobby. The test answers them.
func tries(t *testing.T, s *historytest.Server) chan *nats.Msg {
	t.Helper()
	nc := s.Conn()
	tries := make(chan *nats.Msg, 64)
	sub, err := nc.ChanSubscribe("room.lobby", tries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Unsubscribe() })
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return tries
}

func answer(t *testing.T, m *nats.Msg, r proto.Reply) string {
	t.Helper()
	if err := m.Respond(r.AppendJSON(nil)); err != nil {
		t.Fatal(err)
	}
	return string(m.Data)
}

func busy(code proto.Code) proto.Reply {
	return proto.Reply{Refusal: proto.Refuse(code, "the message has waited too long").After(time.Millisecond)}
}

// If the owner refuses a message temporarily, the gateway refuses, with the same code, the messages
// that wait behind it. When the sender sends all of them again, they keep their order.
func TestMessagesBehindARefusedOneAreRefused(t *testing.T) {
	for _, code := range []proto.Code{proto.Overloaded, proto.RateLimited} {
		s := historytest.Start(t, 1000)
		o := own(t, s)
		a := open(t, s, "a")
		o.end(t)
		tries := tries(t, s)
		codes := make(chan proto.Code, 3)
		for _, body := range []string{"one", "two", "three"} {
			m := text(proto.MustRoom("lobby"), "alice", body)
			m.Key, m.Stream = body, true
			a.Say(m, func(r proto.Reply) {
				if r.Refusal == nil {
					codes <- ""
					return
				}
				codes <- r.Refusal.Code
				a.Say(m, func(proto.Reply) {})
			})
		}
		var stored []string
		answer(t, <-tries, busy(code))
		for seq := uint64(1); seq <= 3; seq++ {
			stored = append(stored, answer(t, <-tries, proto.Reply{Seq: seq}))
		}
		if want := []string{"one", "two", "three"}; !slices.Equal(stored, want) {
			t.Errorf("%s: got %v stored, want %v", code, stored, want)
		}
		for range 3 {
			if got := <-codes; got != code {
				t.Errorf("got code %q, want %s", got, code)
			}
		}
	}
}

// The gateway also refuses a message that arrives before the refused message is sent again. A
// sender that waits for each answer is not affected.
func TestLaterMessagesWaitForTheRefusedOne(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a")
	o.end(t)
	tries := tries(t, s)
	say := func(from, body string, stream bool) chan proto.Reply {
		m := text(proto.MustRoom("lobby"), from, body)
		m.Key, m.Stream = body, stream
		got := make(chan proto.Reply, 1)
		a.Say(m, func(r proto.Reply) { got <- r })
		return got
	}
	first := say("alice", "one", true)
	answer(t, <-tries, busy(proto.Overloaded))
	if r := <-first; r.Refusal == nil {
		t.Fatalf("got %+v, want overloaded", r)
	}
	if r := <-say("alice", "two", true); r.Refusal == nil || r.Refusal.Code != proto.Overloaded || r.Refusal.Retry == 0 {
		t.Errorf("got %+v for the later message, want overloaded for now", r)
	}
	for i, x := range []struct {
		from, body string
		stream     bool
	}{{"bob", "b", true}, {"alice", "h", false}, {"alice", "one", true}, {"alice", "two", true}, {"alice", "three", true}} {
		got := say(x.from, x.body, x.stream)
		if body := answer(t, <-tries, proto.Reply{Seq: uint64(i + 1)}); body != x.body {
			t.Fatalf("got %s, want %s", body, x.body)
		}
		if r := <-got; r.Refusal != nil {
			t.Errorf("%s: got %v, want it stored", x.body, r.Refusal)
		}
	}
}

// If the queue is full, a message is refused. The sender sends the refused message again before the
// next one.
func TestFullQueueKeepsTheOrder(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a", func(c *bridge.Config) { c.Publish.MaxPerSender = 2 })
	o.end(t)
	tries := tries(t, s)
	keys := []string{"k1", "k2", "k3", "k4", "k5"}
	refused := make(chan string, len(keys))
	say := func(key string) {
		m := text(proto.MustRoom("lobby"), "alice", key)
		m.Key, m.Stream, m.Patience = key, true, 10*time.Second
		a.Say(m, func(r proto.Reply) {
			if r.Refusal != nil {
				refused <- key
			}
		})
	}
	for _, key := range keys {
		say(key)
	}
	var stored []string
	for _, want := range keys[2:] {
		if got := <-refused; got != want {
			t.Fatalf("got %s refused, want %s", got, want)
		}
	}
	stored = append(stored, answer(t, <-tries, proto.Reply{Seq: 1}), answer(t, <-tries, proto.Reply{Seq: 2}))
	say("k6")
	if got := <-refused; got != "k6" {
		t.Errorf("got %s refused, want k6", got)
	}
	for i, key := range []string{"k3", "k4", "k5", "k6"} {
		say(key)
		stored = append(stored, answer(t, <-tries, proto.Reply{Seq: uint64(i + 3)}))
	}
	if want := append(keys, "k6"); !slices.Equal(stored, want) {
		t.Errorf("got %v stored, want %v", stored, want)
	}
}

// NATS never accepts such a message. The gateway must refuse it at once, and send the next
// message.
func TestMessageAboveTheLimitOfNATSIsRefused(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a")
	o.end(t)
	tries := tries(t, s)
	got := make(chan proto.Reply, 2)
	for _, body := range []string{strings.Repeat("x", int(s.Conn().MaxPayload())), "small"} {
		m := text(proto.MustRoom("lobby"), "alice", body)
		m.Patience = time.Hour
		a.Say(m, func(r proto.Reply) { got <- r })
	}
	if r := <-got; r.Refusal == nil || r.Refusal.Code != proto.TooLarge || r.Refusal.Temporary() {
		t.Errorf("got %+v, want too_large for good", r)
	}
	answer(t, <-tries, proto.Reply{Seq: 1})
	if r := <-got; r.Seq != 1 {
		t.Errorf("got %+v, want the small one stored", r)
	}
}

// With LogMessages, the log contains one line for every message, whatever its source. The line
// never contains the message's text.
func TestLogMessagesWritesOneLineForEachMessage(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	var lines bytes.Buffer
	a := open(t, s, "a", func(c *bridge.Config) {
		c.Publish.LogMessages, c.Log = true, slog.New(slog.NewTextHandler(&lines, nil))
	})
	for _, m := range []publish.Say{
		text(proto.MustRoom("lobby"), "api", "CANARY"),
		{Rights: proto.AllRights, Room: proto.MustRoom("lobby"), From: proto.Identity{ID: "api"}, Act: proto.ActClose, Why: "CANARY"},
	} {
		done := make(chan proto.Reply, 1)
		a.Say(m, func(r proto.Reply) { done <- r })
		<-done
	}
	a.stop()
	out := lines.String()
	for _, want := range []string{"msg=message room=lobby from=api kind=text bytes=6 seq=1 duplicate=false", " act=close"} {
		if !strings.Contains(out, want) {
			t.Errorf("got a log without %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "CANARY") {
		t.Errorf("got a log with the text:\n%s", out)
	}
}

// The answer to a message without a key is lost, and the gateway sends the message again. The
// owner must recognise it.
func TestMessageWithoutKeyIsStoredOnce(t *testing.T) {
	s := historytest.Start(t, 1000)
	o := own(t, s)
	a := open(t, s, "a")
	o.end(t)
	tries := tries(t, s)
	got := make(chan proto.Reply, 1)
	m := text(proto.MustRoom("lobby"), "alice", "hi")
	m.Key, m.Patience = "", 10*time.Second
	a.Say(m, func(r proto.Reply) { got <- r })
	key := func(m *nats.Msg) string { return m.Header.Get(proto.HeaderKey) + m.Header.Get(proto.HeaderOnce) }
	first := <-tries // the answer to this one is lost
	second := <-tries
	if key(first) == "" || key(first) != key(second) {
		t.Errorf("the first try has key %q and the second %q, want the same", key(first), key(second))
	}
	answer(t, second, proto.Reply{Seq: 1})
	if r := <-got; r.Seq != 1 {
		t.Errorf("got %+v, want seq 1", r)
	}
}
