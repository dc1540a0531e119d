//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// stuck measures a big room in which some members do not read. It measures the delay of the other
// members, and the time until the gateway closes the sessions that do not read.
func stuck(b *bench) error {
	n, quietly, limit := 10_000, 8*time.Second, 22*time.Second
	if b.quick {
		n, quietly, limit = 3000, 2*time.Second, 5*time.Second
	}
	all, err := b.newEmbedded()
	if err != nil {
		return err
	}
	const size, interval = 8 << 10, 500 * time.Millisecond
	if err := all.join(n, 1, 1, size); err != nil {
		return err
	}
	p := all.procs[0]
	var rows table
	rows.add(fmt.Sprintf("%d members, %d KB, %d messages/s", n, size>>10, time.Second/interval),
		"delay of the members that read: p50 (ms)", "p99 (ms)", "p99 of quiet", "stuck closed after (s)", "memory (MB)")
	var quiet float64
	for _, k := range []int{0, 1, 100} {
		open := p.files()
		lazy, err := newSwarm(all.addr)
		if err != nil {
			return err
		}
		lazy.receive = 4096
		lazy.path = func(int) string { return "/room/bench_0/" }
		lazy.hears = func(int, []byte) {}
		lazy.opens = func(id int) { lazy.watch(unix.EPOLL_CTL_MOD, id, 0) }
		lazy.add(k, func(int) int { return 0 })
		if err := lazy.run(10*time.Second, func() bool { return lazy.open >= k }); err != nil {
			return err
		}
		all.s.every(interval)
		const settled = time.Second
		if err := all.s.run(settled, nil); err != nil {
			return err
		}
		all.t.delay = histogram{}
		w, at, gone, most := newWatch(), time.Now(), time.Duration(0), int64(0)
		end := limit
		if k == 0 {
			end = quietly
		}
		for time.Since(at) < end {
			if err := all.s.run(50*time.Millisecond, nil); err != nil {
				return err
			}
			most = max(most, p.rss())
			if gone == 0 && k > 0 && p.files() <= open {
				gone = time.Since(at) + settled
				end = min(end, time.Since(at)+2*time.Second)
			}
		}
		w.end()
		p50, p99 := millis(all.t.delay.quantile(0.5)), millis(all.t.delay.quantile(0.99))
		if k == 0 {
			quiet = p99
		}
		closed := "–"
		if gone > 0 {
			closed = fmt.Sprintf("%.1f", gone.Seconds())
		} else if k > 0 {
			closed = fmt.Sprintf("not within %.0f", (limit + settled).Seconds())
		}
		rows.add(fmt.Sprintf("%d that never read", k), fmt.Sprintf("%.1f", p50), fmt.Sprintf("%.1f", p99),
			fmt.Sprintf("%.2f", p99/quiet), closed, fmt.Sprintf("%d", most>>20))
		lazy.close()
		if err := all.t.settle(10 * time.Second); err != nil {
			return err
		}
	}
	rows.print()
	printWorst()
	return nil
}
