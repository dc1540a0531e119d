//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"
)

// sse measures readers of Server-Sent Events. First it measures the memory of idle readers. Then it
// compares a fan-out to readers with a fan-out to WebSockets in another room of the same gateway.
func sse(b *bench) error {
	var rows table
	if b.only != "fanout" {
		if err := b.idleReaders(&rows, 10_000); err != nil {
			return err
		}
		rows.print()
	}
	if b.only == "idle" {
		return nil
	}
	rows = table{}
	rows.add("case", "members", "messages/s", "deliveries/s", "CPU of the gateway per delivery (us)", "of WebSocket", "delay p50 / p99 (ms)")
	for _, c := range []struct {
		name     string
		members  int
		speakers int
		interval time.Duration
	}{{"hot", 2000, 4, 0}, {"sparse", 1000, 1, 50 * time.Millisecond}} {
		thin, err := b.newThin(1)
		if err != nil {
			return err
		}
		if err := b.readersBesideSessions(&rows, thin, c.name, c.members, c.speakers, c.interval); err != nil {
			return err
		}
		thin.stop()
	}
	rows.print()
	printWorst()
	return nil
}

// idleReaders measures the memory of n readers that receive nothing.
func (b *bench) idleReaders(rows *table, n int) error {
	rows.add(fmt.Sprintf("%d idle readers", n), "process memory per reader (KB)", "of it live (KB)")
	for _, c := range []struct {
		name  string
		rooms int
	}{{"in 10-member rooms", n / 10}, {"in one room", 1}} {
		start, ops := func() (*system, error) { return b.newEmbedded() }, addr(9090)
		if b.thin {
			start, ops = func() (*system, error) { return b.newThin(1) }, addr(9101)
		}
		all, err := start()
		if err != nil {
			return err
		}
		gateway := all.procs[len(all.procs)-1]
		time.Sleep(10 * time.Second) // after some quiet time, the gateway returns memory that it has used for its start
		before, err := memoryOf(gateway, ops)
		if err != nil {
			return err
		}
		if all.s, err = newSwarm(all.addr); err != nil {
			return err
		}
		load := all.s
		load.hears = func(int, []byte) {}
		load.events = func(int) bool { return true }
		load.path = func(id int) string { return fmt.Sprintf("/room/bench_%d/events", load.members[id].room) }
		load.add(n, func(i int) int { return i % c.rooms })
		if err := load.run(60*time.Second, func() bool { return load.open >= n }); err != nil {
			return fmt.Errorf("%d of %d readers: %w", load.open, n, err)
		}
		if err := load.run(15*time.Second, nil); err != nil { // time for the readers to receive the last joins, and for the gateway to free buffers
			return err
		}
		after, err := memoryOf(gateway, ops)
		if err != nil {
			return err
		}
		if load.open < n {
			return fmt.Errorf("%d readers were lost", n-load.open)
		}
		kb := func(v int64) string { return fmt.Sprintf("%.2f", float64(v)/1024/float64(n)) }
		rows.add(c.name, kb(after.rss-before.rss), kb(after.live-before.live))
		load.close()
		all.stop()
	}
	return nil
}

// readersBesideSessions compares two rooms of equal size: one with JSON sessions, one with readers.
// It measures them alternately. The members that send messages are sessions in both rooms.
func (b *bench) readersBesideSessions(rows *table, gateway *system, name string, members, speakers int, interval time.Duration) error {
	const gatewayOnly = 2 // after nats-server and roomsvc
	systems := make([]*system, 2)
	for i, kind := range []string{"WebSocket, JSON", "Server-Sent Events"} {
		s := &system{name: kind, addr: gateway.addr, procs: gateway.procs}
		var err error
		if s.s, err = newSwarm(s.addr); err != nil {
			return err
		}
		defer s.s.close()
		s.s.json = true
		if i == 1 {
			s.s.events = func(id int) bool { return id >= speakers }
		}
		s.s.path = func(id int) string {
			if s.s.reads(id) {
				return fmt.Sprintf("/room/bench_%s_%d/events", name, i)
			}
			return fmt.Sprintf("/room/bench_%s_%d/", name, i)
		}
		s.s.hears = func(int, []byte) {}
		s.s.add(members, func(int) int { return 0 })
		if err := s.s.run(60*time.Second, func() bool { return s.s.open+s.s.refused >= members }); err != nil {
			return err
		}
		if s.s.refused > 0 {
			return errors.New(s.s.said)
		}
		s.t = newTalk(s.s, 1, speakers, messageSize)
		if err := s.s.run(3*time.Second, nil); err != nil { // until all notices of joins are delivered
			return err
		}
		if err := s.warm(); err != nil {
			return err
		}
		systems[i] = s
	}
	return b.tabulate(rows, name, systems, interval, []int{gatewayOnly, gatewayOnly}, figure{"%.2f", func(o outcome) float64 { return 1e6 / o.perCPU }})
}
