package service

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/daemon"
)

// startCluster runs three servers that replicate to each other.
func startCluster(t testing.TB) []*server.Server {
	t.Helper()
	var routes []*url.URL
	ports := make([]int, 3)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = ln.Addr().(*net.TCPAddr).Port
		ln.Close()
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	// Each waits for the others: all are started before any is waited for.
	servers := make([]*server.Server, 3)
	for i := range servers {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}, Routes: routes, NoSigs: true, NoLog: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers[i] = s
	}
	for _, s := range servers {
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("a server does not start")
		}
	}
	return servers
}

func clusterDialer(servers []*server.Server) daemon.Dialer {
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	return func(name string, opts ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(strings.Join(urls, ","), append([]nats.Option{nats.Name(name), nats.MaxReconnects(-1),
			nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectBufSize(-1)}, opts...)...)
	}
}

// TestClusterLosesNothing has three replicas, two instances, and the stream's leader go
// away twice: once it hands over, once it stops.
func TestClusterLosesNothing(t *testing.T) {
	servers := startCluster(t)
	replicated := func(c *Config) {
		keepAll(c)
		c.Replicas = 3
		c.Dial = clusterDialer(servers)
	}
	a, stopA := startService(t, servers[0], replicated)
	b, stopB := startService(t, servers[0], replicated)
	nc, err := clusterDialer(servers)("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := singOver(t, nc, 20, rooms...)
	c.sung(t, 500)

	if _, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+proto.StreamName, nil, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	c.sung(t, 500)
	t.Logf("leader steps down: longest wait for an ack %s", c.longest())

	leader := leaderOf(t, nc, servers)
	leader.Shutdown()
	leader.WaitForShutdown()
	c.sung(t, 500)
	t.Logf("leader stops: longest wait for an ack %s", c.longest())
	wait(t, "both instances to be ready", func() bool { return a.Ready() == nil && b.Ready() == nil })
	for _, s := range servers {
		if s != leader {
			c.check(t, s)
			break
		}
	}
	stopA()
	stopB()
}

func leaderOf(t testing.TB, nc *nats.Conn, servers []*server.Server) *server.Server {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	wait(t, "a leader", func() bool {
		log, err := js.Stream(t.Context(), proto.StreamName)
		if err != nil || log.CachedInfo().Cluster == nil {
			return false
		}
		name = log.CachedInfo().Cluster.Leader
		return name != ""
	})
	for _, s := range servers {
		if s.Name() == name {
			return s
		}
	}
	t.Fatalf("no server is called %s", name)
	return nil
}
