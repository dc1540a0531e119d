package session_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/session"
	"roomcast/proto"
)

// flood sends commands at the given rate, until the connection ends or the time is over. It
// returns the server's last frame. If a busy machine stops the test for a moment, flood leaves
// out the commands of this time. Sent together, they would exceed the rate.
func (c *client) flood(perSecond int, lasts time.Duration) (last message, sent int) {
	c.nc.SetDeadline(time.Now().Add(lasts + 20*time.Second))
	heard := make(chan message, 1)
	go func() {
		var last message
		for {
			m, err := c.read()
			if err != nil {
				heard <- last
				return
			}
			last = m
		}
	}()
	frames := strings.Repeat(string(maskedFrame(0x81, `{"id":1,"signal":{"type":"t"}}`)), max(1, perSecond/100))
	each := time.Second * time.Duration(max(1, perSecond/100)) / time.Duration(perSecond)
	begun := time.Now()
	for time.Since(begun) < lasts {
		if _, err := c.nc.Write([]byte(frames)); err != nil {
			break
		}
		sent += max(1, perSecond/100)
		time.Sleep(each)
	}
	c.write(maskedFrame(0x89, "end")) // a session that is still open answers this ping
	select {
	case last = <-heard:
	case <-time.After(time.Second):
		c.nc.Close()
		last = <-heard
	}
	return last, sent
}

// The gateway closes a JSON session that keeps sending far too much, even though some of its
// commands are accepted.
func TestFloodOfJSONIsClosed(t *testing.T) {
	g := start(t)
	c := g.json("/room/flood/")
	c.want(`{"hello":*`)
	last, sent := c.flood(2000, 5*time.Second)
	if last.code != int(proto.CloseFlood) {
		t.Errorf("after %d commands in 5 s: got %v, want close 4105", sent, last)
	}
	refused := g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Refusals(proto.RateLimited) })
	if refused > 250 {
		t.Errorf("%d commands were refused before the session was closed, want about 200", refused)
	}
}

// If a client sends only a little too much, the gateway refuses some of its commands, but does
// not close the session.
func TestSendingALittleTooMuchIsNoFlood(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate = limit.Rate{PerSecond: 20, Burst: 1} })
	c := g.json("/room/little/")
	c.want(`{"hello":*`)
	last, _ := c.flood(25, 8*time.Second)
	if last.op == 8 {
		t.Errorf("got %v, want the session to go on", last)
	}
	if n := g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Refusals(proto.RateLimited) }); n < 20 {
		t.Errorf("got %d refusals, want some", n)
	}
}

// A message must be complete within a time limit, even if some of its bytes keep arriving.
func TestMessageThatNeverEndsClosesItsSession(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) { s.session.MessageTime = 2 * time.Second })
		long := maskedFrame(0x81, strings.Repeat("x", 60_000))
		never := map[string]struct{ first, more []byte }{
			"half a header":      {long[:1], nil},
			"half a frame":       {long[:30_000], nil},
			"bytes one by one":   {maskedFrame(0x82, strings.Repeat("x", 60_000))[:30_000], []byte{1}},
			"fragments":          {maskedFrame(0x01, ""), maskedFrame(0x00, "")},
			"half with pings":    {maskedFrame(0x01, "half"), maskedFrame(0x89, "alive")},
			"half behind others": {append(maskedFrame(0x81, "whole"), long[:100]...), nil},
		}
		good := g.text("/room/unending/")
		for name, n := range never {
			c := g.text("/room/unending/")
			begun := time.Now()
			c.write(n.first)
			closed := make(chan string, 1)
			go func() {
				for {
					m, err := c.read()
					if err != nil || m.op == 8 {
						closed <- m.String()
						return
					}
				}
			}()
			var got string
			for got == "" && time.Since(begun) < 8*time.Second {
				select {
				case got = <-closed:
				case <-time.After(100 * time.Millisecond):
					c.nc.Write(n.more)
				}
			}
			if !matches("close 1008 *complete*", got) {
				t.Errorf("%s: got %q after %v, want close 1008", name, got, time.Since(begun))
			}
			c.nc.Close()
		}
		// A slow client may stay as long as it completes each message in time, however many
		// messages it sends.
		for range 5 {
			f := maskedFrame(0x81, "slow")
			good.write(f[:3])
			time.Sleep(600 * time.Millisecond)
			good.write(f[3:])
		}
		for heard := 0; heard < 5; {
			switch got := good.next(); {
			case strings.HasPrefix(got, "close"):
				t.Fatalf("a slow client got %s", got)
			case strings.HasSuffix(got, "slow"):
				heard++
			}
		}
	})
}

// One metric counts all the close codes that clients send. If each code had a metric, a client
// could create thousands of metrics. The log does not contain these codes either.
func TestCloseCodesOfClientsMakeNoMetric(t *testing.T) {
	var log bytes.Buffer
	g := start(t, func(s *settings) {
		s.loop.Loops = 1
		s.session.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	codes := []int{1000, 1001, 4000, 4003, 4105, 4999}
	for _, code := range codes {
		c := g.text("/room/codes/")
		c.write(maskedFrame(0x88, string([]byte{byte(code >> 8), byte(code)})))
		c.want(fmt.Sprintf("close %d *", code))
		c.ended()
	}
	for _, m := range proto.CloseCodes {
		if n := g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Closes(m.Code) }); n != 0 {
			t.Errorf("clients have moved the count of %d to %d", m.Code, n)
		}
	}
	if n := g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Closes(0) }); n != 0 {
		t.Errorf("clients have moved the count of other codes to %d", n)
	}
	if n := g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().ByClient.Load() }); n != uint64(len(codes)) {
		t.Errorf("got %d closed by clients, want %d", n, len(codes))
	}
	eventually(t, "all gone", func() bool {
		return g.sum(func(ss *session.Sessions) uint64 { return uint64(ss.Stats().Sockets.Load()) }) == 0
	})
	onLoop(g, func() {
		if log.Len() > 0 {
			t.Errorf("got log lines, want none:\n%s", log.String())
		}
	})
}

// onLoop runs f on the gateway's only loop, and waits for it.
func onLoop(g *gateway, f func()) {
	done := make(chan struct{})
	g.loops[0].Post(func() { f(); close(done) })
	<-done
}
