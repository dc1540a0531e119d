package session_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/auth"
	"roomcast/gateway/limit"
)

// The connections of one sender share one rate. Each connection of a guest has a rate of its
// own.
func TestConnectionsOfASenderShareItsRate(t *testing.T) {
	g := start(t, withTokens(t), func(s *settings) {
		s.auth.GuestRights = []string{"read say"}
		s.session.Rates, s.session.Rate = limit.NewRates(), limit.Rate{PerSecond: 0.001, Burst: 10}
	})
	token := tokenOf("ann", "*=read say", time.Hour)
	first, second, guest := g.bearer("/ws", token), g.bearer("/ws", token), g.json("/ws")
	for _, c := range []*client{first, second, guest} {
		c.want(`{"hello":*`)
	}
	for i := range 14 { // the gateway accepts ten of them
		c := []*client{first, second}[i%2]
		c.send(fmt.Sprintf(`{"id":%d,"ping":{}}`, i))
		if i < 10 {
			c.want(fmt.Sprintf(`{"id":%d,"ok":{}}`, i))
		} else {
			c.want(fmt.Sprintf(`{"id":%d,"error":{"code":"rate_limited",*"retry_ms":*`, i))
		}
	}
	for i := range 10 {
		guest.send(fmt.Sprintf(`{"id":%d,"ping":{}}`, i))
		guest.want(fmt.Sprintf(`{"id":%d,"ok":{}}`, i))
	}
	other := g.bearer("/ws", tokenOf("ben", "*=read say", time.Hour))
	other.want(`{"hello":*`)
	other.send(`{"id":1,"ping":{}}`)
	other.want(`{"id":1,"ok":{}}`)
}

// While the gateway cannot find out whether a ticket was used before, the ticket opens no
// session. The gateway tells the client to reconnect.
func TestTicketWhileRoomsvcIsAway(t *testing.T) {
	k := startKeyed(t)
	g := start(t, k.here, noGuests)
	ticket := g.ticket("ann", `{"*":"read"}`)
	running := g.json("/ws?ticket=" + g.ticket("ann", `{"*":"read"}`))
	running.want(`{"hello":*`)
	k.stop()
	g.json("/ws?ticket=" + ticket).want("close 4004 *")
	first := g.json("/ws")
	first.send(`{"id":1,"auth":{"ticket":"` + ticket + `"}}`)
	first.want("close 4004 *")
	running.send(`{"id":1,"ping":{}}`) // other sessions must continue
	running.want(`{"id":1,"ok":{}}`)
	expired := g.ticket("ann", `{"*":"read"}`, func(t *auth.Ticket) { t.Expires = time.Now().Add(-time.Second) })
	g.json("/ws?ticket=" + expired).want("close 4003 *")
}

// A client presents one ticket to two gateways at once, and one of them is cut off from NATS. The
// ticket opens at most one session, and after the cut it opens no other.
func TestTicketAtAGatewayWithoutNATS(t *testing.T) {
	k := startKeyed(t)
	var away atomic.Bool
	conns := make(chan *nats.Conn, 10)
	well, cut := start(t, k.here, noGuests), start(t, noGuests, func(s *settings) {
		s.dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			nc, err := k.cfg.Dial(name, append(opts, nats.SetCustomDialer(dialer(func(network, addr string) (net.Conn, error) {
				if away.Load() {
					return nil, errors.New("NATS is away")
				}
				return net.Dial(network, addr)
			})))...)
			conns <- nc
			return nc, err
		}
	})
	cut.json("/ws?ticket=" + cut.ticket("ann", `{"*":"read"}`)).want(`{"hello":*`)
	away.Store(true)
	for len(conns) > 0 {
		if err := (<-conns).ForceReconnect(); err != nil {
			t.Fatal(err)
		}
	}
	ticket := well.ticket("ann", `{"*":"read"}`)
	lost, opened := cut.json("/ws?ticket="+ticket), well.json("/ws?ticket="+ticket)
	lost.want("close 4004 *")
	opened.want(`{"hello":*`)
	away.Store(false)
	eventually(t, "the gateway to be ready again", func() bool { return cut.bridge.Ready() == nil })
	got := "close 4004 "
	for tries := 0; tries < 10 && matches("close 4004 *", got); tries++ {
		got = cut.json("/ws?ticket=" + ticket).next()
	}
	if !matches("close 4003 *used before*", got) {
		t.Errorf("the ticket of an open session: got %s", got)
	}
}

// A banned user leaves out the token and becomes a guest, with another id and the rights of
// guests. The resume string of the session with the token must not give the guest the user's
// identity.
func TestABannedUserWithoutTheTokenIsAGuest(t *testing.T) {
	m := startModerated(t)
	ann := m.a.bearer("/room/"+m.room+"/", tokenOf("ann", "*=read say", time.Hour))
	resume := resumeIn(t, ann.wantSoon(`{"hello":*`))
	m.act(`"act":"ban","member":"ann"`)
	ann.wantSoon("close 4102 *")
	m.a.open("/room/"+m.room+"/", "roomcast.v1, resume."+resume).want("close 4003 *")
	c := m.a.json("/room/" + m.room + "/") // guests have no rights here
	c.send(`{"id":1,"say":{"text":"hi"}}`)
	c.want("close 4107 *")
	open := start(t, withTokens(t), func(s *settings) { s.auth.GuestRights = []string{"read say"} })
	open.open("/room/"+m.room+"/", "roomcast.v1, resume."+resume).want("close 4003 *")
	guest := open.json("/room/" + m.room + "/")
	if id := idIn(guest.wantSoon(`{"hello":*`)); !strings.HasPrefix(id, "anon-") {
		t.Errorf("without its token, the banned user is %s", id)
	}
	m.act(`"act":"ban","member":"*guests"`)
	guest.wantSoon("close 4102 *")
	open.json("/room/" + m.room + "/").wantSoon("close 4102 *")
}
