package loop_test

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/loop"
)

// An adopted connection continues as if it had never been detached. The handler receives first
// its unused bytes and then the peer's next bytes. While the connection was detached, a deadline
// was set on the net.Conn. This deadline no longer applies.
func TestAdoptedConnectionContinues(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		outside, adopted := make(chan net.Conn, 1), make(chan loop.ID, 1)
		h := &script{}
		h.received = func(id loop.ID, p []byte) int {
			if strings.HasPrefix(string(p), "out\n") {
				nc, err := h.l.Detach(id)
				if err != nil {
					t.Error(err)
				}
				outside <- nc
				return 0
			}
			return h.l.Write(id, p)
		}
		addr := serve(t, cfg, h)
		for round := range 3 {
			c := dial(t, addr)
			r := bufio.NewReader(c)
			line := func(want string) {
				t.Helper()
				if got, err := r.ReadString('\n'); err != nil || got != want {
					t.Fatalf("got %q, %v, want %q", got, err, want)
				}
			}
			io.WriteString(c, "out\nunread\n")
			nc := <-outside
			first := make([]byte, len("out\n"))
			if _, err := io.ReadFull(nc, first); err != nil {
				t.Fatal(err)
			}
			io.WriteString(nc, "from outside\n")
			line("from outside\n")
			nc.SetReadDeadline(time.Now().Add(-time.Second))
			nc.SetDeadline(time.Time{})
			h.l.Post(func() {
				id, err := h.l.Adopt(nc, []byte("used by nobody\n"))
				if err != nil {
					t.Error(err)
				}
				adopted <- id
			})
			if id := <-adopted; id == 0 {
				t.Fatal("got no ID")
			}
			line("used by nobody\n")
			line("unread\n")
			echo(t, c, "and on\n")
			c.Close()
			eventually(t, "gone", func() bool { return len(h.goneErrors()) == 2*(round+1) })
		}
		errs := h.goneErrors()
		errs = slices.DeleteFunc(errs, func(err error) bool { return err == io.EOF })
		if len(errs) != 3 || slices.ContainsFunc(errs, func(err error) bool { return err != loop.ErrDetached }) {
			t.Errorf("got %v and 3 ends, want 3 times detached", errs)
		}
		open := make(chan int)
		h.l.Post(func() { open <- h.l.Stats().Open })
		if n := <-open; n != 0 {
			t.Errorf("got %d open connections, want none", n)
		}
	})
}
