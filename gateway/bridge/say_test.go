package bridge_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history/historytest"
)

// What waits behind a message that was given up is given up too, or it would be stored
// before that one, which its sender will say again.
func TestGivenUpWithThoseBehind(t *testing.T) {
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

// A room that refused the first try because it was closed may be open when the second
// arrives: the late answer to the first says nothing about the message.
func TestOnlyTheLastTryIsBelieved(t *testing.T) {
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
