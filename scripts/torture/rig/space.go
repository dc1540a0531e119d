//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// inside is an environment variable. It is set in the process that runs in the rig's own
// namespaces.
const inside = "ROOMCAST_TORTURE_INSIDE"

// Enter runs this program again, with the same arguments, in network and mount namespaces of its
// own, and returns its exit status. The result entered is false if this process is in those
// namespaces already, or is not root. Then the caller must do the work itself.
func Enter(ctx context.Context) (status int, entered bool, err error) {
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		return 0, false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false, fmt.Errorf("enter namespaces: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, false, fmt.Errorf("enter namespaces: %w", err)
	}
	// A terminal sends a signal to both processes. If somebody signals only this process, it passes
	// the signal on.
	defer context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, true, fmt.Errorf("run in namespaces: %w", err)
	}
	return cmd.ProcessState.ExitCode(), true, nil
}

// network gives processes their addresses. The zero value puts all processes on the loopback
// interface.
type network struct {
	own  bool // this process is in the namespaces of Enter, so every process gets its own address
	last int  // the last byte of the newest address
}

// open creates a network bridge that connects the network namespaces of all processes.
func (n *network) open() error {
	if os.Getenv(inside) == "" {
		return nil
	}
	n.own, n.last = true, 1
	return steps([][]string{
		{"mount", "--make-rprivate", "/"},
		{"mkdir", "-p", "/run/netns"},
		{"mount", "-t", "tmpfs", "tmpfs", "/run/netns"},
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", "rooms", "type", "bridge"},
		{"ip", "addr", "add", "10.77.0.1/24", "dev", "rooms"},
		{"ip", "link", "set", "rooms", "up"},
	})
}

// join gives p a network namespace with an address.
func (n *network) join(p *Process) error {
	if !n.own {
		p.ip = "127.0.0.1"
		return nil
	}
	n.last++
	p.space = p.Name
	p.ip = fmt.Sprintf("10.77.0.%d", n.last)
	plug := fmt.Sprintf("plug%d", n.last)
	return steps([][]string{
		{"ip", "netns", "add", p.space},
		{"ip", "link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", p.space},
		{"ip", "link", "set", plug, "master", "rooms"},
		{"ip", "link", "set", plug, "up"},
		{"ip", "-n", p.space, "link", "set", "lo", "up"},
		{"ip", "-n", p.space, "addr", "add", p.ip + "/24", "dev", "eth0"},
		{"ip", "-n", p.space, "link", "set", "eth0", "up"},
	})
}

func steps(list [][]string) error {
	for _, argv := range list {
		if err := run(context.Background(), argv[0], argv[1:]...); err != nil {
			return fmt.Errorf("prepare network: %w", err)
		}
	}
	return nil
}
