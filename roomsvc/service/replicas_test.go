package service

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// An operator turns one server into a cluster of three. As the error of the service says, the
// operator changes only the replicas of the log. The service then gives its other stream and its
// buckets three replicas too. So the loss of any one server loses no data.
func TestFromOneReplicaToThree(t *testing.T) {
	servers := natstest.Cluster(t, 3)
	natstest.Eventually(t, "three peers", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	with := func(n int) func(*Config) {
		return func(c *Config) { keepAll(c); c.Replicas = n; c.Dial = clusterDialer(servers) }
	}
	_, stop := startService(t, servers[0], with(1))
	nc, err := clusterDialer(servers)("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	say(t, nc, "lobby", "u", "1", "hi")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	log, err := js.Stream(t.Context(), proto.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	cfg := log.CachedInfo().Config
	cfg.Replicas = 3
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	// The instance with the old setting still works meanwhile.
	askUntil(t, nc, message("lobby", "u", "2", "hi"), func(r proto.Reply) bool { return r.Refusal == nil })
	stop()

	a, _ := startService(t, servers[0], with(3))
	leader := ""
	for _, name := range []string{proto.StreamName, proto.StateStream, "KV_" + proto.SecretBucket, "KV_" + proto.LeaseBucket} {
		natstest.Eventually(t, "three current replicas of "+name, func() bool {
			s, err := js.Stream(t.Context(), name)
			if err != nil {
				return false
			}
			info := s.CachedInfo()
			if info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
				return false
			}
			leader = info.Cluster.Leader
			return info.Cluster.Replicas[0].Current && info.Cluster.Replicas[1].Current
		})
	}
	for _, s := range servers {
		if s.Name() == leader {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	natstest.Eventually(t, "an ack and a fresh lease without that server", func() bool {
		got, err := nc.RequestMsg(message("lobby", "u", "3", "hi"), time.Second)
		if err != nil {
			return false
		}
		r, err := proto.ParseReply(got.Data)
		return err == nil && r.Seq == 3 && a.owner.Trusted() && a.Ready() == nil
	})
}
