package limit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roomcast/proto"
)

func TestResendsKeepTheOrder(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	busy := proto.Refuse(proto.Overloaded, "busy").After(100 * time.Millisecond)
	taken := func(r *Resends, key string, ms int) bool {
		if why := r.Check(key, at(ms)); why != nil {
			if why.Code != proto.Overloaded || why.Retry < busy.Retry || !strings.Contains(why.Message, "first send your earlier message") {
				t.Errorf("%s at %d ms: got %v after %v, want the refusal of the first", key, ms, why, why.Retry)
			}
			return false
		}
		r.Taken(key)
		return true
	}

	t.Run("later messages wait for the refused one, in order", func(t *testing.T) {
		var r Resends
		r.Refused("a", busy, at(0))
		for i, step := range []struct {
			key   string
			taken bool
		}{{"b", false}, {"c", false}, {"", false}, {"b", false}, {"a", true}, {"d", false}, {"c", false}, {"b", true}, {"c", true}, {"d", true}, {"e", true}, {"", true}} {
			if got := taken(&r, step.key, 100+i); got != step.taken {
				t.Errorf("step %d, %q: got taken %v, want %v", i, step.key, got, step.taken)
			}
		}
	})
	t.Run("the refused message may be refused again", func(t *testing.T) {
		var r Resends
		r.Refused("a", busy, at(0))
		taken(&r, "b", 1)
		r.Refused("a", busy, at(1000))
		if taken(&r, "b", 2500) || !taken(&r, "a", 2500) || !taken(&r, "b", 2500) {
			t.Error("a and b are not taken in order")
		}
	})
	t.Run("returned messages come first", func(t *testing.T) {
		var r Resends
		r.Refused("c", busy, at(0))
		taken(&r, "d", 1)
		r.Returned([]string{"a", "b", "c"}, busy, at(2))
		for _, key := range []string{"a", "b", "c", "d"} {
			if taken(&r, "z", 100) || !taken(&r, key, 100) {
				t.Errorf("%s is not the next one", key)
			}
		}
	})
	t.Run("a sender that does not send it again is not refused for ever", func(t *testing.T) {
		var r Resends
		r.Refused("a", busy, at(0))
		for ms := 1; ms < 2100; ms += 50 {
			if key := fmt.Sprint(ms); taken(&r, key, ms) {
				t.Errorf("%s was taken at %d ms", key, ms)
			}
		}
		if !taken(&r, "z", 2101) || !r.Empty(at(2101)) {
			t.Error("z is refused after 2.1 s")
		}
	})
	t.Run("a message without a key is not waited for", func(t *testing.T) {
		var r Resends
		r.Refused("", busy, at(0))
		if !taken(&r, "b", 1) {
			t.Error("b is refused")
		}
	})
	t.Run("remembered messages are bounded", func(t *testing.T) {
		var r Resends
		for i := range 3 * maxResends {
			r.Refused(fmt.Sprint(i), busy, at(0))
		}
		if len(r.waiting) != maxResends {
			t.Errorf("got %d, want %d", len(r.waiting), maxResends)
		}
		r.Returned([]string{"x"}, busy, at(0))
		if len(r.waiting) != maxResends || r.waiting[0].key != "x" {
			t.Errorf("got %d and %s first, want %d and x", len(r.waiting), r.waiting[0].key, maxResends)
		}
	})
}
