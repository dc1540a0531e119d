package bridge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are what the bridge counts, safe for concurrent use.
type counters struct {
	resends  atomic.Uint64
	expired  atomic.Uint64
	holes    atomic.Uint64
	repairs  atomic.Uint64
	repeats  atomic.Uint64
	gaps     atomic.Uint64
	drops    atomic.Uint64
	refused  atomic.Uint64
	bad      atomic.Uint64
	damaged  atomic.Uint64
	lost     atomic.Uint64
	checks   atomic.Uint64
	reads    atomic.Uint64
	shared   atomic.Uint64
	followed atomic.Int64
}

// metric is one figure: how it is described and where it is read.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(b *Bridge) float64
}

func counter(name, help string, of func(*counters) *atomic.Uint64) metric {
	return metric{
		prometheus.NewDesc("roomcast_bridge_"+name, help, nil, nil), prometheus.CounterValue,
		func(b *Bridge) float64 { return float64(of(b.stat).Load()) },
	}
}

func gauge(name, help string, read func(b *Bridge) float64) metric {
	return metric{prometheus.NewDesc("roomcast_bridge_"+name, help, nil, nil), prometheus.GaugeValue, read}
}

var metrics = []metric{
	gauge("rooms_followed", "Rooms whose records arrive here.", func(b *Bridge) float64 { return float64(b.stat.followed.Load()) }),
	gauge("requests_in_flight", "Messages that roomsvc has not answered yet.", func(b *Bridge) float64 { return float64(b.lanes.held.Load()) }),
	counter("resends_total", "Requests that were sent again.", func(c *counters) *atomic.Uint64 { return &c.resends }),
	counter("expired_total", "Requests that were not answered in time.", func(c *counters) *atomic.Uint64 { return &c.expired }),
	counter("repeats_total", "Records that arrived again and were dropped.", func(c *counters) *atomic.Uint64 { return &c.repeats }),
	counter("holes_total", "Times that a record arrived before the one it follows.", func(c *counters) *atomic.Uint64 { return &c.holes }),
	counter("repairs_total", "Pages read from the log to fill holes.", func(c *counters) *atomic.Uint64 { return &c.repairs }),
	counter("gaps_total", "Holes that could not be filled and were announced.", func(c *counters) *atomic.Uint64 { return &c.gaps }),
	counter("drops_total", "Times that NATS messages were dropped because they came faster than they were taken.", func(c *counters) *atomic.Uint64 { return &c.drops }),
	counter("bad_records_total", "Republished messages that are no records, or cannot be opened.", func(c *counters) *atomic.Uint64 { return &c.bad }),
	counter("lost_rooms_total", "Times that the members of a room were told that this gateway cannot read it on.", func(c *counters) *atomic.Uint64 { return &c.lost }),
	counter("damaged_records_total", "Times that a read found a record which the store cannot read, at most one a minute.", func(c *counters) *atomic.Uint64 { return &c.damaged }),
	counter("lost_ends_total", "Times that the log did not hold what the members of a room had been shown, in one epoch.", func(c *counters) *atomic.Uint64 { return &c.lost }),
	counter("checked_rooms_total", "Rooms whose newest record was compared with the log's.", func(c *counters) *atomic.Uint64 { return &c.checks }),
	counter("reads_total", "Pages of history that were asked for.", func(c *counters) *atomic.Uint64 { return &c.reads }),
	counter("shared_reads_total", "Of these, those answered by somebody else's equal read.", func(c *counters) *atomic.Uint64 { return &c.shared }),
	counter("refused_total", "Reads and signals refused because too much was waiting.", func(c *counters) *atomic.Uint64 { return &c.refused }),
}

// Describe implements [prometheus.Collector].
func (b *Bridge) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics {
		out <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (b *Bridge) Collect(out chan<- prometheus.Metric) {
	for _, m := range metrics {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.read(b))
	}
}
