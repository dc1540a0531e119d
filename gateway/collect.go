package main

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Go collects garbage when the heap has doubled. So a process with --memory of live data would
// need twice as much. A memory limit makes Go collect sooner. The limit is --memory and the
// memory of an idle process. With more live data, for example of very many connections, the limit
// is higher: a collection then frees at least a fifth of the heap.
const (
	restBytes  = 64 << 20 // of an idle process
	spareBytes = 32 << 20 // for stacks, buffers and a small heap
	liveMetric = "/gc/heap/live:bytes"
	checkEvery = time.Second
)

// memoryLimit returns the limit for a process with the given live bytes.
func memoryLimit(memory, live int64) int64 {
	return max(memory+restBytes, live+live/4+spareBytes)
}

// boundGarbage adjusts the limit until stop is called. GOMEMLIMIT overrides it.
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
