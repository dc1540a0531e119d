package service

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/daemon"
)

// routes carries the routes of one server to the others. While one end of a route is cut off, it
// keeps what the route carries.
type routes struct {
	self   int
	to     string // the server's real address
	cutOff *[3]atomic.Bool
}

func (r *routes) serve(ln net.Listener) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		go r.carry(in)
	}
}

func (r *routes) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer out.Close()
	var dialer atomic.Int32 // number of the server that has dialled, by its own words; -1 = not known
	dialer.Store(-1)
	var group sync.WaitGroup
	pass := func(from, to net.Conn, seen func([]byte)) {
		defer in.Close()
		defer out.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			seen(buf[:n])
			for other := dialer.Load(); r.cutOff[r.self].Load() || other >= 0 && r.cutOff[other].Load(); {
				time.Sleep(5 * time.Millisecond)
			}
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	group.Go(func() {
		pass(in, out, func(b []byte) {
			for i := int32(0); i < 3 && dialer.Load() < 0; i++ {
				if strings.Contains(string(b), fmt.Sprintf(`name":"n%d"`, i)) {
					dialer.Store(i)
				}
			}
		})
	})
	group.Go(func() { pass(out, in, func([]byte) {}) })
	group.Wait()
}

// startSplitCluster runs three servers. cut cuts one off from the other two, or joins it to them
// again; clients reach all of them.
func startSplitCluster(t *testing.T) (servers []*server.Server, cut func(i int, off bool)) {
	t.Helper()
	cutOff := new([3]atomic.Bool)
	var entries [3]net.Listener
	for i := range entries {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		entries[i] = ln
	}
	for i, entry := range entries {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		real := ln.Addr().(*net.TCPAddr)
		ln.Close()
		go (&routes{self: i, to: real.String(), cutOff: cutOff}).serve(entry)
		var others []*url.URL
		for j := range entries {
			if j != i {
				others = append(others, &url.URL{Scheme: "nats", Host: entries[j].Addr().String()})
			}
		}
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{
				Name: "test", Host: "127.0.0.1", Port: real.Port, Advertise: entry.Addr().String(),
				PingInterval: 2 * time.Second, MaxPingsOut: 2, WriteDeadline: 2 * time.Second, // as in scripts/nats-cluster.conf
			},
			Routes: others,
		})
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	for _, s := range servers {
		go s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	for _, s := range servers {
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("a server does not start")
		}
	}
	return servers, func(i int, off bool) { cutOff[i].Store(off) }
}

// dialTwo opens the commit connection to one server and all others to another.
func dialTwo(main, commit *server.Server) daemon.Dialer {
	return func(name string, opts ...nats.Option) (*nats.Conn, error) {
		s := main
		if strings.HasSuffix(name, "/commit") {
			s = commit
		}
		return nats.Connect(s.ClientURL(), append([]nats.Option{nats.Name(name), nats.MaxReconnects(-1), nats.IgnoreDiscoveredServers(),
			nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectBufSize(-1)}, opts...)...)
	}
}

// The server that leads the log and JetStream is cut off from its peers, and believes for a while
// that it still leads. An instance commits over another server, and must not continue a room from
// what the first one knows: the log would fork.
func TestLogDoesNotForkInASplitNetwork(t *testing.T) {
	servers, cut := startSplitCluster(t)
	old := -1
	wait(t, "a leader of JetStream", func() bool {
		for i, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers) {
				old = i
			}
		}
		return old >= 0
	})
	one, two := servers[(old+1)%3], servers[(old+2)%3]
	replicated := func(main, commit *server.Server) func(*Config) {
		return func(c *Config) { keepAll(c); c.Replicas, c.Dial = 3, dialTwo(main, commit) }
	}
	a, _ := startService(t, two, replicated(servers[old], one))
	b, _ := startService(t, two, replicated(two, two))
	wait(t, "the partitions to be shared", func() bool {
		return a.owner.Held()+b.owner.Held() == proto.Partitions && a.owner.Held() > 0 && b.owner.Held() > 0
	})
	ncOld := connect(t, servers[old])
	asked := time.Time{}
	wait(t, "the leader of JetStream to lead the log", func() bool {
		if time.Since(asked) > time.Second {
			asked = time.Now()
			body := fmt.Appendf(nil, `{"placement":{"preferred":"n%d"}}`, old)
			ncOld.Request("$JS.API.STREAM.LEADER.STEPDOWN."+proto.StreamName, body, 2*time.Second)
		}
		return leaderOf(t, ncOld, servers) == servers[old]
	})
	minority := singAs(t, ncOld, 100, 10, time.Minute, rooms...)
	majority := singAs(t, connect(t, two), 0, 10, time.Minute, rooms...)
	minority.sung(t, 100)
	majority.sung(t, 100)

	cut(old, true)
	begun := time.Now()
	majority.sung(t, 300) // the others have elected leaders
	wait(t, "the old leaders to step down", func() bool { return !servers[old].JetStreamIsLeader() && time.Since(begun) > 10*time.Second })
	cut(old, false)
	minority.sung(t, 100)
	majority.sung(t, 100)
	majority.check(t, two)
	minority.check(t, two)
}
