package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/proto/natstest"
)

// serve answers requests on the subject ask, over a connection to the given server, until the
// returned function is called.
func serve(t *testing.T, s *natstest.Server) (stop func()) {
	t.Helper()
	nc := s.Connect(t)
	if _, err := nc.Subscribe("ask", func(m *nats.Msg) { m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return nc.Close
}

// A connection leaves its server only if another server answers.
func TestConnectionsLeaveAServerThatDoesNotAnswer(t *testing.T) {
	var servers []*natstest.Server
	var urls []string
	for _, name := range []string{"one", "two", "three"} {
		s := natstest.Start(t, func(o *server.Options) { o.ServerName = name })
		servers, urls = append(servers, s), append(urls, s.ClientURL())
	}
	dial := func(name string, opts ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(strings.Join(urls, ","), append([]nats.Option{nats.Name(name), nats.MaxReconnects(-1),
			nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0)}, opts...)...)
	}
	var conns []*nats.Conn
	for range 2 {
		nc, err := dial("test", nats.DontRandomize())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		conns = append(conns, nc)
	}
	asked := make(chan struct{}, 1)
	mover := Mover{
		Conns: conns, Name: "try", Dial: dial, Log: slog.New(slog.DiscardHandler),
		Works: func(ctx context.Context, nc *nats.Conn) error {
			if nc.Opts.Name == "try" {
				select {
				case asked <- struct{}{}:
				default:
				}
			}
			_, err := nc.RequestWithContext(ctx, "ask", nil)
			return err
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); mover.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	at := func(name string) bool {
		for _, nc := range conns {
			if !nc.IsConnected() || nc.ConnectedServerName() != name {
				return false
			}
		}
		return true
	}
	stop := serve(t, servers[0])
	natstest.Eventually(t, "a beginning at the first", func() bool { return at("one") })
	stop()
	for range 2 { // no server answers, so the connections must stay
		<-asked
	}
	if !at("one") {
		t.Error("a connection has moved to a server that does not answer either")
	}
	serve(t, servers[2])
	natstest.Eventually(t, "a move to the third", func() bool { return at("three") })
}
