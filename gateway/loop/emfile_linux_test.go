package loop_test

import (
	"net"
	"os"
	"syscall"
	"testing"

	"roomcast/gateway/loop"
)

// When descriptors run out, connections wait in the backlog and those that are
// open go on; when there are descriptors again, all are accepted.
func TestAcceptingSurvivesWantOfDescriptors(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		loops, addr, err := loop.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var conns []*net.TCPConn
		for range 10 {
			conns = append(conns, dial(t, addr.String()))
		}
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		tight := before
		tight.Cur = uint64(len(open)) - 1 + 3 // one of them was the directory
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &tight); err != nil {
			t.Fatal(err)
		}
		defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)

		h := &script{}
		run(t, loops[0], h)
		eventually(t, "some accepted", func() bool { return len(h.conns()) > 0 })
		echo(t, conns[0], "while others wait")
		accepted := len(h.conns())
		if accepted == len(conns) {
			t.Fatal("descriptors did not run out")
		}
		for _, c := range conns[:accepted] { // makes room for as many
			c.Close()
		}
		eventually(t, "the next accepted", func() bool { return len(h.whys()) == accepted && len(h.conns()) > 0 })
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all accepted", func() bool { return len(h.conns()) == len(conns)-accepted })
		for _, c := range conns[accepted:] {
			echo(t, c, "at last")
		}
	})
}
