package ring

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// frame appends a frame with the given number of bytes.
func frame(r *Ring, f Frame, bytes int) {
	r.Append(f, func(b []byte) []byte { return append(b, make([]byte, bytes)...) })
}

// live returns a ring whose members have received all its frames.
func live(members int) *Ring {
	r := new(Ring)
	for slot := range members {
		r.members[r.Join(uint32(slot))].Cursor = r.Head()
	}
	return r
}

// Members may leave during a pass. The pass serves each remaining member exactly once.
func TestPassServesEveryMemberThatStaysOnce(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := live(20)
		frame(r, Frame{Seq: 1}, 10)
		pos := make(map[uint32]uint32) // positions of the members, by slot
		for i, m := range r.Members() {
			pos[m.Slot] = uint32(i)
		}
		served := make(map[uint32]int)
		for ended := false; !ended; {
			r.Begin()
			for steps := 1 + random.IntN(5); ; {
				m, to := r.Next(&steps)
				if m == nil {
					break
				}
				m.Cursor = to
				served[m.Slot]++
			}
			ended, _ = r.End()
			if len(pos) == 0 || ended {
				continue
			}
			slot := r.Members()[random.IntN(len(r.Members()))].Slot
			r.Leave(pos[slot], func(slot, at uint32) { pos[slot] = at })
			delete(pos, slot)
		}
		for slot, at := range pos {
			if r.Members()[at].Slot != slot {
				t.Fatalf("seed %d: position %d is not that of slot %d", seed, at, slot)
			}
			if served[slot] != 1 {
				t.Fatalf("seed %d: slot %d was served %d times", seed, slot, served[slot])
			}
		}
	}
}

func TestFindReturnsEventsInTheRingAndTheNextEvent(t *testing.T) {
	r := live(1)
	for seq := uint64(5); seq <= 8; seq++ {
		frame(r, Frame{Seq: seq}, 10)
		frame(r, Frame{Seq: seq, Ephemeral: true}, 3)
	}
	r.Drop(13) // drops event 5 and the ephemeral after it
	for seq, want := range map[uint64]string{4: "0 false", 5: "0 false", 6: "13 true", 8: "39 true", 9: "52 true", 10: "0 false"} {
		at, ok := r.Find(seq, 8)
		if got := fmt.Sprint(at, ok); got != want {
			t.Errorf("Find(%d): got %s, want %s", seq, got, want)
		}
	}
	for at, want := range map[uint64]uint64{13: 6, 23: 7, 26: 7, 52: 9} {
		if got := r.NextSeq(at, 8); got != want {
			t.Errorf("NextSeq(%d): got %d, want %d", at, got, want)
		}
	}
}

func TestRunsOmitFramesThatSkipTheMember(t *testing.T) {
	r := live(2)
	frame(r, Frame{Seq: 1}, 10)
	frame(r, Frame{Seq: 1, Ephemeral: true, Skip: 1 + 1}, 5)
	frame(r, Frame{Seq: 2}, 10)
	for slot, want := range []string{"[[0 25]]", "[[0 10] [15 25]]"} {
		var got [][2]uint64
		for from, to := range r.Runs(0, r.Head(), uint32(slot)) {
			got = append(got, [2]uint64{from, to})
		}
		if fmt.Sprint(got) != want {
			t.Errorf("slot %d: got %v, want %s", slot, got, want)
		}
	}
}
