//go:build linux

package main

import (
	"fmt"
	"time"
)

// connect measures how many handshakes a CPU-second can serve. A handshake is a TCP connection, an
// upgrade to WebSocket, and a join.
func connect(b *bench) error {
	n := 10_000
	if b.quick {
		n = 4000
	}
	ref, err := b.newReference(referencePort)
	if err != nil {
		return err
	}
	all, err := b.newEmbedded()
	if err != nil {
		return err
	}
	systems := []*system{ref, all}
	perCPU, rate, ratio := make([]samples, 2), make([]samples, 2), samples{}
	for r := range b.rounds + 1 {
		var round [2]float64
		for k := range systems {
			i := (k + r) % 2
			if round[i], err = systems[i].handshakes(n, &rate[i]); err != nil {
				return err
			}
		}
		note("%.0f and %.0f handshakes/CPU-s", round[0], round[1])
		if r == 0 { // the first round is a warm-up
			rate[0], rate[1] = nil, nil
			continue
		}
		for i := range systems {
			perCPU[i] = append(perCPU[i], round[i])
		}
		ratio = append(ratio, round[1]/round[0])
	}
	var rows table
	rows.add("system", "handshakes/CPU-s", "of (R)", "handshakes/s")
	rows.add(ref.name, perCPU[0].cell("%.0f"), "1", rate[0].cell("%.0f"))
	rows.add(all.name, perCPU[1].cell("%.0f"), ratio.cell("%.2f"), rate[1].cell("%.0f"))
	rows.print()
	return nil
}

// handshakes connects n members to 100 rooms and returns the number of handshakes per CPU-second.
// Then it disconnects the members, and waits until the server has closed all connections.
func (s *system) handshakes(n int, rate *samples) (float64, error) {
	before := s.procs[0].files()
	load, err := newSwarm(s.addr)
	if err != nil {
		return 0, err
	}
	load.path = func(id int) string { return fmt.Sprintf("/room/bench_%d/", id%100) }
	load.hears = func(int, []byte) {}
	cpu, at := s.cpu(0), time.Now()
	load.add(n, func(int) int { return 0 })
	err = load.run(20*time.Second, func() bool { return load.open+load.refused >= n })
	wall := time.Since(at)
	cpu = s.cpu(0) - cpu
	if err == nil && load.refused > 0 {
		err = fmt.Errorf("%d of %d refused: %s", load.refused, n, load.said)
	}
	load.close()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	*rate = append(*rate, float64(n)/wall.Seconds())
	for range 500 {
		if s.procs[0].files() <= before+10 {
			return float64(n) / cpu.Seconds(), nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("%s: connections are still open 5 s after their clients disconnected", s.name)
}
