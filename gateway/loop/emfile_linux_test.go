package loop_test

import (
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"roomcast/gateway/loop"
)

// While the process has no free descriptor, new connections wait in the backlog and open
// connections continue. As soon as descriptors are free, the loop accepts all waiting
// connections.
func TestAcceptingSurvivesALackOfDescriptors(t *testing.T) {
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
		tight.Cur = uint64(len(open)) - 1 + 3 // the listing itself used one descriptor
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
		for _, c := range conns[:accepted] { // each close frees a descriptor
			c.Close()
		}
		eventually(t, "the next accepted", func() bool { return len(h.goneErrors()) == accepted && len(h.conns()) > 0 })
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all accepted", func() bool { return len(h.conns()) == len(conns)-accepted })
		for _, c := range conns[accepted:] {
			echo(t, c, "at last")
		}
	})
}

// If no descriptor is free, Detach fails and the connection stays in the loop. Later the loop
// closes the connection's descriptor exactly once. The system reuses the numbers of descriptors.
// So a second close could close a descriptor of another part of the process.
func TestDetachWithoutDescriptorsClosesNothingElse(t *testing.T) {
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	h := &script{}
	failed := make(chan error, 1)
	other := make(chan int, 1) // receives a descriptor that another part of the process has opened
	h.received = func(id loop.ID, p []byte) int {
		if string(p) != "detach" {
			return h.l.Write(id, p)
		}
		_, err := h.l.Detach(id)
		fd, openErr := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if openErr != nil {
			fd = -1
		}
		other <- fd
		failed <- err
		return len(p)
	}
	addr := serve(t, cfg, h)
	c := dial(t, addr)
	echo(t, c, "attached")
	restore := exhaustDescriptors(t)
	c.Write([]byte("detach"))
	err, fd := <-failed, <-other
	if err == nil {
		t.Error("Detach found a descriptor, want an error")
	}
	echo(t, c, "still attached")
	c.Close()
	eventually(t, "gone", func() bool { return len(h.goneErrors()) == 1 })
	if fd >= 0 {
		if _, err := syscall.Dup(fd); err == syscall.EBADF {
			t.Errorf("the loop closed descriptor %d, which was not its own", fd)
		}
		syscall.Close(fd)
	}
	restore()
}

// exhaustDescriptors leaves the process without a free descriptor until restore is called
// or the test ends.
func exhaustDescriptors(t *testing.T) (restore func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	tight := before
	tight.Cur = 200
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	var taken []*os.File
	restore = sync.OnceFunc(func() {
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
		for _, f := range taken {
			f.Close()
		}
	})
	t.Cleanup(restore)
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			return restore
		}
		taken = append(taken, f)
	}
}
