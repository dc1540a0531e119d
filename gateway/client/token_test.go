package client_test

import (
	"context"
	"errors"
	"testing"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// tokens returns a function for [client.Config].Token. It returns the tokens one after the other,
// and then the last one again and again.
func tokens(all ...string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		token := all[0]
		all = all[min(1, len(all)-1):]
		return token, nil
	}
}

func TestATokenIsNotPresentedAgainAfterItExpiredTwice(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	cfg.Token = tokens("t1", "t2")
	c, p := s.dial(cfg)
	p.close(proto.CloseTokenExpired)
	p = s.again()
	if p.token != "Bearer t2" {
		t.Errorf("got %q, want the fresh token", p.token)
	}
	p.close(proto.CloseTokenExpired)
	if p = s.again(); p.token != "Bearer t2" {
		t.Errorf("got %q, want the same token once more", p.token)
	}
	p.close(proto.CloseTokenExpired)
	for {
		if _, err := c.Next(within(t)); err != nil {
			var closed *client.CloseError
			if !errors.As(err, &closed) || closed.Code != proto.CloseTokenExpired {
				t.Errorf("got %v, want the end with 4003", err)
			}
			return
		}
	}
}

func TestAFailureToGetATokenIsTriedAgain(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	fails, good := 2, tokens("t1")
	cfg.Token = func(ctx context.Context) (string, error) {
		if fails--; fails >= 0 {
			return "", errors.New("the issuer is away")
		}
		return good(ctx)
	}
	if _, p := s.dial(cfg); p.token != "Bearer t1" {
		t.Errorf("got %q, want the token", p.token)
	}
}

func TestATicketOpensOneSessionAndTheResumeStringTheNext(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	cfg.Ticket, cfg.Resume = tokens("t1", "t2", "t3"), "of an earlier program"
	c, p := s.dial(cfg)
	shown := func(what, ticket, offers string) {
		t.Helper()
		if got := p.query.Get("ticket"); got != ticket || p.offers != offers || p.token != "" {
			t.Errorf("%s: got the ticket %q, the offers %q and the token %q, want %q and %q", what, got, p.offers, p.token, ticket, offers)
		}
	}
	shown("first", "t1", "roomcast.v1")
	p.conn.Close()
	p = s.again()
	shown("after a lost connection", "", "roomcast.v1, resume.ticket")
	p.close(proto.CloseTokenExpired)
	p = s.again()
	shown("after 4003", "t2", "roomcast.v1")
	p.conn.Close()
	p = <-s.sessions
	p.say(`{"hello":{"session":"s3","you":{"id":"anon-x"},"resume":"of a guest"}}`) // the server has other keys now
	p = s.again()
	shown("after a guest's hello", "t3", "roomcast.v1")
	if id := c.Hello().You.ID; id != "ann" {
		t.Errorf("the client is %s, want ann", id)
	}
}

func TestATicketThatExpiredTwiceIsNotShownAgain(t *testing.T) {
	s := newScript(t)
	cfg := s.config()
	cfg.Ticket = tokens("t1")
	c, p := s.dial(cfg)
	p.close(proto.CloseTokenExpired)
	s.again().close(proto.CloseTokenExpired)
	for {
		if _, err := c.Next(within(t)); err != nil {
			var closed *client.CloseError
			if !errors.As(err, &closed) || closed.Code != proto.CloseTokenExpired {
				t.Errorf("got %v, want the end with 4003", err)
			}
			return
		}
	}
}

func TestALeaveThatIsRefusedIsSentAgainBeforeTheJoin(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 5)
	p.event(7) // 6 is missing
	await(t, c, func(n client.Notice) bool { return n.Hello != nil })
	a := p.hear("leave")
	p.say(`{"id":%d,"error":{"code":"rate_limited","message":"slow down","retry_ms":1}}`, a.ID)
	p.leave()
	if a := p.admit(7); a.Since == nil || *a.Since != 5 {
		t.Errorf("got %+v, want since 5", a)
	}
	p.event(6)
	p.event(7)
	wantEvents(t, c, 6, 7)
}
