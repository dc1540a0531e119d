package service

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/natstest"
)

func clusterDialer(servers []*natstest.Server) daemon.Dialer {
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	return func(name string, opts ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(strings.Join(urls, ","), append([]nats.Option{nats.Name(name), nats.MaxReconnects(-1),
			nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectBufSize(-1)}, opts...)...)
	}
}

// The cluster has three replicas of the stream, and two instances of the service. The stream's
// leader changes twice: the first leader steps down, the second is stopped.
func TestClusterLosesNothing(t *testing.T) {
	servers := natstest.Cluster(t, 3)
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
	c := startSendersOver(t, nc, 20, rooms...)
	c.waitAcks(t, 500)

	if _, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+proto.StreamName, nil, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	c.waitAcks(t, 500)
	t.Logf("leader steps down: longest wait for an ack %s", c.longest())

	leader := leaderOf(t, nc, servers)
	leader.Shutdown()
	leader.WaitForShutdown()
	c.waitAcks(t, 500)
	t.Logf("leader stops: longest wait for an ack %s", c.longest())
	natstest.Eventually(t, "both instances to be ready", func() bool { return a.Ready() == nil && b.Ready() == nil })
	for _, s := range servers {
		if s != leader {
			c.check(t, s)
			break
		}
	}
	stopA()
	stopB()
}

func leaderOf(t testing.TB, nc *nats.Conn, servers []*natstest.Server) *natstest.Server {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	natstest.Eventually(t, "a leader", func() bool {
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
