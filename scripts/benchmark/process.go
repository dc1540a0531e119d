//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The CPU cores of the servers and of the load.
const (
	serverCore = 0
	loadCore   = 1
)

// process is one server process.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // file with its output
	done chan struct{}
}

var running struct {
	sync.Mutex
	list []*process
}

// start starts a binary of the bench directory on the given CPU core. If core is negative, the
// kernel chooses the core.
func (b *bench) start(core int, name, binary string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(b.dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(filepath.Join(b.dir, binary), args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = b.dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := onCore(core, p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	running.Lock()
	running.list = append(running.list, p)
	running.Unlock()
	return p, nil
}

// starters has, for each core, the job queue of one thread that is bound to the core. This thread
// starts the child processes, which inherit the core. The thread never ends. If it ended, the
// kernel would kill the processes that it has started (Pdeathsig).
var starters = map[int]chan func(){}

// onCore calls f on a thread bound to core.
func onCore(core int, f func() error) error {
	jobs := starters[core]
	if jobs == nil {
		jobs = make(chan func())
		starters[core] = jobs
		go func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			for c := range 1024 { // the kernel ignores cores that do not exist
				if core < 0 || c == core {
					set.Set(c)
				}
			}
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				note("cannot bind to core %d: %v", core, err)
			}
			for job := range jobs {
				job()
			}
		}()
	}
	answer := make(chan error, 1)
	jobs <- func() { answer <- f() }
	return <-answer
}

// cpu returns the CPU time of all threads of the process, including ended ones.
func (p *process) cpu() time.Duration {
	const processClock = 2 // CPUCLOCK_SCHED of the kernel's posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|processClock), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// rss returns the resident memory in bytes.
func (p *process) rss() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// files returns the number of open file descriptors of the process. It reads the number from the
// size of a directory, because listing the descriptors would be slow.
func (p *process) files() int {
	info, err := os.Stat(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	return int(info.Size())
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill sends SIGKILL.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop sends SIGTERM, and SIGKILL after three seconds.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		p.kill()
	}
}

// listens waits until the process accepts connections at addr.
func (p *process) listens(addr string) error {
	for range 400 {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return nil
		}
		if !p.alive() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	said, _ := os.ReadFile(p.log)
	said = bytes.TrimSpace(said)
	return fmt.Errorf("%s does not listen on %s: %w", p.name, addr, errors.New(string(said[max(0, len(said)-2000):])))
}

// ready waits until the ops listener at addr answers /readyz with 200.
func (p *process) ready(addr string) error {
	if err := p.listens(addr); err != nil {
		return err
	}
	for range 400 {
		answer, err := http.Get("http://" + addr + "/readyz")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s is not ready at %s", p.name, addr)
}

// stopAll kills all running processes, beginning with the newest.
func stopAll() {
	running.Lock()
	list := running.list
	running.list = nil
	running.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].alive() {
			list[i].kill()
		}
	}
}
