package service

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// The stream of snapshots keeps one message per subject. This holds even if an instance dies before
// it has deleted a message that it has replaced.
func TestStateStreamKeepsOneMessagePerSubject(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	one := func(what string) {
		t.Helper()
		natstest.Eventually(t, what, func() bool {
			s, err := js.Stream(t.Context(), proto.StateStream)
			if err != nil {
				return false
			}
			info, err := s.Info(t.Context(), jetstream.WithSubjectFilter("room.state.>"))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range info.State.Subjects {
				if n != 1 {
					return false
				}
			}
			return len(info.State.Subjects) >= 2
		})
	}
	_, stop := startService(t, srv)
	lobby := proto.MustRoom("lobby")
	for range 3 {
		askUntil(t, nc, actOn("lobby", "mod", "", proto.ActClose), final)
		askUntil(t, nc, actOn("lobby", "mod", "", proto.ActReopen), final)
	}
	one("the owner to delete what it has replaced")
	stop()

	// Store the messages that an instance leaves if it dies at a bad moment: it has stored a
	// message, but has not deleted the previous one.
	states, err := js.Stream(t.Context(), proto.StateStream)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{lobby.StateSubject(), proto.StateOwnSubject(lobby.Partition()), proto.SubjectWitness} {
		last, err := states.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), subject, last.Data); err != nil {
			t.Fatal(err)
		}
	}
	_, stop = startService(t, srv)
	defer stop()
	askUntil(t, nc, message("lobby", "u", "1", "hi"), final)
	one("the next owner to delete what the first has left")
}
