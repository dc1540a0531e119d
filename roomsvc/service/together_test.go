package service

import (
	"log/slog"
	"testing"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// Several instances start at the same time in a new cluster. Each of them finds no streams, and
// tries to make them. An instance must not give up because another instance is just making a
// stream, and the stream cannot be opened yet.
func TestInstancesStartTogetherInANewCluster(t *testing.T) {
	servers := natstest.Cluster(t, 3)
	var instances []*Service
	for i := range 5 {
		cfg := DefaultConfig()
		cfg.Replicas, cfg.Events.Stream = 3, true
		cfg.Dial = clusterDialer(servers[i%3:])
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		instances = append(instances, s)
		natstest.Run(t, "the service", s.Run)
	}
	natstest.Eventually(t, "all instances to be ready", func() bool {
		held := 0
		for _, s := range instances {
			if s.Ready() == nil {
				held += s.owner.Held()
			}
		}
		return held == proto.Partitions
	})
}
