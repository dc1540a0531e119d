package bridge_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// BenchmarkSay measures the time from a call of Say to its callback. The test's room service
// answers at once.
func BenchmarkSay(b *testing.B) {
	s := historytest.Start(b, 1000)
	o := own(b, s)
	o.end(b)
	answer := (&proto.Reply{Seq: 1}).AppendJSON(nil)
	if _, err := s.Conn().Subscribe(proto.SubjectAnyRoom, func(m *nats.Msg) { _ = m.Respond(answer) }); err != nil {
		b.Fatal(err)
	}
	g := open(b, s, "a")
	window := make(chan struct{}, 1000)
	for i := range cap(window) {
		g.say(text(proto.MustRoom("lobby"), fmt.Sprint(i), "hi"))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		window <- struct{}{}
		g.Say(text(proto.MustRoom("lobby"), fmt.Sprint(i%cap(window)), "hi"), func(proto.Reply) { <-window })
	}
	for range cap(window) {
		window <- struct{}{}
	}
}

// BenchmarkFollow measures how long it takes to follow a room when many rooms are followed at
// the same time.
func BenchmarkFollow(b *testing.B) {
	s := historytest.Start(b, 1000)
	own(b, s).end(b)
	g := open(b, s, "a")
	b.ResetTimer()
	var ready sync.WaitGroup
	for i := range b.N {
		ready.Add(1)
		g.Follow(proto.MustRoom(fmt.Sprint("room", i)), &g.follower, func(_ history.Head, err error) {
			if err != nil {
				b.Error(err)
			}
			ready.Done()
		})
	}
	ready.Wait()
}
