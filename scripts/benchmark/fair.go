//go:build linux

package main

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"roomcast/gateway/wire/wstest"
)

// The measured members are in small rooms with messages, or are idle and send pings. One more
// member sends messages to the big room.
const (
	fairRooms   = 20
	fairMembers = 10 * fairRooms
	fairIdle    = 50
)

// fair measures whether a busy room of 10,000 members delays others: the messages of small rooms,
// and the pongs to idle members. The 10,000 members run in another process on the core of the load.
// That process has a lower priority, so that its reads do not delay the measured members.
func fair(b *bench) error {
	n := 10_000
	if b.quick {
		n = 3000
	}
	all, err := b.newEmbedded()
	if err != nil {
		return err
	}
	if err := b.helper("listeners", all.addr, strconv.Itoa(n)); err != nil {
		return err
	}
	s, err := newSwarm(all.addr)
	if err != nil {
		return err
	}
	defer s.close()
	big, idle := fairMembers, fairMembers+1 // id of the member that sends to the big room, and id of the first idle member
	s.path = func(id int) string {
		if id == big {
			return bigRoom
		}
		return fmt.Sprintf("/room/bench_%d/", s.members[id].room)
	}
	s.hears = func(int, []byte) {}
	s.add(idle+fairIdle, func(i int) int {
		if i < big {
			return i % fairRooms
		}
		return min(i-big, 1) + fairRooms
	})
	if err := s.run(30*time.Second, func() bool { return s.open == len(s.members) }); err != nil {
		return err
	}
	all.s, all.t = s, newTalk(s, fairRooms+2, 1, messageSize)
	t := all.t
	t.timed = fairMembers
	if err := all.warm(); err != nil {
		return err
	}

	var pongs histogram
	pinged := make([]time.Duration, len(s.members))
	s.pongs = func(id int) { pongs.add(s.now - pinged[id]) }
	ping := wstest.AppendMasked(nil, wstest.Fin|wstest.Ping, nil)
	tick, shouts := 0, 0 // shouts is the number of ticks between two messages to the big room; 0 = no messages
	s.ticks = func() {
		tick++
		t.say(tick % fairRooms)
		id := idle + tick%fairIdle
		pinged[id] = time.Since(s.start)
		s.write(id, ping)
		if shouts > 0 && tick%shouts == 0 {
			t.say(fairRooms)
		}
	}
	const every = 5 * time.Millisecond
	cases := []struct {
		name   string
		shouts int
	}{{"nobody speaks in it", 0}, {"a message every 2 s", 400}, {"a message every 200 ms", 40}}
	type columns struct{ p50, p99, pong, busy samples }
	got := make([]columns, len(cases))
	for range b.rounds {
		for i, c := range cases {
			shouts = c.shouts
			s.every(every)
			if err := s.run(b.window/5, nil); err != nil {
				return err
			}
			t.delay, pongs = histogram{}, histogram{}
			w, cpu := newWatch(), all.cpu(0)
			if err := s.run(b.window, nil); err != nil {
				return err
			}
			g := &got[i]
			g.busy = append(g.busy, 100*float64(all.cpu(0)-cpu)/float64(time.Since(w.at)))
			w.end()
			g.p50, g.p99 = append(g.p50, millis(t.delay.quantile(0.5))), append(g.p99, millis(t.delay.quantile(0.99)))
			g.pong = append(g.pong, millis(pongs.quantile(0.99)))
			if err := t.settle(10 * time.Second); err != nil {
				return err
			}
		}
	}
	var rows table
	rows.add(fmt.Sprintf("a room of %d:", n), "the server's core busy (%)", "small rooms: delay p50 (ms)", "p99 (ms)", "pong p99 (ms)", "p99 of quiet: rooms, pongs")
	for i, c := range cases {
		g := &got[i]
		rows.add(c.name, g.busy.cell("%.0f"), g.p50.cell("%.2f"), g.p99.cell("%.1f"), g.pong.cell("%.1f"),
			fmt.Sprintf("%.2f, %.2f", g.p99.median()/got[0].p99.median(), g.pong.median()/got[0].pong.median()))
	}
	rows.print()
	printWorst()
	return nil
}

const bigRoom = "/room/bench_big/"

// beListeners is the process with the members of the big room.
func beListeners(to string, members string) error {
	n, err := strconv.Atoi(members)
	if err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("lower priority: %w", err)
	}
	s, err := newSwarm(to)
	if err != nil {
		return err
	}
	s.path = func(int) string { return bigRoom }
	s.hears = func(int, []byte) {}
	s.add(n, func(int) int { return 0 })
	if err := s.run(30*time.Second, func() bool { return s.open == n }); err != nil {
		return err
	}
	fmt.Println("in")
	return s.run(time.Hour, nil)
}
