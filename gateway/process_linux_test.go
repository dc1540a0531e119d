package main

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a gateway that runs in a process of its own. If the test fails, the test's log
// contains the output of the process.
type process struct {
	cmd  *exec.Cmd
	base string     // the address of the gateway's page
	done chan error // receives the result when the process ends

	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

// launch starts a gateway with a line for the shell, such as `ulimit -n 100; exec "$@"`, and
// waits until the gateway serves clients. In the line, "$@" stands for the gateway and its
// arguments.
func launch(t *testing.T, attr *syscall.SysProcAttr, line string, args ...string) *process {
	t.Helper()
	args = append([]string{"-c", line, "sh", "gateway", "--listen", "127.0.0.1:0", "--nats-monitor", "off", "--ops-listen", "off", "--drain-time", "50ms"}, args...)
	p := &process{cmd: exec.Command("sh", args...), done: make(chan error, 1)}
	p.cmd.SysProcAttr = attr
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	base := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			p.mu.Lock()
			p.out.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
			if word, address, ok := strings.Cut(strings.TrimSpace(lines.Text()), " "); ok && word == "open" {
				base <- strings.TrimSpace(address)
			}
		}
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := p.cmd.Wait()
		w.Close()
		reading.Wait()
		p.done <- err
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("the gateway's output:\n%s", p.output())
		}
	})
	select {
	case p.base = <-base:
	case <-ended:
		t.Fatal("the gateway does not serve")
	case <-time.After(60 * time.Second):
		t.Fatal("the gateway does not begin to serve")
	}
	return p
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}
