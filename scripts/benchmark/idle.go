//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// memory is how much memory a process uses, in bytes.
type memory struct {
	rss  int64 // resident memory, from the kernel
	live int64 // heap and stacks in use after a garbage collection, from the Go runtime
}

// memoryOf makes a process collect garbage, through its ops listener, and returns its memory.
func memoryOf(p *process, ops string) (memory, error) {
	var m memory
	for range 2 {
		answer, err := http.Get("http://" + ops + "/debug/pprof/heap?gc=1&debug=1")
		if err != nil {
			return m, fmt.Errorf("read heap of %s: %w", p.name, err)
		}
		m.live = 0
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			name, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "# "), " = ")
			if name == "HeapInuse" || name == "Stack" {
				n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
				m.live += n
			}
		}
		answer.Body.Close()
	}
	m.rss = p.rss()
	return m, nil
}

// idle measures how much memory and CPU time a member needs while there are no messages.
func idle(b *bench) error {
	n, listen := 15_000, 30*time.Second
	if b.quick {
		n, listen = 5000, 5*time.Second
	}
	var rows table
	rows.add(fmt.Sprintf("%d members", n), "process memory per connection (KB)", "of it live (KB)", "CPU of a core (%)")
	for _, where := range []string{"in no room", "in 10-member rooms"} {
		all, err := b.newEmbedded()
		if err != nil {
			return err
		}
		p, ops := all.procs[0], addr(9090)
		time.Sleep(time.Second)
		before, err := memoryOf(p, ops)
		if err != nil {
			return err
		}
		busy := func(d time.Duration, wait func(time.Duration) error) (string, error) {
			cpu, at := p.cpu(), time.Now()
			err := wait(d)
			return fmt.Sprintf("%.2f", 100*float64(p.cpu()-cpu)/float64(time.Since(at))), err
		}
		if where == "in no room" {
			load, _ := busy(listen/6, func(d time.Duration) error { time.Sleep(d); return nil })
			rows.add(fmt.Sprintf("no members; %d MB", before.rss>>20), "", "", load)
		}
		per := func() (string, string, error) {
			m, err := memoryOf(p, ops)
			kb := func(v int64) string { return fmt.Sprintf("%.2f", float64(v)/1024/float64(n)) }
			return kb(m.rss - before.rss), kb(m.live - before.live), err
		}
		if all.s, err = newSwarm(all.addr); err != nil {
			return err
		}
		load := all.s
		load.hears = func(int, []byte) {}
		load.json = where == "in no room"
		load.path = func(id int) string {
			if load.json {
				return "/ws"
			}
			return fmt.Sprintf("/room/bench_%d/", load.members[id].room)
		}
		load.add(n, func(i int) int { return i % (n / 10) })
		if err := load.run(30*time.Second, func() bool { return load.open >= n }); err != nil {
			return err
		}
		if err := load.run(2*time.Second, nil); err != nil {
			return err
		}
		rss, live, err := per()
		if err != nil {
			return err
		}
		cpu, err := busy(listen/2, func(d time.Duration) error { return load.run(d, nil) })
		if err != nil {
			return err
		}
		rows.add(where, rss, live, cpu)
		if !load.json {
			all.t = newTalk(load, n/10, 1, messageSize)
			for range 3 {
				if err := all.warm(); err != nil {
					return err
				}
			}
			if rss, live, err = per(); err != nil {
				return err
			}
			rows.add("right after 3 messages in each room", rss, live, "")
			if err := load.run(listen/2, nil); err != nil {
				return err
			}
			if rss, live, err = per(); err != nil {
				return err
			}
			rows.add(fmt.Sprintf("%v later", listen/2), rss, live, "")
		}
		if load.open < n {
			return fmt.Errorf("%d members were lost", n-load.open)
		}
		load.close()
		p.stop()
	}
	rows.print()
	printWorst()
	return nil
}
