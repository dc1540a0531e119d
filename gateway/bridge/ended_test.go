package bridge_test

import (
	"testing"

	"roomcast/proto/history/historytest"
)

// A session or a request must not wait for a bridge that has ended.
func TestBridgeThatHasEndedRefusesTicketsAndKeys(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	g := open(t, s, "a")
	g.stop()
	refused := 0
	g.UseTicket("1", func(first bool, err error) {
		if first || err == nil {
			t.Errorf("use a ticket: got %v, %v, want an error", first, err)
		}
		refused++
	})
	g.RefreshKeys(func(err error) {
		if err == nil {
			t.Error("refresh the keys: got no error")
		}
		refused++
	})
	if refused != 2 {
		t.Errorf("%d of 2 requests were refused", refused)
	}
}
