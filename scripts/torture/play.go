//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/proto"
	"roomcast/scripts/torture/fault"
	"roomcast/scripts/torture/history"
	"roomcast/scripts/torture/rig"
)

const (
	startTime = time.Minute      // until the system is ready
	healTime  = time.Minute      // after the last fault, until every message is acknowledged and shown
	quietTime = 10 * time.Second // the part of healTime in which clients still talk
	showTime  = 15 * time.Second // the part of healTime in which members receive the last messages
)

const (
	quietRooms = 24
	gavels     = 4
)

// run is one run of clients against a rig.
type run struct {
	config
	rig     *rig.Rig
	shape   fault.Shape
	history *history.Writer
	names   []proto.Room  // where everybody talks
	gavels  []proto.Room  // rooms that preside closes and reopens
	census  proto.Room    // the room in which members are counted; nobody speaks there
	quiet   []proto.Room  // rooms with a long silence after each message
	begun   chan struct{} // receives a value when a fault begins, if whisper waits for one

	healed atomic.Bool // no more faults will come

	heads heads
}

// play lets clients talk while it injects faults. Then a new reader reads the logs. play
// returns the crashes of processes.
func play(ctx context.Context, c config, path string) (troubles []string, err error) {
	machine, err := rig.New(ctx, rig.Config{
		Dir: c.dir, Mode: c.mode, Sync: c.sync, Carrier: c.carrier, Race: c.race,
		Disks: c.wants(fault.Full) || c.wants(fault.Power), Clock: c.wants(fault.Clock),
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.mode, err)
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := machine.Ready(starting); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.mode, err)
	}
	shape := machine.Shape()
	shape.Processes[fault.Client], shape.Length = c.clients, c.length
	plan, err := planFor(c, shape)
	if err != nil {
		return nil, err
	}
	r := &run{config: c, rig: machine, shape: shape, heads: heads{seqs: map[proto.Room]uint64{}}, begun: make(chan struct{}),
		census: proto.MustRoom("census")}
	for i := range c.rooms {
		r.names = append(r.names, proto.MustRoom(fmt.Sprintf("房间_%d", i)))
	}
	for i := range gavels {
		r.gavels = append(r.gavels, proto.MustRoom(fmt.Sprintf("gavel_%d", i)))
	}
	for i := range quietRooms {
		r.quiet = append(r.quiet, proto.MustRoom(fmt.Sprintf("quiet_%d", i)))
	}
	if r.history, err = history.Create(path); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.history.Close()) }()
	if err := r.talk(ctx, plan); err != nil {
		return nil, err
	}
	return machine.Crashes(), nil
}

// wants reports whether the run may inject faults of kind k.
func (c config) wants(k fault.Kind) bool {
	switch c.faults {
	case "none":
		return false
	case "", "usual":
		return fault.Usually(k, c.length)
	}
	return c.faults == "all" || strings.Contains(c.faults, string(k))
}

func planFor(c config, shape fault.Shape) ([]fault.Step, error) {
	if c.faults == "none" {
		return nil, nil
	}
	choice, err := shape.Select(c.faults)
	if err != nil {
		return nil, fmt.Errorf("-faults: %w", err)
	}
	if !shape.Root {
		fmt.Println("torture: not root, so no networks are cut and no disks filled")
	}
	return shape.Plan(c.seed, c.length, c.hold, choice), nil
}

