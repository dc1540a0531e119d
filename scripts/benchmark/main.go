//go:build linux

// Command benchmark measures Roomcast from outside: with real processes, real sockets, and the CPU
// time of all server processes. The script scripts/bench builds this program and runs it in a
// network namespace of its own. The program runs on the second core; the servers run on the first
// core.
//
// Each case is in its own file. swarm.go runs the clients (the load), with an epoll loop that needs
// little more CPU time than the kernel does. talk.go decides which member sends when. It also
// checks that every member receives every message once and in order, because a server that drops
// messages would look fast. reference.go is the reference for comparison, called (R) in the tables:
// a chat server that only writes each frame to each socket.
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
	dir    string        // directory of the binaries and of the data of the servers
	rounds int           // how often each system is measured
	window time.Duration // duration of a measurement
	quick  bool
	sync   string // --sync: always, or an interval
	only   string // the only part to measure; "" = all
	flags  string // further flags for the gateway

	thin     bool // also measure the form with separate processes for NATS, roomsvc and gateway
	accounts bool // run NATS with the accounts of scripts/nats.conf
}

// cases are the cases of the benchmark, in the order in which the help lists them.
var cases = []struct {
	name, what string
	run        func(*bench) error
}{
	{"fanout", "one room: 2,000 members at full speed, 1,000 members at 20 messages/s", fanout},
	{"rooms", "500 rooms of 10 members, one message in flight in each", rooms},
	{"latency", "one room of 100 members: socket to socket", latency},
	{"idle", "15,000 members: memory and CPU without messages", idle},
	{"sse", "10,000 idle readers of Server-Sent Events; a fan-out to readers, compared with one to WebSockets", sse},
	{"connect", "handshakes", connect},
	{"stuck", "one room of 10,000 members, some of which do not read", stuck},
	{"fair", "small rooms and pings while a room of 10,000 members is busy", fair},
	{"storm", "a gateway is killed and its 10,000 members reconnect to another", storm},
	{"ask", "the cost of asking a backend over NATS: reconnects, joins, messages", ask},
	{"revoke", "time from a revocation or a ban until the last session on three gateways is closed", revoke},
	{"erase", "how long the bytes of a deleted message stay in files, with one replica and with three", erase},
	{"ingest", "from a NATS request to the ack of the stored message", ingest},
	{"read", "the last 50 messages of one cold room among a million", read},
	{"memory", "resident memory while members read nothing or read much history", memoryCase},
	{"self", "the reference compared with itself, to show the noise", self},
	{"million", "many gateways and members (scripts/million.sh)", million},
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
			exitOn(errors.New("BENCH_DIR is not set; start this program with scripts/bench"))
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
	f.BoolVar(&b.quick, "quick", false, "take at most 15 seconds; the figures are rough")
	f.IntVar(&b.rounds, "rounds", 0, "measure each system this `number` of times (default 7, quick 3)")
	f.DurationVar(&b.window, "window", 0, "let one measurement last this `duration` (default 3s, quick 1s)")
	f.StringVar(&b.sync, "sync", "always", "when NATS syncs the log to disk: always, or an interval")
	f.StringVar(&b.only, "only", "", `fanout: only hot or sparse; sse: only idle or fanout; ingest: only one stream, such as "R1, sync 2m" or "standalone, sync 2m"`)
	f.StringVar(&b.flags, "gateway-flags", "", "further flags of the gateway, separated by spaces")
	f.BoolVar(&b.thin, "thin", false, "rooms: also measure gateway, roomsvc and NATS as processes of their own; sse: measure the memory of such a gateway")
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

// role runs one of the processes that the benchmark starts from its own binary.
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
	case "answer":
		return beResponder(args[0])
	case "chatter":
		return beChatter(args[0], args[1])
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

// note prints the progress to standard error; the table goes to standard output.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
