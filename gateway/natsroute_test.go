package main

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// A NATS server that hears nothing from another one closes its routes before their buffers
// fill, which would hold up its clients, and is connected again soon after the cut.
func TestRoutesOfASilentServerAreClosedAndComeBack(t *testing.T) {
	shippedPasswords(t)
	start := func(name string, routes []*url.URL) *natsserver.Server {
		t.Setenv("NATS_SERVER_NAME", name)
		opts, err := natsserver.ProcessConfigFile("../scripts/nats-cluster.conf")
		if err != nil {
			t.Fatal(err)
		}
		opts.Cluster.Host, opts.Cluster.Port, opts.Routes, opts.JetStream = "127.0.0.1", -1, routes, false
		return startServer(t, opts)
	}
	one := start("n1", nil)
	between := newCable(t, one.ClusterAddr().String())
	two := start("n2", []*url.URL{{Scheme: "nats-route", User: url.UserPassword("route", "right-ROUTE"), Host: between.addr}})

	wait := func(what string, within time.Duration, connected bool) {
		t.Helper()
		for begun := time.Now(); (one.NumRoutes() > 0) != connected || (two.NumRoutes() > 0) != connected; time.Sleep(20 * time.Millisecond) {
			if time.Since(begun) > within {
				t.Fatalf("%s: after %v the servers have %d and %d routes", what, within, one.NumRoutes(), two.NumRoutes())
			}
		}
	}
	wait("start", 10*time.Second, true)
	between.silence(true)
	wait("cut", 15*time.Second, false)
	between.silence(false)
	wait("end of the cut", 15*time.Second, true)
}

// cable passes on what goes between two servers, or keeps it to itself while it is silent.
type cable struct {
	addr string

	mu   sync.Mutex // held while the cable is silent
	dumb bool       // mu is held; owned by the test
}

func newCable(t *testing.T, to string) *cable {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{addr: ln.Addr().String()}
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		c.silence(false)
		tasks.Wait()
	})
	pass := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			c.mu.Lock() // waits until the cable speaks
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}
	tasks.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			tasks.Go(func() { pass(in, out) })
			tasks.Go(func() { pass(out, in) })
		}
	})
	return c
}

func (c *cable) silence(on bool) {
	if on == c.dumb {
		return
	}
	if c.dumb = on; on {
		c.mu.Lock()
	} else {
		c.mu.Unlock()
	}
}
