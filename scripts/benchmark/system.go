//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"roomcast/proto"
)

// system is a measured set of server processes, with the address to which members connect.
type system struct {
	name  string
	addr  string
	procs []*process
	s     *swarm
	t     *talk
}

// addr returns an address in the network namespace of the benchmark. Every system has its own range
// of ports.
func addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// newReference starts the reference server at a port.
func (b *bench) newReference(port int) (*system, error) {
	p, err := b.start(serverCore, fmt.Sprintf("reference%d", port), "benchmark", "role", "reference", addr(port))
	if err != nil {
		return nil, err
	}
	return &system{name: "reference (R)", addr: addr(port), procs: []*process{p}}, p.listens(addr(port))
}

// newEmbedded starts a standalone gateway.
func (b *bench) newEmbedded(flags ...string) (*system, error) {
	args := append(b.gatewayArgs(addr(8000), addr(9090)), "--data-dir", filepath.Join(b.dir, "data"), "--sync", b.sync)
	p, err := b.start(serverCore, "gateway", "gateway", append(args, flags...)...)
	if err != nil {
		return nil, err
	}
	return &system{name: "gateway, all in one", addr: addr(8000), procs: []*process{p}}, p.ready(addr(9090))
}

// gatewayArgs returns the flags for every gateway. They switch off the limits that a benchmark
// would reach.
func (b *bench) gatewayArgs(listen, ops string) []string {
	args := []string{"--listen", listen, "--ops-listen", ops, "--log-level", "warn",
		"--drain-time", "100ms", "--rate", "0", "--max-connections", "0", "--max-connections-per-address", "0"}
	return append(args, strings.Fields(b.flags)...)
}

// newThin starts nats-server, one roomsvc and the given number of gateways, at ports from 8001. In
// the field procs, the gateways come after the other two processes. flags[i] are further flags for
// gateway i.
func (b *bench) newThin(gateways int, flags ...[]string) (*system, error) {
	procs, err := b.startNATS(1, b.sync)
	if err != nil {
		return nil, err
	}
	svc, err := b.startRoomsvc(1, procs, 1, b.sync)
	if err != nil {
		return nil, err
	}
	sys := &system{name: "gateway alone", addr: addr(8001), procs: append(procs, svc)}
	for i := range gateways {
		args := append(b.gatewayArgs(addr(8001+i), addr(9101+i)), append(b.login("gateway"), "--nats", natsURL(0))...)
		if i < len(flags) {
			args = append(args, flags[i]...)
		}
		p, err := b.start(serverCore, fmt.Sprintf("gateway%d", i+1), "gateway", args...)
		if err != nil {
			return nil, err
		}
		if err := p.ready(addr(9101 + i)); err != nil {
			return nil, err
		}
		sys.procs = append(sys.procs, p)
	}
	return sys, nil
}

func natsURL(i int) string { return "nats://" + addr(4222+i) }

// login returns the flags with which a service logs in to NATS.
func (b *bench) login(user string) []string {
	if !b.accounts {
		return nil
	}
	return []string{"--user", user, "--password", benchPassword, "--inbox-prefix", map[string]string{"gateway": "_INBOX_gw", "roomsvc": "_INBOX_roomsvc"}[user]}
}

const benchPassword = "password-for-the-benchmark"

// shipped copies scripts/nats.conf into the bench directory, and sets the variables that it uses.
func (b *bench) shipped() error {
	conf, err := os.ReadFile("scripts/nats.conf")
	if err != nil {
		return err
	}
	for _, name := range []string{"SERVER_NAME", "GATEWAY_PASSWORD", "ROOMSVC_PASSWORD", "OPERATOR_PASSWORD", "ADMIN_PASSWORD"} {
		if err := os.Setenv("NATS_"+name, benchPassword); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(b.dir, "shipped.conf"), conf, 0o600)
}

