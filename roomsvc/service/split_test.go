package service

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/natstest"
)

// routes is a proxy for the routes (connections between NATS servers) that other servers open to
// one server. While the server at either end of a route is cut off, the proxy keeps the bytes of
// that route back.
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
	var dialer atomic.Int32 // number of the server that has opened the route, from the protocol message INFO; -1 = not known yet
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

// startSplitCluster runs three servers. The function cut cuts one off from the other two, or
// connects it again. Clients always reach all three.
func startSplitCluster(t *testing.T) (servers []*natstest.Server, cut func(i int, off bool)) {
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
	servers = natstest.Cluster(t, len(entries), func(o *server.Options) {
		o.Routes = nil
		for i, entry := range entries {
			if o.ServerName != fmt.Sprintf("n%d", i) {
				o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: entry.Addr().String()})
				continue
			}
			go (&routes{self: i, to: fmt.Sprintf("127.0.0.1:%d", o.Cluster.Port), cutOff: cutOff}).serve(entry)
			o.Cluster.Advertise = entry.Addr().String()
		}
		// As in scripts/nats-cluster.conf.
		o.Cluster.PingInterval, o.Cluster.MaxPingsOut, o.Cluster.WriteDeadline = 2*time.Second, 2, 2*time.Second
	})
	return servers, func(i int, off bool) { cutOff[i].Store(off) }
}

// dialTwo returns a dialer that opens the commit connection to one server, and all other
// connections to another server.
func dialTwo(main, commit *natstest.Server) daemon.Dialer {
	return func(name string, opts ...nats.Option) (*nats.Conn, error) {
		opts = append(opts, nats.IgnoreDiscoveredServers())
		if strings.HasSuffix(name, "/commit") {
			return commit.Dial(name, opts...)
		}
		return main.Dial(name, opts...)
	}
}

// The server that leads the log and JetStream is cut off from its peers. For a while it believes
// that it still leads. An instance commits over another server, but may read the outdated log of
// this server. It must not continue a room from that log. Otherwise two records could get the same
// seq.
func TestLogDoesNotForkInASplitNetwork(t *testing.T) {
	servers, cut := startSplitCluster(t)
	old := -1
	natstest.Eventually(t, "a leader of JetStream", func() bool {
		for i, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers) {
				old = i
			}
		}
		return old >= 0
	})
	one, two := servers[(old+1)%3], servers[(old+2)%3]
	replicated := func(main, commit *natstest.Server) func(*Config) {
		return func(c *Config) { keepAll(c); c.Replicas, c.Dial = 3, dialTwo(main, commit) }
	}
	a, _ := startService(t, two, replicated(servers[old], one))
	b, _ := startService(t, two, replicated(two, two))
	natstest.Eventually(t, "the partitions to be shared", func() bool {
		return a.owner.Held()+b.owner.Held() == proto.Partitions && a.owner.Held() > 0 && b.owner.Held() > 0
	})
	ncOld := servers[old].Connect(t)
	asked := time.Time{}
	natstest.Eventually(t, "the leader of JetStream to lead the log", func() bool {
		if time.Since(asked) > time.Second {
			asked = time.Now()
			body := fmt.Appendf(nil, `{"placement":{"preferred":"n%d"}}`, old)
			ncOld.Request("$JS.API.STREAM.LEADER.STEPDOWN."+proto.StreamName, body, 2*time.Second)
		}
		return leaderOf(t, ncOld, servers) == servers[old]
	})
	minority := startSendersAs(t, ncOld, 100, 10, time.Minute, rooms...)
	majority := startSendersAs(t, two.Connect(t), 0, 10, time.Minute, rooms...)
	minority.waitAcks(t, 100)
	majority.waitAcks(t, 100)

	cut(old, true)
	begun := time.Now()
	majority.waitAcks(t, 300) // the others have elected leaders
	natstest.Eventually(t, "the old leaders to step down", func() bool { return !servers[old].JetStreamIsLeader() && time.Since(begun) > 10*time.Second })
	cut(old, false)
	minority.waitAcks(t, 100)
	majority.waitAcks(t, 100)
	js, err := jetstream.New(two.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	minority.cancel()
	majority.cancel()
	natstest.Eventually(t, "the replicas to be equal", func() bool { // a consumer may read any of them
		log, err := js.Stream(t.Context(), proto.StreamName)
		if err != nil {
			return false
		}
		replicas := log.CachedInfo().Cluster.Replicas
		return len(replicas) == 2 && !slices.ContainsFunc(replicas, func(r *jetstream.PeerInfo) bool { return !r.Current || r.Lag > 0 })
	})
	majority.check(t, two)
	minority.check(t, two)
}
