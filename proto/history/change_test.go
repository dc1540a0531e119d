package history

import (
	"testing"
	"time"

	"roomcast/proto"
)

// A snapshot from before version 0.2.0 has no times of edits.
func TestStubWithoutAKeptTimeHasTheTimeOfTheNextRecord(t *testing.T) {
	lobby, at := proto.MustRoom("lobby"), time.UnixMilli(1795000000123)
	limits := &proto.Restrictions{Deleted: map[uint64]proto.Stub{2: {Author: "ann"}, 3: {Author: "ann", At: at.UnixMilli() - 5}}}
	next := proto.Record{Room: lobby, Seq: 4, State: proto.State{Epoch: "e1", At: at}}
	records := withStubs([]proto.Record{next}, 1, limits)
	if len(records) != 3 {
		t.Fatalf("got %d records, want 3", len(records))
	}
	for i, want := range []time.Time{at, at.Add(-5 * time.Millisecond)} {
		e, err := proto.ParseEvent(records[i].Payload)
		if err != nil || !e.Removed || !e.At.Equal(want) || !records[i].State.At.Equal(want) {
			t.Errorf("got %s and %v, want the time %v (%v)", records[i].Payload, records[i].State.At, want, err)
		}
	}
}
