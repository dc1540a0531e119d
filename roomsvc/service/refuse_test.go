package service

import (
	"context"
	"testing"
	"time"

	"roomcast/proto"
)

// The instance refuses waiting commands if it cannot take the partition, or if the previous owner
// may have answered them. It refuses the commands before their senders give up.
func TestWaitingCommandsAreRefused(t *testing.T) {
	for name, o := range map[string]order{"the partition cannot be taken": refuseAll{}, "another instance owned it": refuseWaiting{}} {
		t.Run(name, func(t *testing.T) { waitingCommandsAreRefused(t, o) })
	}
}

func waitingCommandsAreRefused(t *testing.T, o order) {
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
	p.intake.Store(int32(acquiring))
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
