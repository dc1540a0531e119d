package history_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/natstest"
)

// A NATS server that is stopping has closed its files. It still knows the stream's state, and answers
// that a room has no records. A reader must not take this for the loss of the records. A server
// without records answers the requests for messages as a stopping server does.
func TestStoppingServerCausesNoReset(t *testing.T) {
	s, closed := historytest.Start(t, 1000), historytest.Start(t, 1000)
	room := s.Room("lobby", "e1")
	room.Append(10)
	front := bare(t)
	forward(t, front, s.Conn(), "$JS.API.STREAM.INFO."+proto.StreamName)
	for _, subject := range []string{"$JS.API.STREAM.MSG.GET." + proto.StreamName, "$JS.API.DIRECT.GET." + proto.StreamName, "$JS.API.DIRECT.GET." + proto.StateStream} {
		forward(t, front, closed.Conn(), subject)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	p, err := history.New(front, nil).Read(ctx, history.Query{Room: room.Name, Since: 8, HasSince: true, Epoch: "e1"})
	if err == nil {
		t.Fatalf("got the gap %+v from a server that is stopping, want an error", p.Gap)
	}
}

// A room is empty, and the stream's oldest message is damaged. The server then answers a request for
// that message as a stopping server does. The room must be readable within the time that a gateway
// waits for it.
func TestDamagedOldestMessageKeepsNoEmptiedRoomUnreadable(t *testing.T) {
	s := historytest.Start(t, 1000)
	other, room := s.Room("noise", "e2"), s.Room("lobby", "e1")
	other.Append(3)
	room.Append(3)
	natstest.Purge(t, s.Conn(), proto.StreamName, room.Name.LogSubject())
	s.Stop()
	s.Store().Flip(proto.StreamName, `\{"room":"noise","seq":1,`)
	s.Restart()
	nc := s.Conn()
	m, err := nc.Request("$JS.API.STREAM.MSG.GET."+proto.StreamName, []byte(`{"seq":1}`), 5*time.Second)
	if err != nil || !strings.Contains(string(m.Data), `"err_code":10037`) {
		t.Fatalf("got the oldest message, want that it is damaged (%v)", err)
	}
	log := history.New(nc, nil)
	log.Owners = true
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	p, err := log.Read(ctx, history.Query{Room: room.Name, Since: 3, HasSince: true, Epoch: "e1"})
	if err != nil || p.Gap == nil || p.Gap.Reason != proto.GapReset {
		t.Errorf("got the gap %+v, %v, want a reset", p.Gap, err)
	}
}
