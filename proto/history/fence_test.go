package history_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/natstest"
)

// If an owner's marker was removed from the log, the owner must learn this at once. Waiting would
// not bring the marker back.
func TestRemovedMarkerVoidsTheFence(t *testing.T) {
	s := historytest.Start(t, 1000)
	room := s.Room("lobby", "e1")
	room.Append(3)
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	marker, err := js.Publish(t.Context(), proto.OwnSubject(room.Name.Partition()), []byte("me"))
	if err != nil {
		t.Fatal(err)
	}
	log := history.New(s.Conn(), nil)
	fence := history.Fence{Marker: marker.Sequence, Floor: marker.Sequence}
	if n, err := log.Newest(t.Context(), room.Name, fence); err != nil || n.Record.Seq != 3 {
		t.Fatalf("got seq %d, %v, want 3", n.Record.Seq, err)
	}
	natstest.Purge(t, s.Conn(), proto.StreamName, ">")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := log.Newest(ctx, room.Name, fence); !errors.Is(err, history.ErrGone) {
		t.Errorf("got %v, want %v", err, history.ErrGone)
	}
}
