package main

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// By default, Go begins to collect garbage when the heap is twice as large as after the last
// collection. So with live data of --memory bytes, the process would need twice as much memory.
// A memory limit makes Go collect sooner. The limit is --memory plus the memory of an idle
// process. Very many connections may need more live data than that. Then the limit is higher, so
// that each collection can free at least a fifth of the heap.
const (
	restBytes  = 64 << 20 // memory of an idle process
	spareBytes = 32 << 20 // for stacks, buffers and a small heap
	liveMetric = "/gc/heap/live:bytes"
	checkEvery = time.Second
)

// memoryLimit returns the memory limit for a process with the given number of live bytes.
func memoryLimit(memory, live int64) int64 {
	return max(memory+restBytes, live+live/4+spareBytes)
}

// boundGarbage adjusts the memory limit until stop is called. If GOMEMLIMIT is set, it does
// nothing.
func boundGarbage(memory int64) (stop func()) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return func() {}
	}
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		check := time.NewTicker(checkEvery)
		defer check.Stop()
		sample := []metrics.Sample{{Name: liveMetric}}
		for {
			metrics.Read(sample)
			debug.SetMemoryLimit(memoryLimit(memory, int64(sample[0].Value.Uint64())))
			select {
			case <-quit:
				debug.SetMemoryLimit(math.MaxInt64)
				return
			case <-check.C:
			}
		}
	})
	return func() { close(quit); done.Wait() }
}
