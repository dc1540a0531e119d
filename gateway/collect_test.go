package main

import (
	"math"
	"runtime/debug"
	"testing"
	"time"
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
