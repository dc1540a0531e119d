//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/proto"
	"roomcast/scripts/torture/fault"
	"roomcast/scripts/torture/rig"
)

const (
	measureSenders = 16
	measureBefore  = 4 * time.Second // how long clients send messages before each split
	measureSplit   = 25 * time.Second
)

// measure splits a NATS server off from its peers n times, each time the next server, while senders
// post over HTTP. For each split it prints three figures. The pause is the longest time in which no
// message of any room was acknowledged. The other two are the rates of acks before the split and
// after the pause. It also prints the longest pause of a single room: its senders waited for so
// long.
func measure(ctx context.Context, c config, n int) (err error) {
	machine, err := rig.New(ctx, rig.Config{Dir: c.dir, Mode: "cluster", Sync: c.sync})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := machine.Ready(starting); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if !machine.Shape().Root {
		return errors.New("only root can split networks")
	}
	r := &run{config: c, rig: machine}
	var mu sync.Mutex // guards acks
	acks := make([][]time.Time, measureSenders)
	var keys atomic.Uint64
	talking, silence := context.WithCancel(ctx)
	var senders sync.WaitGroup
	defer senders.Wait()
	defer silence()
	for i := range measureSenders {
		room := proto.MustRoom(fmt.Sprint("measure-", i))
		senders.Go(func() {
			a := r.api()
			a.next = i
			for talking.Err() == nil {
				key := fmt.Sprint("m", keys.Add(1))
				if _, err := a.postUntil(talking, room, "messages", key, map[string]string{"text": key}); err == nil {
					mu.Lock()
					acks[i] = append(acks[i], time.Now())
					mu.Unlock()
				}
			}
		})
	}
	// taken returns, for each room, the times of the acks since the last call of taken.
	taken := func() [][]time.Time {
		mu.Lock()
		defer mu.Unlock()
		got := acks
		acks = make([][]time.Time, measureSenders)
		return got
	}
	fmt.Println("| split | pause (s) | slowest room (s) | acks/s before | acks/s after the pause | of before |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	var pauses []time.Duration
	for i := range n {
		for steady := 0; steady < 3 && ctx.Err() == nil; { // wait until every room has acks in three seconds in a row
			taken()
			if sleep(ctx, time.Second); !slices.ContainsFunc(taken(), func(room []time.Time) bool { return len(room) == 0 }) {
				steady++
			} else {
				steady = 0
			}
		}
		sleep(ctx, measureBefore)
		before := float64(len(slices.Concat(taken()...))) / measureBefore.Seconds()
		begun := time.Now()
		step := fault.Step{Kind: fault.Split, Role: fault.NATS, Target: i % 3, For: measureSplit}
		if err := machine.Do(ctx, step); err != nil {
			return err
		}
		rooms := taken()
		during := slices.Concat(rooms...)
		slices.SortFunc(during, time.Time.Compare)
		ended := begun.Add(measureSplit)
		pause, resumed := longestPause(begun, ended, during)
		var slowest time.Duration
		for _, room := range rooms {
			p, _ := longestPause(begun, ended, room)
			slowest = max(slowest, p)
		}
		rest := 0
		for _, at := range during {
			if at.After(resumed) {
				rest++
			}
		}
		after := float64(rest) / max(0.001, ended.Sub(resumed).Seconds())
		fmt.Printf("| nats%d | %.1f | %.1f | %.0f | %.0f | %.2f |\n", step.Target+1, pause.Seconds(), slowest.Seconds(), before, after, after/before)
		pauses = append(pauses, pause)
		healing, cancel := context.WithTimeout(ctx, healTime)
		err := machine.Ready(healing)
		cancel()
		if err != nil {
			return fmt.Errorf("wait for everything to run again: %w", err)
		}
	}
	slices.Sort(pauses)
	fmt.Printf("\npause without an ack in %d splits: median %.1f s, longest %.1f s\n",
		n, pauses[n/2].Seconds(), pauses[n-1].Seconds())
	if crashes := machine.Crashes(); len(crashes) > 0 {
		return fmt.Errorf("processes ended: %v", crashes)
	}
	return nil
}

// longestPause returns the longest time without an ack between begun and ended, and when that time
// ended. The acks must be sorted.
func longestPause(begun, ended time.Time, acks []time.Time) (longest time.Duration, until time.Time) {
	last, until := begun, begun
	for _, at := range append(slices.Clip(acks), ended) {
		if pause := at.Sub(last); pause > longest {
			longest, until = pause, at
		}
		last = at
	}
	return longest, until
}
