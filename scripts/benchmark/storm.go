//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// storm kills one of two gateways while members send messages in every room. All members of the
// killed gateway reconnect to the other gateway at once, and resume from their last seq.
func storm(b *bench) error {
	own, lost, rooms := 5000, 10_000, 100
	if b.quick {
		own, lost, rooms = 1500, 3000, 30
	}
	thin, err := b.newThin(2)
	if err != nil {
		return err
	}
	survivor, victim := thin.procs[3], thin.procs[2]
	s, err := newSwarm(addr(8002))
	if err != nil {
		return err
	}
	thin.s, s.json, s.elsewhere = s, true, map[int]netip.AddrPort{}
	for id := own; id < own+lost; id++ {
		s.elsewhere[id] = netip.MustParseAddrPort(addr(8001))
	}
	s.path = func(id int) string {
		m := &s.members[id]
		if m.have == 0 {
			return fmt.Sprintf("/room/bench_%d/", m.room)
		}
		return fmt.Sprintf("/room/bench_%d/?since=%d", m.room, m.have)
	}
	greeted := 0
	s.hears = func(_ int, payload []byte) {
		if isHello(payload) {
			greeted++
		}
	}
	s.add(own+lost, func(i int) int { return i % rooms })
	if err := s.run(30*time.Second, func() bool { return greeted >= own+lost }); err != nil {
		return err
	}
	thin.t = newTalk(s, rooms, 1, messageSize)
	t := thin.t
	t.timed = own
	if err := thin.warm(); err != nil {
		return err
	}
	s.every(time.Second / time.Duration(rooms)) // one message a second in each room
	t.delay = histogram{}
	if err := s.run(b.window, nil); err != nil {
		return err
	}
	quiet := t.delay

	var back []time.Duration
	away := make([]bool, own+lost)
	killed, refused := time.Since(s.start), 0
	s.hears = func(id int, payload []byte) {
		if away[id] && isHello(payload) {
			away[id] = false
			back = append(back, s.now-killed)
		}
		t.hear(id, payload)
	}
	s.closes = func(id, code int) {
		if away[id] {
			refused++
		}
		away[id] = true
		delete(s.elsewhere, id)
		s.connect(id)
	}
	t.delay = histogram{}
	w, cpu, rss := newWatch(), survivor.cpu(), survivor.rss()
	killed = time.Since(s.start)
	victim.kill()
	if err := s.run(30*time.Second, func() bool { return len(back) >= lost }); err != nil {
		return fmt.Errorf("%d of %d members are back: %w", len(back), lost, err)
	}
	used := survivor.cpu() - cpu
	if err := s.run(time.Second, nil); err != nil {
		return err
	}
	w.end()
	during := t.delay
	rss = survivor.rss() - rss
	if err := t.settle(20 * time.Second); err != nil { // settle also checks that each member has received each message once and in order
		return err
	}
	slices.Sort(back)
	at := func(q float64) float64 { return back[int(q*float64(len(back)-1))].Seconds() }
	var rows table
	rows.add("", "result")
	rows.add("members that lost their gateway, all back at once", fmt.Sprint(lost))
	rows.add("time until a member has the hello of the other gateway, p50 / p99 / last", fmt.Sprintf("%.2f / %.2f / %.2f s", at(0.5), at(0.99), at(1)))
	rows.add("attempts that failed", fmt.Sprint(refused))
	rows.add(fmt.Sprintf("delay of the %d members that were on the other gateway before, p50 / p99: before the kill", own),
		fmt.Sprintf("%.1f / %.1f ms", millis(quiet.quantile(0.5)), millis(quiet.quantile(0.99))))
	rows.add("the same, from the kill until a second after the last member was back",
		fmt.Sprintf("%.1f / %.1f ms", millis(during.quantile(0.5)), millis(during.quantile(0.99))))
	rows.add("CPU time of the other gateway until all were back, additional memory", fmt.Sprintf("%.2f s, %d MB", used.Seconds(), rss>>20))
	rows.add("messages lost, repeated or out of order", fmt.Sprintf("0 of %d deliveries", t.heard))
	rows.print()
	printWorst()
	return nil
}

// isHello reports whether a frame is the first one of a JSON session.
func isHello(payload []byte) bool { return bytes.HasPrefix(payload, []byte(`{"hello"`)) }
