package history_test

import (
	"context"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
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