// startNATS starts one NATS server, or a cluster of three. Their account maps the subjects of rooms
// to partitions.
func (b *bench) startNATS(n int, sync string) ([]*process, error) {
	var procs []*process
	rooms, include := fmt.Sprintf("mappings { %q: %q }", proto.SubjectAnyRoom, proto.MapTo), ""
	if b.accounts {
		include = "include shipped.conf\n"
		if err := b.shipped(); err != nil {
			return nil, err
		}
	}
	for i := range n {
		dir := filepath.Join(b.dir, fmt.Sprintf("nats%d-of-%d-%s", i, n, sync))
		if b.accounts {
			rooms = fmt.Sprintf("http: %q", addr(8300+i))
		}
		conf := include + fmt.Sprintf(`
server_name: n%d
listen: "%s"
jetstream { store_dir: %q, sync_interval: %s, max_mem: 1G, max_file: 50G }
%s
write_deadline: "10s"
max_pending: 256MB
`, i, addr(4222+i), dir, quoted(sync), rooms)
		if n > 1 {
			conf += fmt.Sprintf("cluster { name: bench, listen: \"%s\", routes: [nats://%s, nats://%s, nats://%s] }\n",
				addr(6222+i), addr(6222), addr(6223), addr(6224))
		}
		if err := os.WriteFile(dir+".conf", []byte(conf), 0o600); err != nil {
			return nil, err
		}
		p, err := b.start(serverCore, fmt.Sprintf("nats%d", i), "nats-server", "-c", dir+".conf")
		if err != nil {
			return nil, err
		}
		procs = append(procs, p)
	}
	for i, p := range procs {
		if err := p.listens(addr(4222 + i)); err != nil {
			return nil, err
		}
	}
	return procs, nil
}

// quoted returns sync in the form for NATS's configuration: a duration with quotes, the word always
// without.
func quoted(sync string) string {
	if sync == "always" {
		return sync
	}
	return `"` + sync + `"`
}

// startRoomsvc starts roomsvc number i and waits until it is ready.
func (b *bench) startRoomsvc(i int, nats []*process, replicas int, sync string, more ...string) (*process, error) {
	p, err := b.start(serverCore, fmt.Sprintf("roomsvc%d", i), "roomsvc",
		append(append(b.login("roomsvc"), "--nats", natsURL(i%len(nats)), "--ops-listen", addr(9200+i), "--log-level", "warn",
			"--replicas", fmt.Sprint(replicas), "--sync", sync), more...)...)
	if err != nil {
		return nil, err
	}
	return p, p.ready(addr(9200 + i))
}

// cpu returns the sum of the CPU times of procs[first:].
func (s *system) cpu(first int) (sum time.Duration) {
	for _, p := range s.procs[first:] {
		sum += p.cpu()
	}
	return sum
}

// cpuTimes returns the CPU time that each process has used.
func (s *system) cpuTimes() (list []time.Duration) {
	for _, p := range s.procs {
		list = append(list, p.cpu())
	}
	return list
}

func (s *system) rss() (sum int64) {
	for _, p := range s.procs {
		sum += p.rss()
	}
	return sum
}

// join connects n members, spread evenly over the rooms. In each room, perRoom members send
// messages of size bytes.
func (s *system) join(n, rooms, perRoom, size int) (err error) {
	return s.joinAs("bench", false, n, rooms, perRoom, size)
}

// joinAs is like join, but the names of the rooms begin with name. If json is true, members use
// JSON sessions, otherwise text sessions.
func (s *system) joinAs(name string, json bool, n, rooms, perRoom, size int) (err error) {
	if s.s, err = newSwarm(s.addr); err != nil {
		return err
	}
	s.s.json = json
	s.s.path = func(id int) string { return fmt.Sprintf("/room/%s_%d/", name, s.s.members[id].room) }
	s.s.hears = func(int, []byte) {}
	s.s.add(n, func(i int) int { return i % rooms })
	if err := s.s.run(30*time.Second, func() bool { return s.s.open+s.s.refused >= n }); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if s.s.refused > 0 {
		return fmt.Errorf("%s: %d of %d refused: %s", s.name, s.s.refused, n, s.s.said)
	}
	s.t = newTalk(s.s, rooms, perRoom, size)
	return s.warm()
}

