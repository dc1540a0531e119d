package service

import (
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// An owner of a closed room is paused. Meanwhile another instance takes the room and reopens it.
// When the paused owner continues, it must not refuse messages because the room was closed.
func TestPausedOwnerDoesNotAnswerFromMemory(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv, keepAll)
	defer stop()
	paused := startProcess(t, srv, "paused")
	owned(t, s, s.Instance(), "paused")
	nc := srv.Connect(t)
	var theirs []string
	natstest.Eventually(t, "the other instance to own some of the rooms", func() bool {
		for _, room := range rooms {
			m, err := s.commits.Marker(t.Context(), proto.MustRoom(room).Partition())
			if err != nil {
				t.Fatal(err)
			}
			if m.Owner == "paused" {
				theirs = append(theirs, room)
			}
		}
		return len(theirs) > 0
	})
	act := func(room, key string, kind proto.Act) {
		t.Helper()
		m := message(room, "mod", key, "")
		m.Header.Set(proto.HeaderKind, string(kind))
		natstest.Eventually(t, string(kind), func() bool { return ask(t, nc, m).Refusal == nil })
	}
	for _, room := range theirs {
		act(room, "c", proto.ActClose)
	}
	if err := paused.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	owned(t, s, s.Instance())
	inbox := nc.NewRespInbox()
	answers := make(chan *nats.Msg, 8*len(theirs))
	if _, err := nc.ChanSubscribe(inbox, answers); err != nil {
		t.Fatal(err)
	}
	for _, room := range theirs {
		act(room, "r", proto.ActReopen)
		m := message(room, "u", "k", "hi")
		m.Reply = inbox
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for range theirs {
		if r, err := proto.ParseReply((<-answers).Data); err != nil || r.Seq == 0 {
			t.Fatalf("got %+v, %v, want the message stored", r, err)
		}
	}
	if err := paused.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	owned(t, s, s.Instance(), "paused") // when this is true, the paused instance has read all messages that waited for it
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for len(answers) > 0 {
		if r, err := proto.ParseReply((<-answers).Data); err == nil && r.Refusal != nil && !r.Refusal.Temporary() {
			t.Errorf("the paused instance answers %+v", r.Refusal)
		}
	}
}

// A message waits in instance a while instance b owns its partition and may have answered it. When
// instance a takes over the partition, it refuses the message as unavailable. Then the sender sends
// the message again.
func TestTakeOverRefusesMessagesThatOthersMayHaveAnswered(t *testing.T) {
	srv := startNATS(t, true)
	a, _ := startService(t, srv, keepAll)
	b, stopB := startService(t, srv, keepAll)
	natstest.Eventually(t, "both to have a share", func() bool {
		return a.owner.Held()+b.owner.Held() == proto.Partitions && b.owner.Held() > 0
	})
	nc := srv.Connect(t)
	kept := 0
	answers := make(chan *nats.Msg, 64)
	inbox := nc.NewRespInbox()
	if _, err := nc.ChanSubscribe(inbox, answers); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		to := proto.MustRoom(room)
		p := a.parts[to.Partition()]
		if intake(b.parts[to.Partition()].intake.Load()) != serving {
			continue
		}
		// Give the partition the state of a partition whose fence this instance is about to take
		// from the owner.
		p.intake.Store(int32(acquiring))
		m := message(room, "u", "k", "hi")
		m.Reply = inbox
		p.offer(command{msg: m, reply: returnPath{subject: m.Reply}, to: to, since: time.Now().Add(time.Minute)}) // in the future, so that the command does not expire
		kept++
	}
	if kept == 0 {
		t.Fatal("b owns none of the rooms")
	}
	stopB()
	natstest.Eventually(t, "a to own all", func() bool { return a.owner.Held() == proto.Partitions })
	for range kept {
		r, err := proto.ParseReply((<-answers).Data)
		if err != nil || r.Refusal == nil || r.Refusal.Code != proto.Unavailable {
			t.Errorf("got %+v, %v, want unavailable", r, err)
		}
	}
	for _, room := range rooms {
		if n := len(readLog(t, srv, proto.MustRoom(room))); n != 0 {
			t.Errorf("%s has %d records, want none", room, n)
		}
	}
}

