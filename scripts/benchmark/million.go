//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

var millionGateways, millionMembers int // flags

// Each gateway has roomsEach rooms. The members of a room are on roomSpan gateways: the gateway of
// the room, and the gateways with the numbers before. With 52 gateways there are about a thousand
// rooms with a thousand members each.
const (
	roomsEach = 19
	roomSpan  = 4
)

// millionRoom returns the number of the room for member id of a gateway.
func millionRoom(gateway, id int) int {
	return (gateway+id%roomSpan)%millionGateways*roomsEach + id/roomSpan%roomsEach
}

// million starts many gateways on one NATS server, and sends one message to every room. Each
// gateway has almost as many members as a process may have file descriptors. Servers and clients
// share all cores. So the case does not measure speed; it measures memory, and whether every member
// receives the message.
func million(b *bench) error {
	servers, err := b.startNATS(1, "2m")
	if err != nil {
		return err
	}
	svc, err := b.startRoomsvc(0, servers, 1, "2m")
	if err != nil {
		return err
	}
	sys := &system{procs: append(servers, svc)}
	// Raise the priority of NATS and roomsvc, which would get too little CPU time among a hundred
	// other processes. In production they have their own machines.
	for _, p := range sys.procs {
		if err := p.hurry(); err != nil {
			return fmt.Errorf("raise priority of %s: %w", p.name, err)
		}
	}
	free := available()
	for i := range millionGateways {
		at := fmt.Sprintf("127.1.0.%d:8000", i+1)
		args := append(b.gatewayArgs(at, addr(9101+i)), "--nats", natsURL(0))
		p, err := b.start(-1, fmt.Sprintf("gateway%d", i+1), "gateway", args...)
		if err != nil {
			return err
		}
		if err := p.listens(at); err != nil {
			return err
		}
		sys.procs = append(sys.procs, p)
	}
	empty := sys.rss()
	note("%d gateways are up: %d MB", millionGateways, empty>>20)

	begin := time.Now()
	crowds := make([]*crowd, millionGateways)
	for i := range crowds {
		if crowds[i], err = b.newCrowd(i, millionMembers); err != nil {
			return err
		}
	}
	open := total(crowds, "open", 5*time.Minute)
	took, want := time.Since(begin), millionGateways*millionMembers
	note("%d of %d connected in %.0f s", open, want, took.Seconds())
	time.Sleep(3 * time.Second)
	full, cpu, less := sys.rss(), sys.cpu(0), free-available()

	nc, err := nats.Connect(natsURL(0), nats.Name("bench"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	begin = time.Now()
	rooms := millionGateways * roomsEach
	for i := range rooms {
		if err := nc.Publish(benchRoom(i).Subject(), []byte("hello, all of you")); err != nil {
			return err
		}
		if i%50 == 49 { // pause, because the queue of a partition's owner is bounded
			nc.Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}
	heard := total(crowds, "heard", 2*time.Minute)
	spread := time.Since(begin)
	told := sys.cpu(0) - cpu
	gigabytes := func(v int64) string { return fmt.Sprintf("%.2f GB", float64(v)/(1<<30)) }
	var rows table
	rows.add("", "result")
	rows.add("gateways × members", fmt.Sprintf("%d × %d", millionGateways, millionMembers))
	rows.add("connected", fmt.Sprintf("%d of %d in %.0f s", open, want, took.Seconds()))
	rows.add(fmt.Sprintf("received the one message of their room (%d rooms of %d, each on %d gateways)", rooms, want/rooms, roomSpan), fmt.Sprintf("%d of %d in %.1f s", heard, want, spread.Seconds()))
	rows.add("memory of all server processes: before, with members, after the message",
		fmt.Sprintf("%s, %s, %s", gigabytes(empty), gigabytes(full), gigabytes(sys.rss())))
	rows.add("per member", fmt.Sprintf("%.2f KB", float64(full-empty)/1024/float64(want)))
	rows.add("whole machine, kernel and clients included", fmt.Sprintf("%s, %.2f KB per member", gigabytes(less), float64(less)/1024/float64(want)))
	rows.add("CPU of all server processes: to connect, to deliver", fmt.Sprintf("%.1f s, %.1f s", cpu.Seconds(), told.Seconds()))
	rows.print()
	if open != want || heard != want {
		return fmt.Errorf("%d connected and %d received, of %d", open, heard, want)
	}
	return nil
}

// hurry raises the priority of the process. Its new threads inherit the priority.
func (p *process) hurry() error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, id, -15))
	}
	return err
}

// available returns the available memory of the machine, in bytes.
func available() int64 {
	b, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(b), "MemAvailable:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(f[0], 10, 64)
	return kb << 10
}

// crowd is a process with the members of one gateway. It prints "open" and the number of members
// when all are connected, and "heard" and the number when each has received a message.
type crowd struct{ lines chan string }

func (b *bench) newCrowd(gateway, members int) (*crowd, error) {
	cmd := exec.Command(filepath.Join(b.dir, "benchmark"), "role", "members",
		strconv.Itoa(gateway), strconv.Itoa(millionGateways), strconv.Itoa(members))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := onCore(-1, cmd.Start); err != nil {
		return nil, fmt.Errorf("start members: %w", err)
	}
	c := &crowd{lines: make(chan string, 4)}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
		cmd.Wait()
		close(c.lines)
	}()
	return c, nil
}

// total waits until every crowd has printed a line that begins with word. It returns the sum of the
// numbers in these lines.
func total(crowds []*crowd, word string, limit time.Duration) (sum int) {
	over := time.After(limit)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, c := range crowds {
		all.Go(func() {
			for {
				select {
				case line, ok := <-c.lines:
					if !ok {
						return
					}
					if what, n, _ := strings.Cut(line, " "); what == word {
						v, _ := strconv.Atoi(n)
						mu.Lock()
						sum += v
						mu.Unlock()
						return
					}
				case <-over:
					return
				}
			}
		})
	}
	all.Wait()
	return sum
}

// beMembers runs in the process of a crowd.
func beMembers(args []string) error {
	var gateway, n int
	if _, err := fmt.Sscan(strings.Join(args, " "), &gateway, &millionGateways, &n); err != nil {
		return err
	}
	s, err := newSwarm(fmt.Sprintf("127.1.0.%d:8000", gateway+1))
	if err != nil {
		return err
	}
	heard := make([]bool, n)
	count, twice := 0, 0
	s.path = func(id int) string { return "/room/bench_" + strconv.Itoa(millionRoom(gateway, id)) + "/" }
	s.hears = func(id int, _ []byte) {
		if heard[id] {
			twice++
			return
		}
		heard[id] = true
		count++
	}
	s.closes = func(id, code int) {
		if !heard[id] {
			s.connect(id)
		}
	}
	s.add(n, func(int) int { return 0 })
	err = s.run(5*time.Minute, func() bool { return s.open >= n })
	fmt.Println("open", s.open)
	if err == nil {
		err = s.run(10*time.Minute, func() bool { return count >= n })
	}
	if twice > 0 {
		return fmt.Errorf("%d messages arrived twice", twice)
	}
	fmt.Println("heard", count)
	if err != nil {
		return err
	}
	return s.run(time.Hour, nil) // answers pings until the parent ends
}
