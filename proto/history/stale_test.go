package history_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// forward has requests on the subject answered by another server.
func forward(t *testing.T, front, back *nats.Conn, subject string) {
	t.Helper()
	returns := back.NewInbox() + "."
	_, err := back.Subscribe(returns+">", func(m *nats.Msg) {
		m.Subject = m.Subject[len(returns):]
		if err := front.PublishMsg(m); err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		_, err = front.Subscribe(subject, func(m *nats.Msg) {
			if err := back.PublishRequest(subject, returns+m.Reply, m.Data); err != nil {
				t.Error(err)
			}
		})
	}
	if err == nil {
		err = front.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Two streams with the same records stand for the leader and a follower that is behind;
// a server without a stream asks the one or the other.
func TestStaleFollower(t *testing.T) {
	leader, follower := historytest.Start(t, 1000), historytest.Start(t, 1000)
	room, behind := leader.Room("lobby", "e1"), follower.Room("lobby", "e1")
	room.Append(150)
	behind.Append(140)

	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	front, err := nats.Connect(ns.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	forward(t, front, leader.Conn(), "$JS.API.STREAM.MSG.GET."+proto.StreamName)
	forward(t, front, follower.Conn(), "$JS.API.DIRECT.GET."+proto.StreamName)
	log := history.New(front, nil)

	p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 120, HasSince: true, Limit: 256})
	check(t, "nobody knows of more", p, err, 121, 140)
	for _, since := range []uint64{0, 120, 139, 140, 149} {
		p, err = log.Read(t.Context(), history.Query{Room: room.Name, Since: since, HasSince: true, Limit: 256, Reach: 150})
		check(t, fmt.Sprintf("since %d, known to reach 150", since), p, err, since+1, 150)
	}
	p, err = log.Read(t.Context(), history.Query{Room: room.Name, Since: 145, HasSince: true, Epoch: "e1"})
	check(t, "since beyond what the follower has", p, err, 146, 150)
	if p.Gap != nil {
		t.Errorf("a follower that is behind was taken for a reset: %+v", p.Gap)
	}
	if last, _, err := log.Last(t.Context(), room.Name); err != nil || last.Seq != 150 {
		t.Errorf("last: %d, %v", last.Seq, err)
	}
	if heads, err := log.Heads(t.Context(), []proto.Room{room.Name}); err != nil || heads[room.Name].Seq != 140 {
		t.Errorf("heads are read from any replica: %+v, %v", heads, err)
	}
}
