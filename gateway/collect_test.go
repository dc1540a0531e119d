package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"roomcast/proto/natstest"
)

func TestMemoryLimitIsAboveLiveMemory(t *testing.T) {
	for _, memory := range []int64{8 << 20, 256 << 20, 8 << 30} {
		for live := int64(0); live < 32<<30; live += 100 << 20 {
			limit := memoryLimit(memory, live)
			if limit < memory || limit < live+live/4 {
				t.Errorf("memory %d, live %d: the limit is %d", memory, live, limit)
			}
			if live < memory/2 && limit > memory+64<<20+32<<20 {
				t.Errorf("memory %d, live %d: the limit is %d", memory, live, limit)
			}
		}
	}
}

func TestGarbageIsBoundedWhileAGatewayRuns(t *testing.T) {
	stop := boundGarbage(256 << 20)
	for deadline := time.Now().Add(10 * time.Second); debug.SetMemoryLimit(-1) == math.MaxInt64; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no limit is set")
		}
	}
	if again := boundGarbage(1 << 30); debug.SetMemoryLimit(-1) > 512<<20 {
		again()
		t.Error("a limit that was set already was changed")
	}
	stop()
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Error("the limit outlives the gateway")
	}
}

func TestQuietProcessReturnsMemory(t *testing.T) {
	held := func() uint64 { // bytes in objects, garbage included, and in free memory that the process keeps
		samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
		metrics.Read(samples)
		return samples[0].Value.Uint64() + samples[1].Value.Uint64()
	}
	burst := make([]byte, 64<<20)
	runtime.GC() // after this collection the burst counts as live, so Go would not collect soon
	before := held()
	runtime.KeepAlive(burst)
	defer boundGarbage(256 << 20)()
	natstest.Eventually(t, "the process to return memory", func() bool { return held() < before-32<<20 })
}

func TestMemoryIsReturnedOnlyIfItPays(t *testing.T) {
	for _, tt := range []struct {
		allocated, live int64
		want            bool
	}{
		{4 << 20, 0, false},
		{5 << 20, 0, true},
		{200 << 20, 1 << 30, false},
		{300 << 20, 1 << 30, true},
	} {
		if got := worthReturning(tt.allocated, tt.live); got != tt.want {
			t.Errorf("allocated %d, live %d: got %v, want %v", tt.allocated, tt.live, got, tt.want)
		}
	}
}