// talk runs the clients. Its phases: all members join; they talk while faults hit; the last
// fault ends, and they talk for a while; silence, until every member and one new reader have
// received every event; the logs are read.
func (r *run) talk(ctx context.Context, plan []fault.Step) error {
	life, leave := context.WithCancel(ctx)
	var staying, speaking sync.WaitGroup
	defer staying.Wait()
	defer speaking.Wait()
	talking, silence := context.WithCancel(life)
	defer silence()
	defer leave()

	var members []*member
	for i := range r.clients {
		m, err := r.enter(life, i)
		if err != nil {
			return err
		}
		members = append(members, m)
		staying.Go(func() { m.stay(life) })
		staying.Go(func() { m.stumble(life) })
		speaking.Go(func() { m.speak(talking, life) })
	}
	for i := range gavels + 1 { // the first room has two visitors
		m := r.newMember(fmt.Sprintf("visitor%d", i), []proto.Room{r.gavels[i%gavels]})
		members = append(members, m)
		staying.Go(func() { m.visit(life) })
	}
	speaking.Go(func() { r.pour(talking, life) })
	speaking.Go(func() { r.insist(talking, life) })
	for i := range r.gavels {
		speaking.Go(func() { r.plead(talking, life, i) })
		speaking.Go(func() { r.preside(talking, life, i) })
	}
	for i := range moderators {
		speaking.Go(func() { moderate(talking, life, r, i) })
	}
	speaking.Go(func() { r.whisper(talking, life) })
	speaking.Go(func() { r.forget(talking, life) })
	for i := range 2 {
		staying.Go(func() { r.browse(life, i) })
		staying.Go(func() { r.hop(talking, life, i) })
	}
	for i, room := range r.lines() {
		staying.Go(func() { r.readLines(life, fmt.Sprintf("text%d", i), room) })
	}

	apps := applications(life, r, &staying)

	if err := r.doFaults(ctx, plan, members); err != nil {
		return err
	}
	healing, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	if err := r.rig.Ready(healing); err != nil {
		return fmt.Errorf("wait for everything to run again: %w", err)
	}
	defer context.AfterFunc(healing, leave)() // answers after healTime do not count
	if slices.ContainsFunc(plan, func(s fault.Step) bool { return r.shape.Loss(s.Kind) != "" }) {
		r.heads.forget() // some of these events are gone
	}
	r.healed.Store(true)
	r.history.Add(history.Entry{Op: history.Heal})
	sleep(ctx, quietTime)
	silence()
	speaking.Wait()
	r.waitForAll(healing, members)
	r.history.Add(history.Entry{Op: history.Calm})
	r.countMembers(healing)
	if !slices.ContainsFunc(plan, func(s fault.Step) bool { return r.shape.Loss(s.Kind) != "" }) { // no fault took events
		for _, a := range apps {
			a.countMembers(healing, present(r, members)[r.census])
		}
	}
	r.lastWords(healing, life)
	reader, err := r.read(healing)
	if err != nil {
		return err
	}
	staying.Go(func() { reader.stay(life) })
	members = append(members, reader)
	r.waitForAll(healing, members)
	r.waitForCounts(healing, members)
	for _, a := range apps {
		a.knows(healing)
	}
	r.history.Add(history.Entry{Op: history.End})
	leave()
	staying.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.writeTruth(ctx)
}

// doFaults injects each fault of the plan at its time. It returns when all faults have ended
// and the time to talk is over.
func (r *run) doFaults(ctx context.Context, plan []fault.Step, members []*member) error {
	begin := time.Now()
	failed := make(chan error, len(plan))
	var doing sync.WaitGroup
	for i, step := range plan {
		if sleep(ctx, step.At-time.Since(begin)); ctx.Err() != nil {
			break
		}
		if r.apart && step.Kind == fault.Split {
			if err := r.rig.Apart(ctx, step.Target); err != nil {
				failed <- err
				break
			}
		}
		fmt.Printf("%7.1fs  %s %s for %v\n", time.Since(begin).Seconds(), step.Kind, step.Process(), step.For.Round(10*time.Millisecond))
		key := fmt.Sprintf("fault-%d", i+1)
		r.history.Add(history.Entry{Op: history.Fault, Why: step.String(), Key: key, Client: step.Process(), Loss: r.shape.Loss(step.Kind)})
		select {
		case r.begun <- struct{}{}:
		default:
		}
		doing.Go(func() {
			if step.Role == fault.Client {
				members[step.Target].slow(ctx, step.For)
			} else if err := r.rig.Do(ctx, step); err != nil {
				failed <- err
			}
			r.history.Add(history.Entry{Op: history.Mend, Key: key})
		})
	}
	sleep(ctx, r.length-time.Since(begin))
	doing.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return errors.Join(err, ctx.Err())
}

// heads holds the highest seq of each room that was acknowledged.
type heads struct {
	mu   sync.Mutex // guards seqs
	seqs map[proto.Room]uint64
}

// stored records that the room has an event with this seq.
func (h *heads) stored(room proto.Room, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seqs[room] = max(h.seqs[room], seq)
}

func (h *heads) of(room proto.Room) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seqs[room]
}

func (h *heads) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.seqs)
}

// waitForAll waits, at most for showTime, until every member has been shown every acknowledged
// event.
func (r *run) waitForAll(ctx context.Context, members []*member) {
	ctx, cancel := context.WithTimeout(ctx, showTime)
	defer cancel()
	for _, m := range members {
		for _, room := range m.rooms {
			for m.seen(room) < r.heads.of(room) && ctx.Err() == nil {
				sleep(ctx, 20*time.Millisecond)
			}
		}
	}
}

// present returns the number of people in each room: members and text sessions.
func present(r *run, members []*member) map[proto.Room]int {
	people := map[proto.Room]int{}
	for _, room := range r.lines() {
		people[room]++
	}
	for _, m := range members {
		for _, room := range m.rooms {
			people[room]++
		}
	}
	return people
}

// waitForCounts waits, at most for showTime, until every member was told the right count for
// each of its rooms. It leaves out the last member, which may have missed its own joins.
func (r *run) waitForCounts(ctx context.Context, members []*member) {
	ctx, cancel := context.WithTimeout(ctx, showTime)
	defer cancel()
	people := present(r, members)
	for _, m := range members[:len(members)-1] {
		for _, room := range m.rooms {
			for m.record.count(room.String()) != people[room] && ctx.Err() == nil {
				sleep(ctx, 20*time.Millisecond)
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// random returns a random source that depends only on the seed and the purpose.
func (r *run) random(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, purpose)) }
