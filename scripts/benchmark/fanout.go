//go:build linux

package main

import "time"

const referencePort = 7000

// messageSize is the size in bytes of a message, including the stamp that text sessions receive.
const messageSize = 128

// fanout measures how fast one room delivers messages to its members: at full speed ("hot"), and at
// a fixed low rate ("sparse").
func fanout(b *bench) error {
	b.rounds, b.window = max(1, (b.rounds+1)/2), b.window*2/3
	rows := newVersus()
	ref, err := b.newReference(referencePort)
	if err != nil {
		return err
	}
	if b.only != "sparse" {
		all, err := b.newEmbedded()
		if err != nil {
			return err
		}
		note("hot: 2,000 members, 4 speakers with one message in flight each")
		err = b.versus(&rows, "hot, --sync "+b.sync, []*system{ref, all}, []int{0, 0}, 2000, 1, 4, 0)
		if err != nil {
			return err
		}
		all.procs[0].stop()
	}
	if b.only != "hot" {
		thin, err := b.newThin(1)
		if err != nil {
			return err
		}
		note("sparse: 1,000 members, 20 messages/s; CPU of the gateway alone")
		const gatewayOnly = 2 // index of the first gateway in procs, after nats-server and roomsvc
		err = b.versus(&rows, "sparse", []*system{ref, thin}, []int{0, gatewayOnly}, 1000, 1, 1, 50*time.Millisecond)
		if err != nil {
			return err
		}
	}
	rows.print()
	printWorst()
	return nil
}

// self compares the reference server with itself. Every difference that it shows is noise.
func self(b *bench) error {
	one, err := b.newReference(referencePort)
	if err != nil {
		return err
	}
	two, err := b.newReference(referencePort + 1)
	if err != nil {
		return err
	}
	rows := newVersus()
	systems, zero := []*system{one, two}, []int{0, 0}
	if err := b.versus(&rows, "hot", systems, zero, 2000, 1, 4, 0); err != nil {
		return err
	}
	if err := b.versus(&rows, "sparse", systems, zero, 1000, 1, 1, 50*time.Millisecond); err != nil {
		return err
	}
	rows.print()
	printWorst()
	return nil
}

// rooms measures 500 small rooms, with the log on disk.
func rooms(b *bench) error {
	b.window = b.window * 3 / 4
	rows := newVersus()
	ref, err := b.newReference(referencePort)
	if err != nil {
		return err
	}
	all, err := b.newEmbedded()
	if err != nil {
		return err
	}
	systems := []*system{ref, all}
	if b.thin {
		thin, err := b.newThin(1)
		if err != nil {
			return err
		}
		systems = append(systems, thin)
	}
	err = b.versus(&rows, "500 × 10, --sync "+b.sync, systems, make([]int, len(systems)), 5000, 500, 1, 0)
	if err != nil {
		return err
	}
	rows.print()
	printWorst()
	return nil
}

// newVersus returns an empty table for versus.
func newVersus() (rows table) {
	rows.add("case", "system", "messages/s", "deliveries/s", "deliveries/CPU-s (million)", "of (R)", "delay p50 / p99 (ms)")
	return rows
}

// versus lets the members join every system, measures, and adds a row for each system. The first
// system is the reference. In each round, versus also divides the result of each system by the
// result of the reference.
func (b *bench) versus(rows *table, name string, systems []*system, first []int, members, rooms, perRoom int, interval time.Duration) error {
	for _, s := range systems {
		if err := s.join(members, rooms, perRoom, messageSize); err != nil {
			return err
		}
		defer s.s.close()
	}
	return b.tabulate(rows, name, systems, interval, first, figure{"%.3f", func(o outcome) float64 { return o.perCPU / 1e6 }})
}

// latency measures the time from the sender's write to a member's read, in a room of 100 members
// with 50 messages a second.
func latency(b *bench) error {
	ref, err := b.newReference(referencePort)
	if err != nil {
		return err
	}
	all, err := b.newEmbedded()
	if err != nil {
		return err
	}
	systems := []*system{ref, all}
	for _, s := range systems {
		if err := s.join(100, 1, 4, messageSize); err != nil {
			return err
		}
	}
	p50, p99, added := make([]samples, 2), make([]samples, 2), samples{}
	var last [2]time.Duration
	seen := 0
	err = b.compare(systems, 20*time.Millisecond, []int{0, 0}, func(i int, o outcome) {
		p50[i], p99[i] = append(p50[i], micros(o.p50)), append(p99[i], micros(o.p99))
		last[i] = o.p50
		if seen++; seen%2 == 0 {
			added = append(added, micros(last[1]-last[0]))
		}
	})
	if err != nil {
		return err
	}
	var rows table
	rows.add("system", "p50 (µs)", "p99 (µs)", "added to (R) at p50 (µs)")
	rows.add(ref.name, p50[0].cell("%.0f"), p99[0].cell("%.0f"), "0")
	rows.add(all.name+", --sync "+b.sync, p50[1].cell("%.0f"), p99[1].cell("%.0f"), added.cell("%.0f"))
	rows.print()
	printWorst()
	return nil
}
