package wire_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roomcast/gateway/loop"
	"roomcast/gateway/wire/wiretest"
)

// BenchmarkConnect reports how much processor time the thread of a loop needs to accept, upgrade
// and close a connection.
func BenchmarkConnect(b *testing.B) {
	cfg := loop.DefaultConfig()
	cfg.Address, cfg.Loops = "127.0.0.1:0", 1
	loops, addr, err := loop.Listen(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- loops[0].Run(ctx, &wiretest.Echo{Loop: loops[0], Limits: limits})
	}()
	request := []byte(upgrade + "\r\n")
	connect := func() {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			b.Error(err)
			return
		}
		c.Write(request)
		if _, err := io.ReadAtLeast(c, make([]byte, 512), 129); err != nil {
			b.Error(err)
		}
		c.(*net.TCPConn).SetLinger(0) // so that no connection stays in TIME_WAIT
		c.Close()
	}
	connect()
	begin := threadTime(loops[0])
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			connect()
		}
	})
	cpu := threadTime(loops[0]) - begin
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/handshake")
	b.ReportMetric(float64(b.N)/cpu.Seconds(), "handshakes/cpu-s")
	cancel()
	<-done
}

// threadTime returns the processor time that the thread of l has used.
func threadTime(l *loop.Loop) time.Duration {
	took := make(chan time.Duration)
	l.Post(func() {
		var u unix.Rusage
		unix.Getrusage(unix.RUSAGE_THREAD, &u)
		took <- time.Duration(u.Utime.Nano() + u.Stime.Nano())
	})
	return <-took
}
