package service

import (
	"fmt"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// modes runs a test twice: with and without a NATS account that maps the subjects of rooms to
// partitions.
func modes(t *testing.T, test func(t *testing.T, mapped bool)) {
	for _, mapped := range []bool{true, false} {
		t.Run(fmt.Sprintf("mapped=%v", mapped), func(t *testing.T) { test(t, mapped) })
	}
}

var rooms = []string{"a", "b", "c", "d", "e", "f", "g", "h", "聊天室1", "lobby"}

// keepAll sets a limit of messages per room that no test reaches.
func keepAll(c *Config) { c.HistoryPerRoom = 1 << 20 }

func TestKeyIsRecognisedByTheNextOwner(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		nc := srv.Connect(t)
		_, stop := startService(t, srv)
		first := map[string]proto.Reply{}
		for _, room := range rooms {
			for i := range 300 { // more than one page of the log
				say(t, nc, room, "u", fmt.Sprint(i), "text")
			}
			first[room] = say(t, nc, room, "u", "key", "text")
		}
		second, stopSecond := startService(t, srv)
		defer stopSecond()
		stop()
		natstest.Eventually(t, "the next owner", func() bool { return second.owner.Held() == proto.Partitions })
		for _, room := range rooms {
			for range 2 {
				want := first[room]
				want.Duplicate = true
				if got := say(t, nc, room, "u", "key", "text"); got != want {
					t.Errorf("%s: got %+v, want %+v", room, got, want)
				}
			}
			if got := say(t, nc, room, "u", "0", "text"); got.Seq != 1 || !got.Duplicate {
				t.Errorf("%s: the first key: got %+v, want a duplicate of 1", room, got)
			}
			if got := say(t, nc, room, "u", "next", "text"); got.Seq != first[room].Seq+1 || got.Duplicate {
				t.Errorf("%s: got %+v, want seq %d", room, got, first[room].Seq+1)
			}
		}
	})
}

func TestInstancesComeAndGo(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		a, stopA := startService(t, srv, keepAll)
		c := startSenders(t, srv, 20, rooms...)
		c.waitAcks(t, 500)
		c.longest()

		b, stopB := startService(t, srv, keepAll)
		natstest.Eventually(t, "the partitions to be shared", func() bool {
			return a.owner.Held()+b.owner.Held() == proto.Partitions && a.owner.Held() > 15 && b.owner.Held() > 15
		})
		c.waitAcks(t, 500)
		t.Logf("b joins: longest wait for an ack %s", c.longest())

		stopA()
		c.waitAcks(t, 500)
		t.Logf("a leaves: longest wait for an ack %s", c.longest())
		if b.owner.Held() != proto.Partitions {
			t.Errorf("b owns %d partitions, want all", b.owner.Held())
		}

		_, stopC := startService(t, srv, keepAll)
		_, stopD := startService(t, srv, keepAll)
		c.waitAcks(t, 500)
		stopB()
		stopC()
		c.waitAcks(t, 500)
		c.check(t, srv)
		stopD()
	})
}

func TestHandOverDoesNotWaitForALease(t *testing.T) {
	srv := startNATS(t, true)
	const lease = 20 * time.Second
	long := func(c *Config) { c.Lease = lease }
	_, stop := startService(t, srv, keepAll, long)
	c := startSenders(t, srv, 20, rooms...)
	c.waitAcks(t, 1200)
	c.longest()
	for range 3 {
		_, next := startService(t, srv, keepAll, long)
		c.waitAcks(t, 200)
		stop()
		c.waitAcks(t, 200)
		stop = next
	}
	if p := c.longest(); p >= lease/2 {
		t.Errorf("a sender waited %s during a hand-over, want much less than the lease of %s", p, lease)
	} else {
		t.Logf("a sender waited at most %s", p)
	}
	c.check(t, srv)
	stop()
}

func TestClosedRoomStaysClosedWhileInstancesChange(t *testing.T) {
	srv := startNATS(t, true)
	_, stop := startService(t, srv, keepAll)
	nc := srv.Connect(t)
	for round := range 5 {
		room := fmt.Sprintf("room%d", round)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				got, err := nc.RequestMsg(message(room, "u", fmt.Sprintf("0-%d", i), "x"), 300*time.Millisecond)
				if err != nil {
					i--
					continue
				}
				if r, _ := proto.ParseReply(got.Data); r.Refusal != nil && r.Refusal.Code == proto.RoomClosed {
					return
				} else if r.Refusal != nil {
					i--
				}
			}
		}()
		say(t, nc, room, "w", "w", "x")
		_, next := startService(t, srv, keepAll)
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		var closed proto.Reply
		natstest.Eventually(t, "the close to be acknowledged", func() bool {
			msg := message(room, "mod", "close", "enough")
			msg.Header.Set(proto.HeaderKind, string(proto.ActClose))
			got, err := nc.RequestMsg(msg, 300*time.Millisecond)
			if err == nil {
				closed, err = proto.ParseReply(got.Data)
			}
			return err == nil && closed.Refusal == nil
		})
		<-done
		<-stopped
		records := readLog(t, srv, proto.MustRoom(room))
		if last := records[len(records)-1]; last.Seq != closed.Seq || last.Kind != proto.Closed {
			t.Errorf("%s was closed at seq %d, and the log ends with %d %q", room, closed.Seq, last.Seq, last.Kind)
		}
		stop = next
	}
	stop()
}
