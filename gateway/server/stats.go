package server

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"roomcast/gateway/limit"
	"roomcast/gateway/session"
	"roomcast/proto"
)

// stats adds up the counters of the loops, for /metrics and for the command "nats micro stats".
// Before the method watch is called, it has no counters. It is safe for concurrent use.
type stats struct {
	memory *limit.Budget

	mu       sync.Mutex
	sessions []*session.Sessions // guarded by mu
	caps     *limit.Caps         // guarded by mu
}

func (s *stats) watch(sessions []*session.Sessions, caps *limit.Caps) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions, s.caps = sessions, caps
}

func (s *stats) watched() ([]*session.Sessions, *limit.Caps) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions, s.caps
}

// summary returns the data that the command "nats micro stats" shows for this gateway.
func (s *stats) summary() any {
	list, _ := s.watched()
	sum := struct {
		Sockets    int64  `json:"sockets"`
		Rooms      int64  `json:"rooms"`
		Messages   uint64 `json:"messages"`
		Deliveries uint64 `json:"deliveries"`
		Slow       uint64 `json:"slow"`
	}{}
	for _, ss := range list {
		sum.Sockets += ss.Stats().Sockets.Load()
		sum.Rooms += ss.Hub().Stats().Rooms.Load()
		sum.Messages += ss.Stats().Messages.Load()
		sum.Deliveries += ss.Hub().Stats().Deliveries.Load()
		sum.Slow += ss.Stats().Slow.Load()
	}
	return sum
}

// figure is a metric that is a sum over the loops.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*session.Sessions) float64
}

func gauge(name, help string, read func(*session.Sessions) float64) figure {
	return figure{prometheus.NewDesc("roomcast_gateway_"+name, help, nil, nil), prometheus.GaugeValue, read}
}

func counter(name, help string, read func(*session.Sessions) uint64) figure {
	return figure{prometheus.NewDesc("roomcast_gateway_"+name, help, nil, nil), prometheus.CounterValue,
		func(ss *session.Sessions) float64 { return float64(read(ss)) }}
}

var figures = []figure{
	gauge("sessions", "Open sessions.", func(ss *session.Sessions) float64 { return float64(ss.Stats().Sockets.Load()) }),
	gauge("rooms", "Rooms with members, counted once per event loop.", func(ss *session.Sessions) float64 { return float64(ss.Hub().Stats().Rooms.Load()) }),
	counter("sessions_opened_total", "Sessions opened.", func(ss *session.Sessions) uint64 { return ss.Stats().Opened.Load() }),
	counter("sessions_lost_total", "Connections that broke without a close frame.", func(ss *session.Sessions) uint64 { return ss.Stats().Lost.Load() }),
	counter("handshakes_refused_total", "Handshakes refused with an HTTP status.", func(ss *session.Sessions) uint64 { return ss.Stats().Refused.Load() }),
	counter("messages_total", "Messages and commands received from clients.", func(ss *session.Sessions) uint64 { return ss.Stats().Messages.Load() }),
	counter("pings_total", "Pings sent to silent clients.", func(ss *session.Sessions) uint64 { return ss.Stats().Pings.Load() }),
	counter("memory_closes_total", "Connections closed because --memory had no space for their incomplete messages.", func(ss *session.Sessions) uint64 { return ss.Stats().MemoryCloses.Load() }),
	counter("slow_sessions_total", "Sessions closed because the client did not read.", func(ss *session.Sessions) uint64 { return ss.Stats().Slow.Load() }),
	counter("deliveries_total", "Frames of rooms queued for a member.", func(ss *session.Sessions) uint64 { return ss.Hub().Stats().Deliveries.Load() }),
	counter("replayed_total", "Events that members received from the log.", func(ss *session.Sessions) uint64 { return ss.Hub().Stats().Replayed.Load() }),
	counter("writes_total", "Writes to sockets.", func(ss *session.Sessions) uint64 { return ss.Hub().Stats().Writes.Load() }),
	counter("written_bytes_total", "Bytes written to sockets.", func(ss *session.Sessions) uint64 { return ss.Hub().Stats().Bytes.Load() }),
	counter("overtaken_total", "Members that fell behind their room and continue from the log.", func(ss *session.Sessions) uint64 { return ss.Hub().Stats().FellBehind.Load() }),
	counter("gaps_total", "Gaps announced to members.", func(ss *session.Sessions) uint64 { return ss.Hub().Stats().Gaps.Load() }),
	counter("inbox_drops_total", "Deliveries dropped because a loop fell behind; it reads them from the log.", func(ss *session.Sessions) uint64 { return ss.Hub().Stats().InboxDrops.Load() }),
}

