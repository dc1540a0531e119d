package bridge_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"roomcast/gateway/bridge"
	"roomcast/proto"
	"roomcast/proto/history/historytest"
)

func TestMicroServiceAndMetrics(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	a := open(t, s, "a", func(c *bridge.Config) {
		c.Version = "1.2.3"
		c.Stats = func() any { return map[string]int{"sockets": 7} }
	})
	a.follow(t, proto.MustRoom("lobby"))
	if r := a.say(text(proto.MustRoom("lobby"), "alice", "hi")); r.Seq != 1 {
		t.Fatalf("reply: %+v", r)
	}
	nc := s.Conn()
	ask := func(subject string, into any) {
		t.Helper()
		var data []byte
		eventually(t, "an answer on "+subject, func() bool {
			m, err := nc.Request(subject, nil, time.Second)
			if err == nil {
				data = m.Data
			}
			return err == nil
		})
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
	}
	var info struct {
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []struct{ Name, Subject string }
	}
	ask("$SRV.INFO.gateway", &info)
	if info.Version != "1.2.3" || info.Metadata["instance"] != "a" || len(info.Endpoints) != 1 || info.Endpoints[0].Subject != "gateway.a.status" {
		t.Errorf("info: %+v", info)
	}
	var status struct {
		Ready bool           `json:"ready"`
		Rooms int            `json:"rooms"`
		Stats map[string]int `json:"stats"`
	}
	ask("gateway.a.status", &status)
	if !status.Ready || status.Rooms != 1 || status.Stats["sockets"] != 7 {
		t.Errorf("status: %+v", status)
	}

	if got := metric(t, a, "rooms_followed"); got != 1 {
		t.Errorf("rooms_followed %v, want 1", got)
	}
}

// metric returns the value of a metric that Prometheus would receive.
func metric(t *testing.T, g *gateway, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g.Bridge)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if m := f.Metric[0]; f.GetName() == "roomcast_bridge_"+name {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
