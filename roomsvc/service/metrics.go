package service

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"roomcast/proto"
)

// metrics are the counters of a service. The names of rooms and senders are never labels, because
// their number has no bound.
type metrics struct {
	committed  atomic.Int64 // records
	duplicates prometheus.Counter
	closes     prometheus.Counter
	unsent     prometheus.Counter
	damaged    prometheus.Counter
	losses     prometheus.Counter
	lost       prometheus.Counter
	renewed    prometheus.Counter
	refusals   *prometheus.CounterVec
	latency    prometheus.Histogram
	read       []prometheus.Collector // computed when somebody requests the metrics
}

func newMetrics(s *Service) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "roomsvc", Name: name, Help: help})
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "roomsvc", Name: name, Help: help}, read)
	}
	m := &metrics{
		duplicates: counter("duplicates_total", "Resent messages, recognised by their key and answered with the seq of the first."),
		closes:     counter("closes_by_word_total", "Messages that were a close word."),
		unsent:     counter("answers_unsent_total", "Answers that could not be published because there was no connection to NATS."),
		losses:     counter("log_losses_total", "Times that the log was found to have lost its end."),
		lost:       counter("log_sequences_lost_total", "Stream sequences that the log has lost with its end."),
		renewed:    counter("rooms_renewed_total", "Times that a room began a new epoch because its log lacked a record that a gateway had sent to members."),
		damaged:    counter("records_damaged_total", "Times that the store could not read a record, counted at most once a minute."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "roomsvc", Name: "refusals_total", Help: "Commands that were refused, by code.",
		}, []string{"code"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "roomsvc", Name: "answer_seconds", Help: "Time from a command's arrival to its answer.",
			Buckets: []float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}),
	}
	m.read = []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "roomsvc", Name: "records_committed_total", Help: "Records that the stream has acknowledged.",
		}, func() float64 { return float64(m.committed.Load()) }),
		gauge("partitions_owned", "Partitions that this instance owns.", func() float64 {
			if !s.ready.Load() {
				return 0
			}
			return float64(s.owner.Held())
		}),
		gauge("rooms_active", "Rooms in memory.", func() float64 { return float64(s.rooms()) }),
		gauge("commands_waiting", "Commands that wait in queues.", func() float64 {
			n := len(s.arrivals)
			for _, p := range s.parts {
				n += p.queue.len()
			}
			return float64(n)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "roomsvc", Name: "commands_dropped_total",
			Help: "Commands that were dropped without an answer because the queue of arrivals was full.",
		}, func() float64 { return float64(s.dropped()) }),
		gauge("ready", "1 while commands can be committed.", func() float64 {
			if s.Ready() != nil {
				return 0
			}
			return 1
		}),
	}
	m.read = append(m.read, s.events.Collectors()...)
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range append(m.read, m.duplicates, m.closes, m.unsent, m.damaged, m.losses, m.lost, m.renewed, m.refusals, m.latency) {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// answered counts a reply. The parameter since is when the command arrived. The zero time means
// that the command was refused before the rules were applied.
func (m *metrics) answered(r *proto.Reply, since time.Time) {
	switch {
	case r.Refusal != nil:
		m.refusals.WithLabelValues(string(r.Refusal.Code)).Inc()
		return
	case r.Close != 0:
		m.closes.Inc()
	case r.Duplicate:
		m.duplicates.Inc()
	}
	if !since.IsZero() {
		m.latency.Observe(time.Since(since).Seconds())
	}
}

// rooms returns how many rooms are in memory.
func (s *Service) rooms() (n int64) {
	for _, p := range s.parts {
		n += p.active.Load()
	}
	return n
}
