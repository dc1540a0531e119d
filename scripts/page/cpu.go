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

// cpu measures the CPU time of the page while messages arrive, first in the visible room and then
// in another room. The browser also needs CPU time without messages; this time is included, and is
// printed in a row of its own.
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

// used is the CPU time of a browser: first of the process with the page, and then of all processes
// of the browser.
type used struct{ page, all time.Duration }

const tick = time.Second / 100 // the unit of CPU times in /proc (USER_HZ)

// browserTime returns the CPU time of the browser that was started with the given profile.
func browserTime(profile string) (sum used) {
	type process struct {
		parent int
		time   time.Duration
		line   string
	}
	all := map[int]process{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the error is only about the pattern, which is valid
	for _, path := range paths {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		// Cut off the program's name, which is in brackets and may contain spaces.
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
