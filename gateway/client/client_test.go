package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"roomcast/gateway/client"
	"roomcast/proto"
)

type said struct {
	ack client.Ack
	err error
}

func say(t *testing.T, c *client.Client, text, key string) <-chan said {
	done := make(chan said, 1)
	go func() {
		m := client.Text(text)
		m.Key = key
		ack, err := c.Say(within(t), lobby, m)
		done <- said{ack, err}
	}()
	return done
}

func TestSayIsSentAgainUntilItsAck(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 5)
	done := say(t, c, "hi", "k1")
	if a := p.hear("say"); a.Key != "k1" || a.Text != "hi" {
		t.Fatalf("got %+v", a)
	}
	p.event(6)
	wantEvents(t, c, 6)
	p.conn.Close() // the answer is lost

	p = s.again()
	if p.offers != "roomcast.v1, resume.ticket" || p.query.Has("resume") {
		t.Errorf("got offers %q and query %v, want the resume string among the offers only", p.offers, p.query)
	}
	if a := p.admit(6); a.Since == nil || *a.Since != 6 || a.Epoch != "e1" {
		t.Errorf("got join %+v, want since 6 in e1", a)
	}
	a := p.hear("say")
	if a.Key != "k1" {
		t.Errorf("got key %q, want k1", a.Key)
	}
	p.say(`{"id":%d,"ok":{"seq":6,"at":"2026-11-22T10:53:07.123Z","duplicate":true}}`, a.ID)
	if got := <-done; got.err != nil || got.ack.Seq != 6 || !got.ack.Duplicate {
		t.Errorf("got %+v", got)
	}
}

// The answer to a message was lost, and the server may have forgotten the message's key. The client
// looks for the message in the replay of the next connection. If the replay does not contain the
// message, the client sends it again.
func TestAMessageWithAForgottenKeyIsLookedForInTheReplay(t *testing.T) {
	const own = `{"room":"lobby","seq":%d,"at":"%s","from":{"id":"%s"},"key":"k1","text":"hi"}`
	for _, test := range []struct {
		name   string
		replay func(p *played)
		again  bool
		want   error
	}{
		{"the replay has the message", func(p *played) { p.event(6); p.say(own, 7, at(7), "ann") }, false, nil},
		{"it is not there", func(p *played) { p.event(6); p.event(7) }, true, nil},
		{"the replay has the key only with another sender", func(p *played) { p.event(6); p.say(own, 7, at(7), "bob") }, true, nil},
		{"events are missing", func(p *played) { p.say(`{"room":"lobby","gap":{"from":6,"to":6,"reason":"trimmed"}}`); p.event(7) }, false, client.ErrUncertain},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScript(t)
			s.limits = `{"key_window_ms":1}`
			c, p := s.dial(s.config())
			join(t, c, p, proto.From{}, 5)
			done := say(t, c, "hi", "k1")
			p.hear("say")
			p.conn.Close() // the answer is lost
			p = s.again()
			p.admit(7)
			test.replay(p)
			wantSeq := uint64(7)
			if test.again {
				a := p.hear("say")
				wantSeq = 8
				p.say(`{"id":%d,"ok":{"seq":8,"at":"2026-11-22T10:53:07.123Z"}}`, a.ID)
			}
			got := <-done
			if !errors.Is(got.err, test.want) || test.want == nil && got.ack.Seq != wantSeq {
				t.Errorf("got %+v, want seq %d and %v", got, wantSeq, test.want)
			}
			next := say(t, c, "next", "k2")
			a := p.hear("say")
			p.say(`{"id":%d,"ok":{"seq":9,"at":"2026-11-22T10:53:07.123Z"}}`, a.ID)
			if got := <-next; a.Key != "k2" || got.err != nil {
				t.Errorf("after it got %+v and %v, want the next message", a, got.err)
			}
		})
	}
}

func TestRefusedMessagesKeepTheirOrder(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 0)
	first := say(t, c, "1", "k1")
	a := p.hear("say")
	second := say(t, c, "2", "k2")
	p.say(`{"id":%d,"error":{"code":"unavailable","message":"wait","retry_ms":1}}`, a.ID)
	for i, want := range []string{"k1", "k2"} {
		a := p.hear("say")
		if a.Key != want {
			t.Fatalf("got %q, want %q", a.Key, want)
		}
		p.say(`{"id":%d,"ok":{"seq":%d,"at":"2026-11-22T10:53:07.123Z"}}`, a.ID, i+1)
	}
	if a, b := <-first, <-second; a.err != nil || b.err != nil || a.ack.Seq != 1 || b.ack.Seq != 2 {
		t.Errorf("got %+v and %+v", a, b)
	}

	third := say(t, c, "3", "k3")
	a = p.hear("say")
	p.say(`{"id":%d,"error":{"code":"room_closed","message":"done for today"}}`, a.ID)
	var refusal *proto.Refusal
	if got := <-third; !errors.As(got.err, &refusal) || refusal.Code != proto.RoomClosed {
		t.Errorf("got %v, want room_closed", got.err)
	}
}

