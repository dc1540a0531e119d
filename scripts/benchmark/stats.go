//go:build linux

package main

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// histogram counts durations from 1 µs to an hour, in buckets whose ends are 3 % apart.
type histogram struct {
	count  int64
	bucket [32 * 32]int64
}

func (h *histogram) add(d time.Duration) {
	v := uint64(max(d/time.Microsecond, 0))
	shift := max(bits.Len64(v)-6, 0)
	h.bucket[min(shift*32+int(v>>shift), len(h.bucket)-1)]++
	h.count++
}

// quantile returns the upper end of the bucket that contains the q-quantile; q must be less than 1.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := int64(q*float64(h.count)), int64(0)
	for i, n := range h.bucket {
		if seen += n; seen > rank {
			shift := max(i/32-1, 0)
			return time.Duration(uint64(i-shift*32+1)<<shift) * time.Microsecond
		}
	}
	return 0
}

// samples are the results of all measurements for one cell of a table.
type samples []float64

func (s samples) median() float64 {
	if len(s) == 0 {
		return 0
	}
	s = slices.Sorted(slices.Values(s))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// cell returns the text for a table cell: the median, the minimum and the maximum.
func (s samples) cell(format string) string {
	if len(s) == 0 {
		return "–"
	}
	if len(s) == 1 {
		return fmt.Sprintf(format, s[0])
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.median(), slices.Min(s), slices.Max(s))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// table is a table that is printed as Markdown.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print() {
	for i, r := range t.rows {
		fmt.Println("| " + strings.Join(r, " | ") + " |")
		if i == 0 {
			fmt.Println("|" + strings.Repeat(" --- |", len(r)))
		}
	}
}

// watch measures two conditions that make a measurement worthless. The clients may need their whole
// core. Or a hypervisor or kernel threads may have taken much of a core.
type watch struct {
	at               time.Time
	own, steal, soft time.Duration
}

func newWatch() watch {
	return watch{time.Now(), ownCPU(), stolen(), softirq()}
}

// worst has the largest measured value of each condition in a run, in percent of a core. printWorst
// prints them below the table.
var worst struct{ load, steal, soft float64 }

// end adds the conditions since the call of newWatch to worst.
func (w watch) end() {
	wall := float64(time.Since(w.at))
	worst.load = max(worst.load, float64(ownCPU()-w.own)/wall)
	worst.steal = max(worst.steal, float64(stolen()-w.steal)/wall)
	worst.soft = max(worst.soft, float64(softirq()-w.soft)/wall)
}

// printWorst prints worst, and a warning if a condition was too bad.
func printWorst() {
	fmt.Printf("\nLoad at most %.0f %% of its core; stolen by the hypervisor at most %.1f %%, softirq threads %.1f %% of a core.\n",
		100*worst.load, 100*worst.steal, 100*worst.soft)
	if worst.load > 0.9 {
		note("the clients used %.0f %% of their core, so they may have limited the rates; only figures per CPU-second are valid", 100*worst.load)
	}
	if worst.steal > 0.02 || worst.soft > 0.02 {
		note("the machine was disturbed (steal %.1f %%, softirq %.1f %%): measure again", 100*worst.steal, 100*worst.soft)
	}
}

func ownCPU() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func stolen() time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	f := strings.Fields(string(b))
	if len(f) < 9 {
		return 0
	}
	ticks, _ := strconv.ParseInt(f[8], 10, 64)
	return time.Duration(ticks) * 10 * time.Millisecond
}

var softirqThreads []int

// softirq returns the CPU time of the kernel's softirq threads. Under overload, these threads
// receive the packets of loopback connections.
func softirq() (sum time.Duration) {
	if softirqThreads == nil {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			name, _ := os.ReadFile("/proc/" + e.Name() + "/comm")
			if strings.HasPrefix(string(name), "ksoftirqd/") {
				softirqThreads = append(softirqThreads, pid)
			}
		}
	}
	for _, pid := range softirqThreads {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if f := strings.Fields(string(b)); len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}
