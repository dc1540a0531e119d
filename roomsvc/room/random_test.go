package room

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"roomcast/proto"
)

// TestRandomHistories applies random commands, resends, jumps of the clock, lost commits and
// changes of the owner. Then it checks the log: seqs have no holes, times never go back, no key
// is stored twice within the window, and a closed room stores no message.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		rules := DefaultRules()
		rules.Keys = 50
		room := New(proto.MustRoom("lobby"), rules)
		now := time.Unix(1_700_000_000, 0)
		var log []*proto.Record
		acked := map[string]uint64{}
		said := map[string]int{} // number of keys that each sender has used
		for range 400 {
			now = now.Add(time.Duration(r.IntN(200)-20) * time.Millisecond)
			from := fmt.Sprint("u", r.IntN(3))
			c := Command{Request: proto.Request{From: proto.Identity{ID: from}, Rights: proto.AllRights, Content: proto.Content{Kind: proto.Text, Body: []byte("x")}}}
			switch n := r.IntN(20); {
			case n == 0:
				c.Act = proto.ActClose
			case n <= 2:
				c.Act = proto.ActReopen
			case n == 3: // the owner changes, perhaps before it has committed the last record
				if len(log) > 0 && r.IntN(2) == 0 {
					lost := log[len(log)-1]
					log = log[:len(log)-1]
					delete(acked, lost.From+" "+lost.Key)
				}
				room = New(proto.MustRoom("lobby"), rules)
				if len(log) > 0 {
					room = Restore(log[len(log)-1], rules)
				}
				for _, rec := range log {
					room.Remember(rec, now, now.Sub(rec.State.At))
				}
				continue
			case n < 10 && said[from] > 0: // the sender resends one of its last ten messages
				c.Key = fmt.Sprint(said[from] - r.IntN(min(10, said[from])))
			default:
				said[from]++
				c.Key = fmt.Sprint(said[from])
			}
			c.Digests = []proto.Digest{{1}}
			o := room.Apply(&c, Moment{Now: now, Stream: uint64(len(log))})
			id := from + " " + c.Key
			first, stored := acked[id]
			switch {
			case c.Act == "" && stored && (!o.Reply.Duplicate || o.Reply.Seq != first):
				t.Fatalf("seed %d: %s came again and got %+v, want a duplicate of %d", seed, id, o.Reply, first)
			case o.Record == nil:
				continue
			}
			if o.Record.Seq != uint64(len(log)+1) || o.Reply.Seq != o.Record.Seq {
				t.Fatalf("seed %d: record %d follows %d", seed, o.Record.Seq, len(log))
			}
			if len(log) > 0 {
				last := log[len(log)-1]
				if o.Record.State.At.Before(last.State.At) {
					t.Fatalf("seed %d: time goes backwards at %d", seed, o.Record.Seq)
				}
				if last.State.Closed && o.Record.Kind != proto.Reopened {
					t.Fatalf("seed %d: record %d in a closed room", seed, o.Record.Seq)
				}
				if o.Record.State.Epoch != last.State.Epoch || o.Record.State.Start < last.State.Start {
					t.Fatalf("seed %d: state %+v follows %+v", seed, o.Record.State, last.State)
				}
			}
			log = append(log, o.Record)
			if c.Key != "" {
				acked[id] = o.Record.Seq
			}
		}
	}
}