func TestNextReturnsEachEventOnce(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{Last: 2}, 8)
	p.event(7)
	p.event(8)
	p.event(8) // the client has received 8 before
	p.event(9)
	p.event(11) // 10 is missing
	p.event(12)
	wantEvents(t, c, 7, 8, 9)
	p.leave()
	p.event(13)
	if a := p.admit(13); a.Since == nil || *a.Since != 9 {
		t.Errorf("got %+v, want since 9", a)
	}
	for seq := range uint64(4) {
		p.event(10 + seq)
	}
	wantEvents(t, c, 10, 11, 12, 13)
	if got := c.Stats(); got.Repeats != 1 || got.Holes != 1 {
		t.Errorf("got %+v, want one repeat and one hole", got)
	}

	p.say(`{"room":"lobby","gap":{"from":14,"to":20,"reason":"trimmed"}}`)
	p.event(21)
	if n := await(t, c, func(n client.Notice) bool { return n.Gap != nil }); n.Gap.To != 20 {
		t.Errorf("got %+v, want a gap to 20", n.Gap)
	}
	wantEvents(t, c, 21)
	p.say(`{"room":"lobby","gap":{"from":22,"to":0,"reason":"reset"}}`)
	p.event(1)
	wantEvents(t, c, 1)
}

func TestClientLeavesAClosedRoom(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{HasSince: true}, 3)
	closed := `{"room":"lobby","seq":%d,"at":"2026-11-22T10:53:07.123Z","kind":"closed","from":{"id":"api"},"why":"enough"}`
	p.say(closed, 1) // the room was reopened after this close
	p.event(2)
	p.event(3)
	wantEvents(t, c, 1, 2, 3)
	done := say(t, c, "x", "k")
	a := p.hear("say")
	p.say(`{"id":%d,"error":{"code":"not_joined","message":"join the room first"}}`, a.ID)
	p.admit(3)
	p.hear("say")
	p.say(closed, 4)
	wantEvents(t, c, 4)
	refused := await(t, c, func(n client.Notice) bool { return n.Refused != nil }).Refused
	if got := <-done; !uncertain(got.err) || refused.Code != proto.RoomClosed {
		t.Errorf("got %v and %v, want ErrUncertain and room_closed", got.err, refused)
	}
}

// uncertain reports whether err says that a message may be stored, and is no refusal.
func uncertain(err error) bool {
	var refusal *proto.Refusal
	return errors.Is(err, client.ErrUncertain) && !errors.As(err, &refusal)
}

// The server refuses the join of a new connection. Then a message that an earlier connection has
// sent may be stored. A message that was never sent is not stored.
func TestARefusedJoinLeavesOnlySentMessagesUncertain(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 3)
	sent := say(t, c, "x", "k1")
	p.hear("say")
	p.conn.Close()
	p = s.again()
	a := p.hear("join")
	waiting := say(t, c, "y", "k2") // never sent: the client refuses it with the join, or later
	p.say(`{"id":%d,"error":{"code":"banned","message":"no"}}`, a.ID)
	if got := <-sent; !uncertain(got.err) {
		t.Errorf("got %v, want ErrUncertain", got.err)
	}
	var refusal *proto.Refusal
	if got := <-waiting; !errors.As(got.err, &refusal) {
		t.Errorf("got %v, want a refusal", got.err)
	}
}

// lagged waits until the client has received more events than fit into its buffer.
func lagged(t *testing.T, c *client.Client) {
	t.Helper()
	for ctx := within(t); c.Stats().Lags == 0; runtime.Gosched() {
		if ctx.Err() != nil {
			t.Fatal("no lag with more events than fit into the buffer")
		}
	}
}

func TestFullBufferLosesNothing(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	cfg.Buffer = 3
	c, p := s.dial(cfg)
	if n, err := c.Next(within(t)); err != nil || n.Hello == nil {
		t.Fatalf("got %+v, %v, want hello", n, err)
	}
	join(t, c, p, proto.From{}, 0)
	for seq := uint64(1); seq <= 6; seq++ {
		p.event(seq)
	}
	lagged(t, c)
	done := say(t, c, "x", "k") // must return although the test does not call Next
	a := p.hear("say")
	p.say(`{"id":%d,"ok":{"seq":7,"at":"2026-11-22T10:53:07.123Z"}}`, a.ID)
	if got := <-done; got.err != nil {
		t.Fatal(got.err)
	}
	wantEvents(t, c, 1, 2, 3)
	p.leave()
	if a := p.admit(7); *a.Since != 3 {
		t.Errorf("got since %d, want 3", *a.Since)
	}
	p.event(4)
	wantEvents(t, c, 4)
	if got := c.Stats().Lags; got != 1 {
		t.Errorf("got %d lags, want 1", got)
	}
}

