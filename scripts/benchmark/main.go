//go:build linux

// Command benchmark measures Roomcast from outside: real processes, real sockets,
// the CPU time of everything on the server's side. scripts/bench builds it, puts it
// into a network namespace of its own and runs it on the second core; what it
// measures runs on the first.
//
// One case is one file. swarm.go is the load: an epoll loop that costs about as much
// as the kernel does. talk.go decides who speaks when and checks that every member
// gets every message once and in order, so that nothing wins by dropping.
// reference.go is what the figures are held against: a chat server that writes each
// frame to each socket and does nothing else.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

// bench is one run of one case.
type bench struct {
	dir    string        // binaries, and whatever the servers keep
	rounds int           // how often each system is measured
	window time.Duration // how long each time
	quick  bool
	sync   string // when the log is written through to the disk
	only   string // the one part to measure; "" = all
	flags  string // further flags of the gateway

	thin     bool // measure the services apart too
	accounts bool // NATS has the accounts of scripts/nats.conf
}

// cases are the commands, in the order in which help lists them.
var cases = []struct {
	name, what string
	run        func(*bench) error
}{
	{"fanout", "one room: 2,000 members at full speed, 1,000 members at 20 messages/s", fanout},
	{"rooms", "500 rooms of 10 members, one message in flight in each", rooms},
	{"latency", "one room of 100 members: socket to socket", latency},
	{"idle", "15,000 members: memory and CPU while nothing is said", idle},
	{"connect", "handshakes", connect},
	{"stuck", "one room of 10,000 members, some of whom do not read", stuck},
	{"fair", "small rooms and pings while a room of 10,000 members is written to", fair},
	{"storm", "a gateway is killed and its 10,000 members come to another", storm},
	{"ingest", "from a NATS request to the ack that means stored", ingest},
	{"read", "the last 50 messages of one cold room among a million", read},
	{"memory", "resident memory while members ask for much and read nothing, or read history backward", memoryCase},
	{"self", "the reference against itself: how much of the rest is noise", self},
	{"million", "as many gateways and members as asked for (scripts/million.sh)", million},
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		exitOn(role(os.Args[2], os.Args[3:]))
		return
	}
	name := "help"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	for _, c := range cases {
		if c.name != name {
			continue
		}
		b := &bench{dir: os.Getenv("BENCH_DIR")}
		if b.dir == "" {
			exitOn(errors.New("BENCH_DIR is not set: start me with scripts/bench"))
		}
		exitOn(b.parse(os.Args[2:]))
		defer stopAll()
		exitOn(c.run(b))
		return
	}
	fmt.Println("usage: scripts/bench CASE [-quick] [-rounds N] [-window TIME] [-sync always|TIME]\n\ncases:")
	for _, c := range cases {
		fmt.Printf("  %-8s %s\n", c.name, c.what)
	}
	if name != "help" {
		exitOn(fmt.Errorf("no case %q", name))
	}
}

func (b *bench) parse(args []string) error {
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.BoolVar(&b.quick, "quick", false, "at most 15 seconds, with rough figures")
	f.IntVar(&b.rounds, "rounds", 0, "times each system is measured (default 7, quick 3)")
	f.DurationVar(&b.window, "window", 0, "length of one measurement (default 3s, quick 1s)")
	f.StringVar(&b.sync, "sync", "always", "when the log reaches the disk: always, or an interval")
	f.StringVar(&b.only, "only", "", `fanout: only hot or sparse; ingest: only one stream, such as "R1, sync 2m"`)
	f.StringVar(&b.flags, "gateway-flags", "", "further flags of the gateway, separated by spaces")
	f.BoolVar(&b.thin, "thin", false, "rooms: also measure gateway, roomsvc and NATS as processes of their own")
	f.BoolVar(&b.accounts, "accounts", false, "rooms -thin, fanout, storm: NATS has the accounts and users of scripts/nats.conf")
	f.IntVar(&millionGateways, "gateways", 52, "million: gateways")
	f.IntVar(&millionMembers, "members", 19400, "million: members of each gateway")
	if err := f.Parse(args); err != nil {
		return err
	}
	rounds, window := 7, 3*time.Second
	if b.quick {
		rounds, window = 3, time.Second
	}
	if b.rounds <= 0 {
		b.rounds = rounds
	}
	if b.window <= 0 {
		b.window = window
	}
	return nil
}

// role is what a process started by another one of ours does.
func role(name string, args []string) error {
	switch name {
	case "reference":
		return serveReference(args[0])
	case "publish":
		return publishBare(args)
	case "members":
		return beMembers(args)
	case "listeners":
		return beListeners(args[0], args[1])
	}
	return fmt.Errorf("no role %q", name)
}

func exitOn(err error) {
	if err != nil {
		stopAll()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// note tells the person at the terminal how far it is; the table goes to standard output.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
