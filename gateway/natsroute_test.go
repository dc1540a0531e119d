package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto/natstest"
)

// One server of the cluster stops answering. The other server must close its routes to that
// server before their buffers are full, because full buffers would block its clients. Soon after
// the interruption, it must connect its routes again.
func TestRoutesOfASilentServerAreClosedAndComeBack(t *testing.T) {
	shippedPasswords(t)
	start := func(name string, routes []*url.URL) *natstest.Server {
		t.Setenv("NATS_SERVER_NAME", name)
		opts, err := natsserver.ProcessConfigFile("../scripts/nats-cluster.conf")
		if err != nil {
			t.Fatal(err)
		}
		opts.Cluster.Host, opts.Cluster.Port, opts.Routes, opts.JetStream = "127.0.0.1", -1, routes, false
		return startServer(t, opts)
	}
	one := start("n1", nil)
	between := newCable(t, one.ClusterAddr().String())
	two := start("n2", []*url.URL{{Scheme: "nats-route", User: url.UserPassword("route", "right-ROUTE"), Host: between.addr}})

	wait := func(what string, within time.Duration, connected bool) {
		t.Helper()
		for begun := time.Now(); (one.NumRoutes() > 0) != connected || (two.NumRoutes() > 0) != connected; time.Sleep(20 * time.Millisecond) {
			if time.Since(begun) > within {
				t.Fatalf("%s: after %v the servers have %d and %d routes", what, within, one.NumRoutes(), two.NumRoutes())
			}
		}
	}
	wait("start", 10*time.Second, true)
	between.silence(true)
	wait("cut", 15*time.Second, false)
	between.silence(false)
	wait("end of the cut", 15*time.Second, true)
}

// cable forwards the bytes between two servers. While it is silent, it holds them back.
type cable struct {
	addr string

	mu   sync.Mutex // locked while the cable is silent
	dumb bool       // mu is locked; owned by the test
}

func newCable(t *testing.T, to string) *cable {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{addr: ln.Addr().String()}
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		c.silence(false)
		tasks.Wait()
	})
	pass := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			c.mu.Lock() // wait until the cable forwards again
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}
	tasks.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			tasks.Go(func() { pass(in, out) })
			tasks.Go(func() { pass(out, in) })
		}
	})
	return c
}

func (c *cable) silence(on bool) {
	if on == c.dumb {
		return
	}
	if c.dumb = on; on {
		c.mu.Lock()
	} else {
		c.mu.Unlock()
	}
}

// Without the password for routes, nobody can join the cluster: neither a whole NATS server nor
// a bare connection that speaks the protocol.
func TestRoutesNeedThePassword(t *testing.T) {
	shippedPasswords(t)
	opts, err := natsserver.ProcessConfigFile("../scripts/nats-cluster.conf")
	if err != nil {
		t.Fatal(err)
	}
	opts.Cluster.Host, opts.Cluster.Port, opts.Routes, opts.JetStream = "127.0.0.1", -1, nil, false
	good := startServer(t, opts)
	heard := make(chan *nats.Msg, 64)
	admin := connectAs(t, good, "admin")
	for _, subject := range protected {
		if _, err := admin.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.Flush(); err != nil {
		t.Fatal(err)
	}

	// join starts a server that tries to join the cluster.
	join := func(name, credentials string) (*natstest.Server, *serverSays) {
		path := filepath.Join(t.TempDir(), "evil.conf")
		text := fmt.Sprintf(`server_name: %s
accounts { ROOMS { users = [ { user: evil, password: evil } ] } }
cluster { name: roomcast, listen: "127.0.0.1:-1", routes: ["nats://%s%s"] }`, name, credentials, good.ClusterAddr())
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		opts, err := natsserver.ProcessConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ns := startServer(t, opts)
		says := &serverSays{}
		ns.SetLoggerV2(says, false, false, false)
		return ns, says
	}
	member, _ := join("member", "route:right-ROUTE@")
	natstest.Eventually(t, "a server with the password to join", func() bool { return member.NumRoutes() > 0 && good.NumRoutes() > 0 })
	member.Shutdown()
	natstest.Eventually(t, "it to leave", func() bool { return good.NumRoutes() == 0 })

	for _, credentials := range []string{"", "route:wrong@"} {
		evil, says := join("evil", credentials)
		natstest.Eventually(t, "it to be refused", func() bool { return says.contains("Authorization") || says.contains("authentication") })
		nc := connectTo(t, evil, nats.UserInfo("evil", "evil"))
		for _, subject := range protected {
			if err := nc.Publish(subject, []byte("forged")); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if good.NumRoutes() != 0 {
			t.Errorf("%q: the cluster accepts the server", credentials)
		}
		evil.Shutdown()
	}

	for _, credentials := range []string{``, `"user":"route","pass":"wrong",`} {
		conn, err := net.Dial("tcp", good.ClusterAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "CONNECT {%s\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"headers\":true,\"name\":\"evil\",\"cluster\":\"roomcast\"}\r\n", credentials)
		for _, subject := range protected {
			fmt.Fprintf(conn, "RS+ ROOMS %s\r\nRMSG ROOMS %s 6\r\nforged\r\n", subject, subject)
			fmt.Fprintf(conn, "RMSG ROOMS room.lobby + %s 6\r\nforged\r\n", subject)
		}
		// The server must close the connection.
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
		}
		if err := lines.Err(); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: got %v, want the connection to be closed", credentials, err)
		}
	}
	if err := admin.Flush(); err != nil {
		t.Fatal(err)
	}
	for range len(heard) {
		m := <-heard
		t.Errorf("the cluster took %s %q from a server without the password", m.Subject, m.Data)
	}
}

// serverSays stores what a NATS server logs.
type serverSays struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *serverSays) say(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, format+"\n", v...)
}

func (l *serverSays) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func (l *serverSays) Noticef(format string, v ...any) { l.say(format, v...) }
func (l *serverSays) Warnf(format string, v ...any)   { l.say(format, v...) }
func (l *serverSays) Errorf(format string, v ...any)  { l.say(format, v...) }
func (l *serverSays) Fatalf(format string, v ...any)  { l.say(format, v...) }
func (l *serverSays) Debugf(string, ...any)           {}
func (l *serverSays) Tracef(string, ...any)           {}