var (
	connectionsDesc = prometheus.NewDesc("roomcast_gateway_connections", "Open connections, with or without a session.", nil, nil)
	memoryDesc      = prometheus.NewDesc("roomcast_gateway_memory_bytes", "Bytes held for members, by use.", []string{"use"}, nil)
	memoryLimitDesc = prometheus.NewDesc("roomcast_gateway_memory_limit_bytes", "Limit of the bytes held for members: --memory. One use may take half.", nil, nil)
	refusalsDesc    = prometheus.NewDesc("roomcast_gateway_refusals_total", "Commands refused, by code.", []string{"code"}, nil)
	refusedDesc     = prometheus.NewDesc("roomcast_gateway_connections_refused_total", "Connections closed at once because of a limit.", nil, nil)
	closesDesc      = prometheus.NewDesc("roomcast_gateway_closes_total", "Sessions closed, by the close code of the gateway; sessions that clients closed are one series.", []string{"code", "name"}, nil)
)

// Describe implements prometheus.Collector.
func (s *stats) Describe(out chan<- *prometheus.Desc) {
	for _, f := range figures {
		out <- f.desc
	}
	out <- connectionsDesc
	out <- memoryDesc
	out <- memoryLimitDesc
	out <- refusedDesc
	out <- refusalsDesc
	out <- closesDesc
}

// Collect implements prometheus.Collector.
func (s *stats) Collect(out chan<- prometheus.Metric) {
	list, caps := s.watched()
	if caps == nil {
		return
	}
	sum := func(read func(*session.Sessions) float64) (total float64) {
		for _, ss := range list {
			total += read(ss)
		}
		return total
	}
	for _, f := range figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, sum(f.read))
	}
	out <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(caps.Count()))
	for _, use := range limit.Uses() {
		out <- prometheus.MustNewConstMetric(memoryDesc, prometheus.GaugeValue, float64(s.memory.Used(use)), use.String())
	}
	out <- prometheus.MustNewConstMetric(memoryLimitDesc, prometheus.GaugeValue, float64(s.memory.Most()))
	out <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(caps.Refused()))
	for _, code := range proto.Codes {
		n := sum(func(ss *session.Sessions) float64 { return float64(ss.Stats().Refusals(code)) })
		out <- prometheus.MustNewConstMetric(refusalsDesc, prometheus.CounterValue, n, string(code))
	}
	for _, m := range proto.CloseCodes {
		n := sum(func(ss *session.Sessions) float64 { return float64(ss.Stats().Closes(m.Code)) })
		out <- prometheus.MustNewConstMetric(closesDesc, prometheus.CounterValue, n, strconv.Itoa(int(m.Code)), m.Name)
	}
	others := sum(func(ss *session.Sessions) float64 { return float64(ss.Stats().Closes(0)) })
	out <- prometheus.MustNewConstMetric(closesDesc, prometheus.CounterValue, others, "other", "other")
	clients := sum(func(ss *session.Sessions) float64 { return float64(ss.Stats().ByClient.Load()) })
	out <- prometheus.MustNewConstMetric(closesDesc, prometheus.CounterValue, clients, "client", "client")
}
