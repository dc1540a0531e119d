package bridge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is one metric: its description, and a function that reads its value.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(b *Bridge) float64
}

func counter(name, help string, of func(*Bridge) *atomic.Uint64) metric {
	return metric{
		prometheus.NewDesc("roomcast_bridge_"+name, help, nil, nil), prometheus.CounterValue,
		func(b *Bridge) float64 { return float64(of(b).Load()) },
	}
}

func gauge(name, help string, of func(*Bridge) *atomic.Int64) metric {
	return metric{
		prometheus.NewDesc("roomcast_bridge_"+name, help, nil, nil), prometheus.GaugeValue,
		func(b *Bridge) float64 { return float64(of(b).Load()) },
	}
}

var metrics = []metric{
	gauge("rooms_followed", "Rooms that this gateway follows.", func(b *Bridge) *atomic.Int64 { return &b.Feeds.Stats().Rooms }),
	gauge("requests_in_flight", "Messages without an answer from roomsvc.", func(b *Bridge) *atomic.Int64 { return &b.Publisher.Stats().Waiting }),
	counter("resends_total", "Requests sent again.", func(b *Bridge) *atomic.Uint64 { return &b.Publisher.Stats().Resends }),
	counter("expired_total", "Requests that were not answered in time.", func(b *Bridge) *atomic.Uint64 { return &b.Publisher.Stats().Expired }),
	counter("repeats_total", "Records that arrived again and were dropped.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Repeats }),
	counter("holes_total", "Records that arrived before the record with the previous number.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Holes }),
	counter("repairs_total", "Pages read from the log to fill holes.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Repairs }),
	counter("gaps_total", "Holes that the log could not fill. Members received a gap instead.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Gaps }),
	counter("drops_total", "How often NATS dropped messages because this gateway read them too slowly.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Drops }),
	counter("bad_records_total", "Republished messages that are not records, or that this gateway cannot decrypt.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Bad }),
	counter("bad_signals_total", "Signals and presence messages that this gateway cannot decrypt.", func(b *Bridge) *atomic.Uint64 { return &b.Presence.Stats().Bad }),
	counter("lost_rooms_total", "Rooms that members had to leave because this gateway could not read the log further.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Lost }),
	counter("damaged_records_total", "Damaged records found by reads, at most one counted per minute.", func(b *Bridge) *atomic.Uint64 { return &b.damaged }),
	counter("lost_ends_total", "Rooms whose log lacked records that members had received, within one epoch.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().LostEnds }),
	counter("checked_rooms_total", "Rooms whose newest record was compared with the log.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Checks }),
	counter("reads_total", "Requested pages of history.", func(b *Bridge) *atomic.Uint64 { return &b.Reader.Stats().Reads }),
	counter("shared_reads_total", "Requested pages of history that were answered by an equal read at the same time.", func(b *Bridge) *atomic.Uint64 { return &b.Reader.Stats().Shared }),
	counter("refused_total", "Reads refused because too many were waiting or memory was short.", func(b *Bridge) *atomic.Uint64 { return &b.Reader.Stats().Refused }),
	counter("refused_rooms_total", "Rooms refused because of a limit.", func(b *Bridge) *atomic.Uint64 { return &b.Feeds.Stats().Refused }),
	counter("refused_signals_total", "Signals dropped because too many were waiting, or because NATS was not connected.", func(b *Bridge) *atomic.Uint64 { return &b.Presence.Stats().Refused }),
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