// The owner does not store a message that has waited so long that its sender has given up.
// Otherwise the log could have the message after the sender's next message.
func TestLateMessageIsNotStored(t *testing.T) {
	const late = 1100 * time.Millisecond
	refused := func(t *testing.T, reply []byte) {
		t.Helper()
		r, err := proto.ParseReply(reply)
		if err != nil || r.Refusal == nil || !r.Refusal.Temporary() {
			t.Errorf("got %+v, %v, want a refusal for now", r, err)
		}
	}
	srv := startNATS(t, true)
	s, stop := startService(t, srv)
	defer stop()
	natstest.Eventually(t, "all partitions", func() bool { return s.owner.Held() == proto.Partitions })
	nc := srv.Connect(t)
	inbox, err := nc.SubscribeSync(nc.NewRespInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Run("in the queue", func(t *testing.T) {
		to := proto.MustRoom("lobby")
		m := message("lobby", "u", "k", "hi")
		m.Reply = inbox.Subject
		s.parts[to.Partition()].offer(command{msg: m, reply: returnPath{subject: m.Reply}, to: to, since: time.Now().Add(-late)})
		got, err := inbox.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, got.Data)
	})
	t.Run("while its room is read", func(t *testing.T) {
		for range cap(s.readers) {
			s.readers <- struct{}{}
		}
		m := message("lobby", "u", "k", "hi")
		m.Reply = inbox.Subject
		sent := time.Now()
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, "the message to be late", func() bool { return time.Since(sent) > late })
		for range cap(s.readers) {
			<-s.readers
		}
		got, err := inbox.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, got.Data)
	})
	if n := len(readLog(t, srv, proto.MustRoom("lobby"))); n != 0 {
		t.Errorf("the lobby has %d records, want none", n)
	}
}

// An owner that cannot renew its lease does not answer from memory. It does not answer that a room
// is closed, or that a message is stored already, because another instance may have changed that.
func TestOwnerWithoutLeaseDoesNotAnswerFromMemory(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv)
	defer stop()
	natstest.Eventually(t, "all partitions", func() bool { return s.owner.Held() == proto.Partitions })
	nc := srv.Connect(t)
	say(t, nc, "hall", "u", "k", "hi")
	act := message("lobby", "mod", "c", "")
	act.Header.Set(proto.HeaderKind, string(proto.ActClose))
	if r := ask(t, nc, act); r.Refusal != nil {
		t.Fatal(r.Refusal)
	}
	leases := "KV_" + proto.LeaseBucket
	natstest.LimitMessages(t, nc, leases, 1) // a lease has more than one byte
	natstest.Eventually(t, "the lease to run out", func() bool { return !s.owner.Trusted() })
	for room, key := range map[string]string{"lobby": "x", "hall": "k"} {
		if r := say(t, nc, room, "u", key, "hi"); r.Refusal == nil || r.Refusal.Code != proto.Unavailable {
			t.Errorf("%s without a lease: got %+v, want unavailable", room, r)
		}
	}
	natstest.LimitMessages(t, nc, leases, -1)
	natstest.Eventually(t, "a lease and the partitions", func() bool { return s.owner.Trusted() && s.owner.Held() == proto.Partitions })
	natstest.Eventually(t, "the duplicate", func() bool { return say(t, nc, "hall", "u", "k", "hi").Duplicate })
	natstest.Eventually(t, "that the room is closed", func() bool {
		r := say(t, nc, "lobby", "u", "x", "hi")
		return r.Refusal != nil && r.Refusal.Code == proto.RoomClosed
	})
}
