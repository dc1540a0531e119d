package main

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Go collects garbage when the heap has doubled, so that a process that may hold --memory
// would take twice as much. From a bound on it collects sooner: the bound is --memory and
// what a process needs that holds nothing. It rises where more is in use, as by very many
// connections, so that at least a fifth of the heap is garbage whenever it is collected.
const (
	restBytes  = 64 << 20 // of a process that holds nothing
	spareBytes = 32 << 20 // for stacks, buffers and a small heap
	liveMetric = "/gc/heap/live:bytes"
	lookEvery  = time.Second
)

// memoryLimit returns the bound for a process with so many live bytes.
func memoryLimit(memory, live int64) int64 {
	return max(memory+restBytes, live+live/4+spareBytes)
}

// boundGarbage keeps the bound until stop is called, unless GOMEMLIMIT sets one.
func boundGarbage(memory int64) (stop func()) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return func() {}
	}
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		sample := []metrics.Sample{{Name: liveMetric}}
		for {
			metrics.Read(sample)
			debug.SetMemoryLimit(memoryLimit(memory, int64(sample[0].Value.Uint64())))
			select {
			case <-quit:
				debug.SetMemoryLimit(math.MaxInt64)
				return
			case <-look.C:
			}
		}
	})
	return func() { close(quit); done.Wait() }
}
