package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"roomcast/gateway/client"
	"roomcast/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var lobby = proto.MustRoom("lobby")

// script is a WebSocket server whose frames the test writes one by one. So it can make mistakes
// that a gateway does not make.
type script struct {
	*httptest.Server
	t        *testing.T
	sessions chan *played
	refuse   chan int // HTTP statuses with which to refuse the next handshakes
	limits   string   // the field limits of each hello, as JSON
}

type played struct {
	t      *testing.T
	conn   net.Conn
	query  url.Values
	offers string // the subprotocols that the client offers
	token  string // the header Authorization of the client
}

func newScript(t *testing.T) *script {
	s := &script{t: t, sessions: make(chan *played, 16), refuse: make(chan int, 16), limits: "{}"}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case status := <-s.refuse:
			http.Error(w, "no room for you", status)
			return
		default:
		}
		up := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == "roomcast.v1" }}
		conn, _, _, err := up.Upgrade(r, w)
		if err != nil {
			return
		}
		s.sessions <- &played{t: t, conn: conn, query: r.URL.Query(), offers: r.Header.Get("Sec-WebSocket-Protocol"), token: r.Header.Get("Authorization")}
	}))
	t.Cleanup(s.Close)
	return s
}

// config connects to the script, with short waits.
func (s *script) config() client.Config {
	return client.Config{
		URLs: []string{s.URL}, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
		NetDial: (&net.Dialer{}).DialContext,
	}
}

// dial opens a client. It returns the client and its first session, after the server has sent the
// hello.
func (s *script) dial(cfg client.Config) (*client.Client, *played) {
	s.t.Helper()
	greeted := make(chan *played, 1)
	go func() {
		p := <-s.sessions
		p.say(`{"hello":{"session":"s1","you":{"id":"ann"},"resume":"ticket","limits":%s}}`, s.limits)
		greeted <- p
	}()
	c, err := client.Dial(within(s.t), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c, <-greeted
}

// again waits for the client's next session and sends it a hello.
func (s *script) again() *played {
	s.t.Helper()
	select {
	case p := <-s.sessions:
		s.t.Cleanup(func() { p.conn.Close() })
		p.say(`{"hello":{"session":"s2","you":{"id":"ann"},"resume":"ticket","limits":%s}}`, s.limits)
		return p
	case <-within(s.t).Done():
		s.t.Fatal("the client did not reconnect")
		return nil
	}
}

func (p *played) say(format string, args ...any) {
	wsutil.WriteServerText(p.conn, fmt.Appendf(nil, format, args...))
}

func (p *played) close(code proto.CloseCode) {
	ws.WriteFrame(p.conn, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), "because")))
	p.conn.Close()
}

// asked is a command that the client has sent.
type asked struct {
	ID   uint64
	Verb string
	Room string
	Text string
	Key  string

	Since *uint64
	Last  int
	Epoch string
	At    string
}

// hear returns the client's next command. It fails the test if the command does not have the given
// verb.
func (p *played) hear(verb string) asked {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := wsutil.ReadClientText(p.conn)
	if err != nil {
		p.t.Fatalf("wait for %s: %v", verb, err)
	}
	var raw map[string]json.RawMessage
	var a asked
	if err := json.Unmarshal(b, &raw); err != nil {
		p.t.Fatal(err)
	}
	json.Unmarshal(raw["id"], &a.ID)
	for name, v := range raw {
		if name != "id" {
			a.Verb = name
			json.Unmarshal(v, &a)
		}
	}
	if a.Verb != verb {
		p.t.Fatalf("got %s, want %s", b, verb)
	}
	return a
}

// leave waits for a leave and answers it.
func (p *played) leave() {
	p.t.Helper()
	p.say(`{"id":%d,"ok":{"room":"lobby"}}`, p.hear("leave").ID)
}

// admit waits for a join and answers it with the given head.
func (p *played) admit(head uint64) asked {
	p.t.Helper()
	return p.admitTo("e1", head)
}

func (p *played) admitTo(epoch string, head uint64) asked {
	p.t.Helper()
	a := p.hear("join")
	p.say(`{"id":%d,"ok":{"room":"lobby","seq":%d,"epoch":"%s","at":"%s"}}`, a.ID, head, epoch, at(head))
	return a
}

// at returns the time of the event with the given seq.
func at(seq uint64) string { return fmt.Sprintf("2026-11-22T10:53:07.%03dZ", seq) }

func (p *played) event(seq uint64) {
	p.say(`{"room":"lobby","seq":%d,"at":"%s","from":{"id":"bob"},"text":"m%d"}`, seq, at(seq), seq)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// join calls Join for the lobby and lets the script answer it.
func join(t *testing.T, c *client.Client, p *played, from proto.From, head uint64) asked {
	t.Helper()
	got := make(chan asked, 1)
	go func() { got <- p.admit(head) }()
	if h, err := c.Join(within(t), lobby, from); err != nil || h != head {
		t.Fatalf("got head %d, %v, want %d", h, err, head)
	}
	return <-got
}

// await returns the next notice that want accepts.
func await(t *testing.T, c *client.Client, want func(client.Notice) bool) client.Notice {
	t.Helper()
	for {
		n, err := c.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if want(n) {
			return n
		}
	}
}

func isEvent(n client.Notice) bool { return n.Event != nil }

func wantEvents(t *testing.T, c *client.Client, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		if n := await(t, c, isEvent); n.Event.Seq != seq {
			t.Fatalf("got event %d, want %d", n.Event.Seq, seq)
		}
	}
}
