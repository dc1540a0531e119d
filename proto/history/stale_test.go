package history_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/natstest"
)

// forward passes requests on the subject from one server to another. Front and back are connections
// to these servers.
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

// bare starts a server that has no stream, and returns a connection to it.
func bare(t *testing.T) *nats.Conn {
	t.Helper()
	return natstest.Start(t, func(o *server.Options) { o.JetStream = false }).Connect(t)
}

// inFrontOf starts a server that has no stream, and returns a connection to it. The server passes
// requests for the stream's leader to one server, and requests that any replica answers to another.
func inFrontOf(t *testing.T, leader, follower *historytest.Server) *nats.Conn {
	t.Helper()
	front := bare(t)
	forward(t, front, leader.Conn(), "$JS.API.STREAM.MSG.GET."+proto.StreamName)
	forward(t, front, leader.Conn(), "$JS.API.STREAM.INFO."+proto.StreamName)
	forward(t, front, follower.Conn(), "$JS.API.DIRECT.GET."+proto.StreamName)
	forward(t, front, follower.Conn(), "$JS.API.DIRECT.GET."+proto.StateStream)
	return front
}

// Two streams with the same records play the leader and an outdated follower.
func TestStaleFollowerIsAskedAgain(t *testing.T) {
	leader, follower := historytest.Start(t, 1000), historytest.Start(t, 1000)
	room, behind := leader.Room("lobby", "e1"), follower.Room("lobby", "e1")
	room.Append(150)
	behind.Append(140)
	log := history.New(inFrontOf(t, leader, follower), nil)

	p, err := log.Read(t.Context(), history.Query{Room: room.Name, Since: 120, HasSince: true, Limit: 256})
	check(t, "nobody knows of more", p, err, 121, 140)
	for _, since := range []uint64{0, 120, 139, 140, 149} {
		p, err = log.Read(t.Context(), history.Query{Room: room.Name, Since: since, HasSince: true, Limit: 256, Reach: 150})
		check(t, fmt.Sprintf("since %d, known to reach 150", since), p, err, since+1, 150)
	}
	p, err = log.Read(t.Context(), history.Query{Room: room.Name, Since: 145, HasSince: true, Epoch: "e1"})
	check(t, "since beyond what the follower has", p, err, 146, 150)
	if p.Gap != nil {
		t.Errorf("a stale follower looks like a reset: %+v", p.Gap)
	}
	if last, _, err := log.Last(t.Context(), room.Name); err != nil || last.Seq != 150 {
		t.Errorf("last: %d, %v", last.Seq, err)
	}
	if heads, err := log.Heads(t.Context(), []proto.Room{room.Name}); err != nil || heads[room.Name].Seq != 140 {
		t.Errorf("heads are read from any replica: %+v, %v", heads, err)
	}
}

// A follower has other records than the leader, with the same seqs. A reader that has received the
// records of the leader gets no reset.
func TestForkedFollowerCausesNoReset(t *testing.T) {
	leader, follower := historytest.Start(t, 1000), historytest.Start(t, 1000)
	room, fork := leader.Room("lobby", "e1"), follower.Room("lobby", "e1")
	fork.Begin = fork.Begin.Add(time.Minute)
	room.Append(150)
	fork.Append(150)
	log := history.New(inFrontOf(t, leader, follower), nil)
	for _, since := range []uint64{1, 64, 120, 149} {
		q := history.Query{Room: room.Name, Since: since, HasSince: true, Limit: 256, Epoch: "e1", At: room.Begin.Add(time.Duration(since) * time.Millisecond)}
		p, err := log.Read(t.Context(), q)
		check(t, fmt.Sprintf("since %d", since), p, err, since+1, 150)
		if p.Gap != nil {
			t.Errorf("since %d: got the gap %+v", since, p.Gap)
		}
		for _, r := range p.Records {
			if want := room.Begin.Add(time.Duration(r.Seq) * time.Millisecond); !r.State.At.Equal(want) {
				t.Fatalf("since %d: record %d has the time %v, want that of the leader, %v", since, r.Seq, r.State.At, want)
			}
		}
		q.At = q.At.Add(time.Hour) // now the leader contradicts q too
		if p, err := log.Read(t.Context(), q); err != nil || p.Gap == nil || p.Gap.Reason != proto.GapReset {
			t.Errorf("since %d at another time: got %+v, %v, want a reset", since, p.Gap, err)
		}
	}
}

