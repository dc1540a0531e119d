package events

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has no labels. It is safe for concurrent use.
type metrics struct {
	told     prometheus.Counter
	posted   prometheus.Counter
	failures prometheus.Counter
	missed   prometheus.Counter
	erased   prometheus.Counter
	delay    prometheus.Collector

	mu     sync.Mutex      // guards delays
	delays []*atomic.Int64 // one for each webhook; see poster.delay
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "roomsvc", Name: name, Help: help})
	}
	m := &metrics{
		told:     counter("events_people_total", "Events about people that were added to ROOMEVENTS."),
		posted:   counter("webhook_events_total", "Events that a webhook has accepted."),
		failures: counter("webhook_failures_total", "Posts to a webhook that failed and are retried."),
		missed:   counter("webhook_events_missed_total", "Events that ROOMEVENTS dropped before a webhook accepted them."),
		erased:   counter("events_erased_total", "Copies of deleted messages and edits that were erased from ROOMEVENTS."),
	}
	m.delay = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "roomsvc", Name: "webhook_delay_seconds",
		Help: "Age of the oldest event that a webhook has not accepted because its post failed, among all webhooks of this instance.",
	}, m.oldest)
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.told, m.posted, m.failures, m.missed, m.erased, m.delay}
}

func (m *metrics) newDelay() *atomic.Int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := new(atomic.Int64)
	m.delays = append(m.delays, d)
	return d
}

func (m *metrics) oldest() (seconds float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.delays {
		if at := d.Load(); at != 0 {
			seconds = max(seconds, time.Since(time.Unix(0, at)).Seconds())
		}
	}
	return seconds
}
