package service

import (
	"context"
	"testing"
	"time"

	"roomcast/proto"
)

// What has been kept is refused, and does not wait for its sender to give up, if the
// partition cannot be taken after all, or if the one who had it may have answered.
func TestWhatWaitsIsRefused(t *testing.T) {
	for name, o := range map[string]order{"cannot be taken": {refuse: true}, "was another's": {shed: true}} {
		t.Run(name, func(t *testing.T) { whatWaitsIsRefused(t, o) })
	}
}

func whatWaitsIsRefused(t *testing.T, o order) {
	srv := startNATS(t, true)
	s, _ := startService(t, srv)
	nc := srv.Connect(t)
	to := proto.MustRoom("lobby")
	p := newPartition(s, to.Partition())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.run(ctx) }()
	defer func() { cancel(); <-done }()

	replies, err := nc.SubscribeSync(nc.NewRespInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	msg := message("lobby", "u", "1", "hi")
	msg.Reply = replies.Subject
	p.standing.Store(int32(coming))
	p.offer(command{msg: msg, reply: returnPath{subject: msg.Reply}, to: to, since: time.Now()})
	p.orders <- o
	got, err := replies.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := proto.ParseReply(got.Data); err != nil || r.Refusal == nil || r.Refusal.Code != proto.Unavailable {
		t.Errorf("got %+v, %v, want unavailable", r, err)
	}
}