// When a connection breaks, the new session is in no room. The client joins its rooms again even if
// its buffer is full.
func TestFullBufferLosesNothingWithItsConnection(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	cfg.Buffer = 2 // space for the hello and one event
	c, p := s.dial(cfg)
	join(t, c, p, proto.From{}, 0)
	p.event(1)
	p.event(2)
	lagged(t, c)
	p.conn.Close()
	p = s.again()
	done := say(t, c, "x", "k")
	if a := p.admit(2); *a.Since != 1 {
		t.Errorf("got since %d, want 1", *a.Since)
	}
	a := p.hear("say")
	p.say(`{"id":%d,"ok":{"seq":3,"at":"2026-11-22T10:53:07.123Z"}}`, a.ID)
	if got := <-done; got.err != nil {
		t.Fatal(got.err)
	}
	wantEvents(t, c, 1)
	p.event(2)
	wantEvents(t, c, 2)
}

func TestCloseCodeDecidesReconnect(t *testing.T) {
	for _, m := range proto.CloseCodes {
		t.Run(m.Name, func(t *testing.T) {
			s := newScript(t)
			c, p := s.dial(s.config())
			p.close(m.Code)
			if m.Reconnect {
				s.again()
				n := await(t, c, func(n client.Notice) bool { return n.Link != nil })
				var closed *client.CloseError
				if !errors.As(n.Link.Err, &closed) || closed.Code != m.Code {
					t.Errorf("got %v, want %d", n.Link.Err, m.Code)
				}
				return
			}
			for {
				_, err := c.Next(within(t))
				var closed *client.CloseError
				if errors.As(err, &closed) {
					if closed.Code != m.Code || closed.Reason != "because" {
						t.Errorf("got %v, want %d", err, m.Code)
					}
					return
				} else if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestRefusedHandshakesAreRetriedOrReturned(t *testing.T) {
	s := newScript(t)
	s.refuse <- http.StatusForbidden
	_, err := client.Dial(within(t), s.config())
	var refused *client.RefusedError
	if !errors.As(err, &refused) || refused.Status != 403 || refused.Message != "no room for you" {
		t.Errorf("got %v, want 403", err)
	}
	s.refuse <- http.StatusServiceUnavailable
	s.refuse <- http.StatusTooManyRequests
	s.dial(s.config()) // succeeds after both refusals
}

func TestSilentConnectionIsReplaced(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	cfg.Quiet = 20 * time.Millisecond
	s.dial(cfg)
	s.again() // the client leaves a server that does not answer pings

	s = newScript(t) // the client above continues to connect
	cfg = s.config()
	cfg.Patience = 2 * time.Second // the test must answer within this time
	c, p := s.dial(cfg)
	join(t, c, p, proto.From{}, 0)
	say(t, c, "x", "k")
	p.hear("say")
	p = s.again() // the client leaves a server that does not answer a command
	p.admit(0)
	if a := p.hear("say"); a.Key != "k" {
		t.Errorf("got %+v, want the same key", a)
	}
}

func TestCallsEndWithContextOrClient(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	ctx, cancel := context.WithCancel(t.Context())
	joined := make(chan error, 1)
	go func() {
		_, err := c.Join(ctx, lobby, proto.From{})
		joined <- err
	}()
	p.hear("join")
	cancel()
	if err := <-joined; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	p.leave()

	signalled := make(chan error, 1)
	go func() { signalled <- c.Signal(t.Context(), lobby, "typing", nil) }()
	p.hear("signal")
	p.conn.Close()
	if err := <-signalled; !errors.Is(err, client.ErrLost) {
		t.Errorf("got %v, want lost", err)
	}

	p = s.again()
	join(t, c, p, proto.From{}, 0)
	done := say(t, c, "x", "k")
	p.hear("say")
	c.Close()
	if got := <-done; !errors.Is(got.err, client.ErrClosed) {
		t.Errorf("got %v, want closed", got.err)
	}
	if _, err := c.Say(t.Context(), lobby, client.Text("y")); !errors.Is(err, client.ErrClosed) {
		t.Errorf("got %v, want closed", err)
	}
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = client.Dial(ctx, client.Config{URLs: []string{"ws://" + ln.Addr().String()}, MinBackoff: time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want deadline exceeded", err)
	}
}

func TestALostRightEndsTheMembership(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 3)
	p.say(`{"room":"lobby","ended":{"code":4106,"reason":"no right"}}`)
	n := await(t, c, func(n client.Notice) bool { return n.Refused != nil })
	if n.Refused.Code != proto.Forbidden || n.Refused.Message != "no right" || n.Room != lobby {
		t.Errorf("got %+v, want the refusal of the lobby", n)
	}
}

// The longest wait begins at a nanosecond, so a longer one shows that it has grown.
func TestWaitsGrowIfEachSessionEndsSoon(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	cfg.MinBackoff = 1
	c, p := s.dial(cfg)
	for {
		p.close(proto.CloseShed)
		n, err := c.Next(within(t))
		for err == nil && n.Link == nil {
			n, err = c.Next(within(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		if n.Link.Again > 1 {
			return
		}
		p = s.again()
	}
}
