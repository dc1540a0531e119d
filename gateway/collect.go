package main

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// By default, Go lets the heap grow to twice the size that it had after the last collection. So
// with live data of --memory bytes, the process would need twice as much memory. A memory limit
// makes Go collect sooner. The limit is --memory plus the memory of an idle process. If there is
// more live data, for example because of very many connections, the limit is higher. Then each
// collection can free at least a fifth of the heap.
//
// A burst, such as the handshakes of many clients, leaves garbage and freed memory. In a process
// that is quiet afterwards, Go would keep them for minutes. So a quiet process returns them to
// the system.
const (
	restBytes  = 64 << 20 // memory of an idle process
	spareBytes = 32 << 20 // for stacks, buffers and a small heap
	checkEvery = time.Second
	quietFor   = 5         // a process is quiet after this number of quiet checks in a row
	quietBytes = 256 << 10 // a check is quiet if the process has allocated at most this since the last check
)

// memoryLimit returns the memory limit for a process with the given number of live bytes.
func memoryLimit(memory, live int64) int64 {
	return max(memory+restBytes, live+live/4+spareBytes)
}

// worthReturning reports whether a process should return memory again. The parameter allocated is
// how many bytes it has allocated since it last returned memory. Returning needs a collection,
// which costs CPU time.
func worthReturning(allocated, live int64) bool { return allocated > live/4+4<<20 }

// boundGarbage keeps the memory limit up to date, and returns memory while the process is quiet.
// It works in the background until stop is called. If GOMEMLIMIT is set, it does nothing.
func boundGarbage(memory int64) (stop func()) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return func() {}
	}
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		check := time.NewTicker(checkEvery)
		defer check.Stop()
		samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
		quiet, before, returned := 0, int64(0), int64(0)
		for {
			metrics.Read(samples)
			live, allocated := int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64())
			debug.SetMemoryLimit(memoryLimit(memory, live))
			if quiet++; allocated-before > quietBytes {
				quiet = 0
			}
			before = allocated
			if quiet >= quietFor && worthReturning(allocated-returned, live) {
				debug.FreeOSMemory()
				quiet, returned = 0, allocated
			}
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
