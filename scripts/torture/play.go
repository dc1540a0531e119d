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
	startTime = time.Minute      // limit for the system to become ready
	healTime  = time.Minute      // limit, after the last fault, for every message to be acknowledged and received by every member
	quietTime = 10 * time.Second // how long after the last fault clients still send messages; a part of healTime
	showTime  = 15 * time.Second // how long members may take to receive the last messages; a part of healTime
)

const (
	quietRooms   = 24
	closingRooms = 4
)

// run is one run of clients against a rig.
type run struct {
	config
	rig     *rig.Rig
	shape   fault.Shape
	history *history.Writer
	names   []proto.Room  // rooms to which all clients send messages
	closing []proto.Room  // rooms that closeAndReopen closes and reopens
	census  proto.Room    // the room whose members are counted; it has no messages
	quiet   []proto.Room  // rooms to which sayRarely sends messages, with long pauses
	begun   chan struct{} // receives a value when a fault begins, if sayRarely waits for a fault

	healed atomic.Bool // all faults have ended

	heads heads
}

// play lets clients send messages while it injects faults. Then a new reader reads the logs.
// troubles describes the processes that have crashed.
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
	for i := range closingRooms {
		r.closing = append(r.closing, proto.MustRoom(fmt.Sprintf("gavel_%d", i)))
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

// talk runs the clients, in five phases. All members join. They send messages while faults are
// injected. After the last fault they send messages for quietTime. Then nobody sends messages until
// every member, and one new reader, has received every event. At last the logs are read.
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
		m, err := r.startMember(life, i)
		if err != nil {
			return err
		}
		members = append(members, m)
		staying.Go(func() { m.receiveUntil(life) })
		staying.Go(func() { m.breakConnections(life) })
		speaking.Go(func() { m.speak(talking, life) })
	}
	for i := range closingRooms + 1 { // one more than the rooms, so that the first room has two visitors
		m := r.newMember(fmt.Sprintf("visitor%d", i), []proto.Room{r.closing[i%closingRooms]})
		members = append(members, m)
		staying.Go(func() { m.visit(life) })
	}
	speaking.Go(func() { r.sayInBulk(talking, life) })
	speaking.Go(func() { r.resend(talking, life) })
	for i := range r.closing {
		speaking.Go(func() { r.sayToClosing(talking, life, i) })
		speaking.Go(func() { r.closeAndReopen(talking, life, i) })
	}
	for i := range moderators {
		speaking.Go(func() { moderate(talking, life, r, i) })
	}
	speaking.Go(func() { r.sayRarely(talking, life) })
	speaking.Go(func() { r.sayWithoutKeys(talking, life) })
	for i := range 2 {
		staying.Go(func() { r.browse(life, i) })
		staying.Go(func() { r.joinInTurn(talking, life, i) })
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
	defer context.AfterFunc(healing, leave)() // an answer after healTime counts as missing
	if slices.ContainsFunc(plan, func(s fault.Step) bool { return r.shape.Loss(s.Kind) != "" }) {
		r.heads.forget() // a fault may have destroyed some of the highest events
	}
	r.healed.Store(true)
	r.history.Add(history.Entry{Op: history.Heal})
	sleep(ctx, quietTime)
	silence()
	speaking.Wait()
	r.waitForAll(healing, members)
	r.history.Add(history.Entry{Op: history.Calm})
	r.countMembers(healing)
	if !slices.ContainsFunc(plan, func(s fault.Step) bool { return r.shape.Loss(s.Kind) != "" }) { // no fault destroyed events
		for _, a := range apps {
			a.countMembers(healing, present(r, members)[r.census])
		}
	}
	r.sayLast(healing, life)
	reader, err := r.read(healing)
	if err != nil {
		return err
	}
	staying.Go(func() { reader.receiveUntil(life) })
	members = append(members, reader)
	r.waitForAll(healing, members)
	r.waitForCounts(healing, members)
	for _, a := range apps {
		a.waitForEvents(healing)
	}
	r.history.Add(history.Entry{Op: history.End})
	leave()
	staying.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.writeTruth(ctx)
}

// doFaults injects each fault of the plan at its time. It returns when all faults have ended and
// the duration of the run is over.
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
			r.history.Add(history.Entry{Op: history.Over, Key: key})
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

// heads knows the highest acknowledged seq of each room.
type heads struct {
	mu   sync.Mutex // guards seqs
	seqs map[proto.Room]uint64
}

// stored is called when an event of the room with this seq was acknowledged.
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

// waitForAll waits, at most for showTime, until every member has received every acknowledged event.
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

// waitForCounts waits, at most for showTime, until every member has received the right number of
// members of each of its rooms. It does not wait for the newest member, because a member may not
// receive the notice of its own join.
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