// warm sends one message to every room and waits until all members have received it. Afterwards,
// all members have joined, and every room is in memory.
func (s *system) warm() error {
	for i := range s.t.speaks {
		s.t.say(i)
	}
	if err := s.t.settle(20 * time.Second); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// outcome is the result of one measurement.
type outcome struct {
	heard, said float64 // deliveries and messages per second
	busy        float64 // how many cores the measured processes have used
	perCPU      float64 // deliveries per CPU-second
	each        []time.Duration
	p50, p99    time.Duration
}

// measure lets the speakers send messages for the duration window. If interval is 0, each speaker
// sends its next message when its previous one has reached all members. Otherwise one speaker sends
// one message at each interval, and the speakers take turns. The result contains the CPU time of
// procs[first:] only.
func (s *system) measure(window, interval time.Duration, first int) (outcome, error) {
	t := s.t
	if t.closedLoop = interval == 0; t.closedLoop {
		for i := range t.speaks {
			t.say(i)
		}
	} else {
		s.s.every(interval)
	}
	if err := s.s.run(window/5, nil); err != nil { // warm-up, which is not measured
		return outcome{}, err
	}
	w, heard, said, cpu := newWatch(), t.heard, t.said, s.cpu(first)
	each := s.cpuTimes()
	t.delay = histogram{}
	if err := s.s.run(window, nil); err != nil {
		return outcome{}, err
	}
	wall := time.Since(w.at).Seconds()
	cpu = s.cpu(first) - cpu
	for i, p := range s.procs {
		each[i] = p.cpu() - each[i]
	}
	w.end()
	o := outcome{
		heard: float64(t.heard-heard) / wall, said: float64(t.said-said) / wall,
		busy: cpu.Seconds() / wall, perCPU: float64(t.heard-heard) / cpu.Seconds(), each: each,
		p50: t.delay.quantile(0.5), p99: t.delay.quantile(0.99),
	}
	if err := t.settle(10 * time.Second); err != nil {
		return outcome{}, fmt.Errorf("%s: %w", s.name, err)
	}
	return o, nil
}

// compare measures the systems one after the other, b.rounds times. Each time it reverses the
// order. So if the machine becomes slower over time, this affects all systems equally.
func (b *bench) compare(systems []*system, interval time.Duration, first []int, each func(i int, o outcome)) error {
	for r := range b.rounds {
		for i := range systems {
			if r%2 == 1 {
				i = len(systems) - 1 - i
			}
			o, err := systems[i].measure(b.window, interval, first[i])
			if err != nil {
				return err
			}
			each(i, o)
		}
	}
	return nil
}

// figure is the column of the table by which tabulate compares systems.
type figure struct {
	format string
	of     func(outcome) float64
}

// tabulate measures the systems and adds a row for each. To compare the systems, it also divides
// the figure of each system by the figure of the first system, in each round.
func (b *bench) tabulate(rows *table, name string, systems []*system, interval time.Duration, first []int, f figure) error {
	type columns struct{ said, heard, figure, ratio, p50, p99 samples }
	got := make([]columns, len(systems))
	round := make([]float64, len(systems))
	seen := 0
	err := b.compare(systems, interval, first, func(i int, o outcome) {
		c := &got[i]
		round[i] = f.of(o)
		c.said, c.heard, c.figure = append(c.said, o.said), append(c.heard, o.heard), append(c.figure, round[i])
		c.p50, c.p99 = append(c.p50, millis(o.p50)), append(c.p99, millis(o.p99))
		note("%s, %s: %.0f messages/s, %.0f deliveries/s, %.3f million/CPU-s, %.0f %% busy, each %v",
			name, systems[i].name, o.said, o.heard, o.perCPU/1e6, 100*o.busy, o.each)
		if seen++; seen%len(systems) == 0 {
			for j := range systems {
				got[j].ratio = append(got[j].ratio, round[j]/round[0])
			}
		}
	})
	if err != nil {
		return err
	}
	for i, s := range systems {
		c := &got[i]
		ratio := "1"
		if i > 0 {
			ratio = c.ratio.cell("%.2f")
		}
		rows.add(name, s.name, c.said.cell("%.0f"), c.heard.cell("%.0f"), c.figure.cell(f.format), ratio,
			fmt.Sprintf("%.2f / %.2f", c.p50.median(), c.p99.median()))
	}
	return nil
}
