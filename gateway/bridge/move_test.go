package bridge_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/bridge"
	"roomcast/proto"
	"roomcast/proto/history/historytest"
)

// If a NATS server is cut off from its peers, no room service answers over it. All connections
// of a gateway must leave such a server.
func TestConnectionsFollowTheRoomService(t *testing.T) {
	alone, s := historytest.Start(t, 1000), historytest.Start(t, 1000)
	own(t, s)
	if _, err := s.Conn().Subscribe(proto.SubjectServiceAlive, func(m *nats.Msg) { m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	without, with := alone.Conn().ConnectedUrl(), s.Conn().ConnectedUrl()
	var conns []*nats.Conn
	a := begin(t, s, "a", func(c *bridge.Config) {
		c.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			opts = append(opts, nats.Name(name), nats.DontRandomize())
			if len(conns) == 3 { // the third connection is only a probe
				return nats.Connect(with, opts...)
			}
			nc, err := nats.Connect(without+","+with, opts...)
			conns = append(conns, nc)
			return nc, err
		}
	})
	eventually(t, "the gateway to be ready", func() bool { return a.Ready() == nil })
	for _, nc := range conns {
		eventually(t, nc.Opts.Name+" to move", func() bool { return nc.ConnectedUrl() == with })
	}
}
