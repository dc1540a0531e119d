//go:build linux

package rig

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"roomcast/scripts/torture/fault"
)

// Process is one program of the rig, which the rig may start several times. The kernel kills it
// when the rig's process ends, even if the rig is killed.
type Process struct {
	Name string
	Role fault.Role

	// Static after layout.
	rig    *Rig
	path   string
	args   []string
	env    []string
	log    string // file to which each run of the program appends
	data   string // directory of the process's data
	disk   bool   // data is the mount point of a disk of its own
	device string // the loop device of that disk; "" = loss of power cannot be simulated
	space  string // its network namespace; "" = that of the rig
	ip     string
	public string // address for clients
	route  string // address for other NATS servers
	ops    string // address at which the process reports its health

	fault sync.Mutex // held while a fault hits the process

	mu     sync.Mutex // guards the fields below
	cmd    *exec.Cmd  // the running program; nil = the program does not run
	ended  chan struct{}
	asked  bool // the rig has asked the process to end, so its end is not a crash
	closed bool // Kill was called, so Start does nothing
}

// addr returns an address for one of its listeners. If the process has a network address of its
// own, the address has the given port, otherwise any free port.
func (p *Process) addr(port int) string {
	if p.space == "" {
		free, err := freePort()
		if err != nil {
			free = port
		}
		port = free
	}
	return net.JoinHostPort(p.ip, strconv.Itoa(port))
}

// Start starts the program. It does nothing if the program already runs, or after Kill.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil || p.closed {
		return nil
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer out.Close()
	fmt.Fprintf(out, "--- %s %s\n", time.Now().Format(time.StampMilli), p.Name)
	argv := append([]string{p.path}, p.args...)
	if p.space != "" {
		argv = append([]string{"ip", "netns", "exec", p.space}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.rig.cfg.Dir, "GORACE=halt_on_error=1", clockFile + "=" + p.clock()}, p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.asked = cmd, ended, false
	go func() {
		defer close(ended)
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cmd = nil
		if !p.asked {
			p.rig.crashed(p, err)
		}
	}()
	return nil
}

// signal sends sig, and returns a channel that is closed when the process has ended. If asked is
// true, the end of the process does not count as a crash.
func (p *Process) signal(sig syscall.Signal, asked bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	p.asked = p.asked || asked
	p.cmd.Process.Signal(sig) // an error means only that the process has just ended
	return p.ended
}

// mayEnd says that the end of the running process will not count as a crash.
func (p *Process) mayEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
}

// Kill ends the process at once and for good.
func (p *Process) Kill() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	<-p.signal(syscall.SIGKILL, true)
}

// stopTime is how long a process that was asked to end may take.
const stopTime = 20 * time.Second

// stop asks the process to end. If it does not end within stopTime, stop kills it and returns true.
func (p *Process) stop() (slow bool) {
	select {
	case <-p.signal(syscall.SIGTERM, true):
		return false
	case <-time.After(stopTime):
		<-p.signal(syscall.SIGKILL, true)
		return true
	}
}

// run runs a command and waits for its end. If the command fails, the error contains its output.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, bytes.TrimSpace(out))
	}
	return nil
}
