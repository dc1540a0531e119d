package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the limit of every wait in a test. Only a test that fails takes so long.
const patience = 2 * time.Minute

// binaries builds the programs under test, once.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "roomcast-smoke")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"roomcast/gateway", "roomcast/roomsvc", "github.com/nats-io/nats-server/v2")
	cmd.Stderr = os.Stderr
	return dir, cmd.Run()
})

func TestMain(m *testing.M) {
	if runStandIn() {
		return
	}
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// process is a program that runs for a test. If the test fails, the output of the program is
// written to the test's log.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan error

	mu  sync.Mutex // guards out
	out bytes.Buffer
	url chan string // receives the address that a gateway prints when it serves
}

// start runs one of the programs under test. Its environment is PATH and env. The end of the test
// kills it.
func start(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return launch(t, env, filepath.Join(dir, program), args...)
}

// launch is like start, for any program. The end of the test also kills the processes that the
// program has started.
func launch(t *testing.T, env []string, path string, args ...string) *process {
	t.Helper()
	program := filepath.Base(path)
	p := &process{t: t, name: program, cmd: exec.Command(path, args...), done: make(chan error, 1), url: make(chan string, 1)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a process group of its own, so that the kill also reaches its child processes
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			p.note(lines.Text())
		}
	})
	go func() {
		err := p.cmd.Wait()
		w.Close()
		reading.Wait()
		p.done <- err
	}()
	t.Cleanup(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s said:\n%s", program, p.said())
		}
	})
	return p
}

func (p *process) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.WriteString(line + "\n")
	if word, address, ok := strings.Cut(strings.TrimSpace(line), " "); ok && word == "open" {
		p.url <- strings.TrimSpace(address)
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// serves waits until the gateway prints its address, and returns the address.
func (p *process) serves() string {
	p.t.Helper()
	select {
	case url := <-p.url:
		return url
	case err := <-p.done:
		p.done <- err
		p.t.Fatalf("%s ended: %v\n%s", p.name, err, p.said())
	case <-time.After(patience):
		p.t.Fatalf("%s does not serve:\n%s", p.name, p.said())
	}
	return ""
}

// ends sends a signal to the process, waits for its end and returns its exit error.
func (p *process) ends(sig syscall.Signal) error {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(patience):
		p.t.Fatalf("%s does not end after %v:\n%s", p.name, sig, p.said())
	}
	return nil
}

// says waits until the output contains part.
func (p *process) says(part string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(p.said(), part); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s does not print %q:\n%s", p.name, part, p.said())
		}
	}
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}