// A leader that is cut off from the other replicas may lack the newest records. If a reader has
// received these records, its read must wait until a majority of the replicas follows the leader
// again.
func TestReadWaitsForALeaderWithFollowersBeforeAReset(t *testing.T) {
	old := historytest.Start(t, 1000)
	room := old.Room("lobby", "e1")
	room.Append(140)
	front := bare(t)
	forward(t, front, old.Conn(), "$JS.API.STREAM.MSG.GET."+proto.StreamName)
	forward(t, front, old.Conn(), "$JS.API.DIRECT.GET."+proto.StreamName)
	forward(t, front, old.Conn(), "$JS.API.DIRECT.GET."+proto.StateStream)
	silence := atomic.Int64{} // how long both followers have not answered
	silence.Store(int64(9 * time.Second))
	asked := make(chan struct{}, 100)
	if _, err := front.Subscribe("$JS.API.STREAM.INFO."+proto.StreamName, func(m *nats.Msg) {
		info := fmt.Sprintf(`{"cluster":{"replicas":[{"current":false,"active":%d},{"current":true,"active":%[1]d}]}}`, silence.Load())
		if err := m.Respond([]byte(info)); err != nil {
			t.Error(err)
		}
		asked <- struct{}{}
	}); err != nil {
		t.Fatal(err)
	}
	log := history.New(front, nil)
	var p history.Page
	read := make(chan error)
	go func() {
		var err error
		p, err = log.Read(t.Context(), history.Query{Room: room.Name, Since: 145, HasSince: true, Epoch: "e1"})
		read <- err
	}()
	for range 3 {
		select {
		case <-asked:
		case err := <-read:
			t.Fatalf("got %+v, %v from a leader without followers, want no answer", p, err)
		}
	}
	silence.Store(int64(time.Second))
	if err := <-read; err != nil || p.Gap == nil || p.Gap.Reason != proto.GapReset {
		t.Errorf("got %+v, %v from a leader with followers, want a reset", p.Gap, err)
	}
}

// While an answer is still arriving, Read does not repeat its request. Otherwise an answer over
// a slow link would never be complete.
func TestReadWaitsForASlowAnswer(t *testing.T) {
	behind := historytest.Start(t, 1000)
	room := behind.Room("lobby", "e1")
	room.Append(6)
	front, back := bare(t), behind.Conn()
	subject, asked := "$JS.API.DIRECT.GET."+proto.StreamName, atomic.Int32{}
	slowly := make(chan *nats.Msg, 64)
	defer close(slowly)
	go func() {
		for m := range slowly {
			if err := front.PublishMsg(m); err != nil {
				t.Error(err)
			}
			time.Sleep(300 * time.Millisecond) // the link is slow
		}
	}()
	returns := back.NewInbox() + "."
	if _, err := back.Subscribe(returns+">", func(m *nats.Msg) {
		m.Subject = m.Subject[len(returns):]
		slowly <- m
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := front.Subscribe(subject, func(m *nats.Msg) {
		asked.Add(1)
		if err := back.PublishRequest(subject, returns+m.Reply, m.Data); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	p, err := history.New(front, nil).Read(t.Context(), history.Query{Room: room.Name, HasSince: true})
	check(t, "over a slow link", p, err, 1, 6)
	if n := asked.Load(); n != 2 {
		t.Errorf("Read asked %d times, want once for the head and once for the page", n)
	}
}
