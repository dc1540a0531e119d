//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpu measures what the page costs while messages come, in the room that is shown and in
// another one. The cost of the browser without messages is part of it, and printed too.
func (m *measurement) cpu() error {
	for _, c := range []struct {
		what  string
		room  string
		limit string
		rate  int
	}{{"no message", "paced", "", 0}, {"messages in the room that is shown", "paced", "25 %", paced}} {
		ctx, profile, stop, err := m.browse()
		if err != nil {
			return err
		}
		if err = m.open(ctx, c.room); err == nil {
			time.Sleep(2 * time.Second)
			err = m.cost(c.what, c.limit, profile, c.room, c.rate)
		}
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) cost(what, limit, profile, room string, rate int) error {
	before, began := browserTime(profile), time.Now()
	if rate == 0 {
		time.Sleep(window)
	} else if err := m.say(room, int(window.Seconds())*rate, time.Second/time.Duration(rate)); err != nil {
		return err
	}
	all, page := browserTime(profile), time.Since(began)
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / page.Seconds() }
	fmt.Printf("| %d %s a second: the page's process, and all processes of the browser | %.0f %%, %.0f %% of a core | %s |\n",
		rate, what, share(all.page-before.page), share(all.all-before.all), limit)
	return nil
}

// used is the CPU time of a browser.
type used struct{ page, all time.Duration }

const tick = time.Second / 100 // USER_HZ, which Linux tells programs

// browserTime adds the CPU time of the processes that descend from the one with a profile.
func browserTime(profile string) (sum used) {
	type process struct {
		parent int
		time   time.Duration
		line   string
	}
	all := map[int]process{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, path := range paths {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		// The name in brackets may hold spaces.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		all[pid] = process{parent, time.Duration(user+system) * tick, string(line)}
	}
	for _, p := range all {
		for at, depth := p, 0; depth < 8; depth++ {
			if strings.Contains(at.line, "--user-data-dir="+profile) {
				sum.all += p.time
				if strings.Contains(p.line, "--type=renderer") {
					sum.page += p.time
				}
				break
			}
			at = all[at.parent]
		}
	}
	return sum
}
