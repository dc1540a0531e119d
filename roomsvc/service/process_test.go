package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// processURL is an environment variable with the URL of a NATS server. If it is set, the test
// binary runs an instance of the service instead of the tests. Tests can kill and pause that
// process.
const processURL = "ROOMSVC_TEST_URL"

func TestMain(m *testing.M) {
	if url := os.Getenv(processURL); url != "" {
		if err := serve(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func serve(url string) error {
	cfg := DefaultConfig()
	cfg.HistoryPerRoom = 1 << 20
	cfg.Instance = os.Getenv("ROOMSVC_TEST_INSTANCE")
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(url, append([]nats.Option{nats.Name(name), nats.MaxReconnects(-1)}, opts...)...)
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	return s.Run(context.Background())
}

// startProcess runs an instance in a process of its own.
func startProcess(t testing.TB, srv *natstest.Server, instance string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), processURL+"="+srv.ClientURL(), "ROOMSVC_TEST_INSTANCE="+instance)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if testing.Verbose() {
		cmd.Stderr = t.Output()
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
	})
	return cmd.Process
}

// owned waits until the given instances together own all partitions, and each of them owns at least
// one.
func owned(t testing.TB, s *Service, instances ...string) {
	t.Helper()
	natstest.Eventually(t, "the partitions to be with "+strings.Join(instances, " and "), func() bool {
		has := map[string]int{}
		for p := range proto.Partitions {
			m, err := s.commits.Marker(t.Context(), p)
			if err != nil {
				return false
			}
			has[m.Owner]++
		}
		n := 0
		for _, id := range instances {
			if has[id] == 0 {
				return false
			}
			n += has[id]
		}
		return n == proto.Partitions
	})
}

func TestKilledInstanceIsReplaced(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		s, stop := startService(t, srv, keepAll)
		victim := startProcess(t, srv, "victim")
		owned(t, s, s.Instance(), "victim")
		c := startSenders(t, srv, 20, rooms...)
		c.waitAcks(t, 500)
		c.longest()
		begun := time.Now()
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		owned(t, s, s.Instance())
		t.Logf("everything taken over after %s", time.Since(begun))
		c.waitAcks(t, 500)
		if p := c.longest(); p > 5*time.Second {
			t.Errorf("a sender waited %s, want at most 5s", p)
		}
		c.check(t, srv)
		stop()
	})
}

func TestPausedInstanceAppendsNothingAndRejoins(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		s, stop := startService(t, srv, keepAll)
		paused := startProcess(t, srv, "paused")
		owned(t, s, s.Instance(), "paused")
		c := startSenders(t, srv, 20, rooms...)
		c.waitAcks(t, 500)
		if err := paused.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		owned(t, s, s.Instance())
		c.waitAcks(t, 500)
		if err := paused.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		owned(t, s, s.Instance(), "paused")
		c.waitAcks(t, 500)
		c.check(t, srv)
		stop()
	})
}
