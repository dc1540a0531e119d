//go:build linux

// Torture tests the promises of Roomcast under faults. It runs real processes and many clients.
// Meanwhile it kills, pauses and disconnects processes, and damages their disks. Then it compares
// what every client sent and received with the log.
//
//	go run ./scripts/torture -for 60s -mode single
//
// There are three modes. In embedded, one gateway contains the whole system. In single, there are
// one NATS server, two roomsvc and two gateways. In cluster, there are three NATS servers with
// three replicas, two roomsvc and three gateways. As root, torture works in network and mount
// namespaces of its own, where it can cut networks and fill disks. Otherwise these faults are off,
// and -faults refuses them.
//
// The exit status is 0 if every promise was kept and the run had enough messages to prove it.
// Otherwise it is 1, and torture keeps the history and the logs of the processes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"roomcast/scripts/torture/check"
	"roomcast/scripts/torture/history"
	"roomcast/scripts/torture/rig"
)

// config holds the flags.
type config struct {
	length  time.Duration
	mode    string
	seed    uint64
	faults  string
	hold    time.Duration
	sync    string
	carrier string
	dir     string
	keep    bool
	race    bool
	check   string
	each    bool
	apart   bool
	clients int
	rooms   int
	rate    int
	measure int
}

func defaultConfig() config {
	return config{
		length: time.Minute, mode: "single", seed: rand.Uint64N(1e6), faults: "usual", sync: "always",
		clients: 12, rooms: 6, rate: 150, carrier: "direct",
	}
}

func main() {
	c := defaultConfig()
	flag.DurationVar(&c.length, "for", c.length, "let clients send messages for this `duration`")
	flag.StringVar(&c.mode, "mode", c.mode, "run this `system`: embedded, single or cluster")
	flag.Uint64Var(&c.seed, "seed", c.seed, "derive faults and messages from this `number`; random by default")
	flag.StringVar(&c.faults, "faults", c.faults, "inject these `faults`, separated by commas, such as \"kill nats,split nats2,pause\"; or usual, all, none")
	flag.DurationVar(&c.hold, "hold", c.hold, "let each fault last for this `duration`; 0 draws a random time for each fault")
	flag.StringVar(&c.carrier, "carrier", c.carrier, "in mode embedded, carry messages by `direct` calls or over nats")
	flag.StringVar(&c.sync, "sync", c.sync, "when NATS syncs to disk: always, or an `interval`")
	flag.StringVar(&c.dir, "dir", c.dir, "work in this `directory`; a temporary one by default")
	flag.BoolVar(&c.keep, "keep", c.keep, "keep the history and logs even if the run passes")
	flag.BoolVar(&c.race, "race", c.race, "build the processes with the race detector")
	flag.StringVar(&c.check, "check", c.check, "only check this history `file`")
	flag.BoolVar(&c.each, "each", c.each, "print how many messages were acknowledged during each fault")
	flag.BoolVar(&c.apart, "apart", c.apart, "before a NATS server is cut off from its peers, move the main connection of every roomsvc to that server, and the commit connection to another one")
	flag.IntVar(&c.clients, "clients", c.clients, "run this `number` of clients that send messages")
	flag.IntVar(&c.rooms, "rooms", c.rooms, "let the clients send messages in this `number` of rooms")
	flag.IntVar(&c.rate, "rate", c.rate, "let all clients together send this `number` of messages a second")
	flag.IntVar(&c.measure, "measure", c.measure, "only measure how long no message is acknowledged, in this `number` of splits of a cluster")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ok, err := torture(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
	}
	if !ok {
		stop()
		os.Exit(1)
	}
}

// torture does one run and reports whether it passed.
func torture(ctx context.Context, c config) (ok bool, err error) {
	if c.check != "" {
		return verdict(c, c.check)
	}
	switch c.mode {
	case "embedded", "single", "cluster":
	default:
		return false, fmt.Errorf("-mode: %q is not embedded, single or cluster", c.mode)
	}
	if c.clients < 3 || c.rooms < 2 || c.rate < 1 {
		return false, errors.New("at least 3 clients, 2 rooms and 1 message a second are needed")
	}
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "torture-*"); err != nil {
			return false, fmt.Errorf("make work directory: %w", err)
		}
		// rig.Enter runs this program again in namespaces. That run needs the same directory and
		// seed.
		os.Args = append([]string{os.Args[0], "-dir", c.dir, "-seed", fmt.Sprint(c.seed)}, os.Args[1:]...)
	}
	status, entered, err := rig.Enter(ctx)
	if entered || err != nil {
		return status == 0, err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return false, fmt.Errorf("make work directory: %w", err)
	}
	if c.measure > 0 {
		return true, measure(ctx, c, c.measure)
	}
	fmt.Printf("torture: mode %s, seed %d, %v, in %s\n", c.mode, c.seed, c.length, c.dir)
	path := filepath.Join(c.dir, "history.jsonl")
	troubles, err := play(ctx, c, path)
	if err != nil {
		return false, fmt.Errorf("%w (see %s)", err, c.dir)
	}
	ok, err = verdict(c, path)
	for _, trouble := range troubles {
		fmt.Println("VIOLATION process:", trouble)
		ok = false
	}
	switch {
	case !ok || err != nil:
		fmt.Printf("FAILED; history and logs are in %s; repeat with -seed %d\n", c.dir, c.seed)
	case c.keep:
		fmt.Println("passed; history and logs are in", c.dir)
	default:
		fmt.Println("passed")
		err = os.RemoveAll(c.dir)
	}
	return ok, err
}

// verdict checks a history and prints the summary.
func verdict(c config, path string) (ok bool, err error) {
	report, err := check.Check(history.Read(path))
	if err != nil {
		return false, err
	}
	report.Print(os.Stdout)
	if c.each {
		report.PrintPeriods(os.Stdout)
	}
	return report.Kept(), nil
}
