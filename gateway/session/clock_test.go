package session_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/gateway/limit"
	"roomcast/gateway/loop/clocktest"
)

// eachJump runs a test twice. The function set moves the clock an hour forward in the first run,
// and an hour back in the second.
func eachJump(t *testing.T, test func(t *testing.T, clock func(*settings), set func())) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			var offset atomic.Int64
			test(t, func(s *settings) {
				s.loop.Clock = func() time.Time { return clocktest.Set(time.Now(), time.Duration(offset.Load())) }
			}, func() { offset.Store(int64(by)) })
		})
	}
}

// After a change of the system's clock, pings come at their usual time and sessions stay open.
func TestPingsIgnoreTheWallClock(t *testing.T) {
	eachJump(t, func(t *testing.T, clock func(*settings), set func()) {
		g := start(t, clock, func(s *settings) { s.session.PingAfter, s.session.PongTime = time.Second, 5*time.Second })
		c := g.text("/room/clockpings/")
		set()
		for range 3 {
			c.nc.SetReadDeadline(time.Now().Add(8 * time.Second))
			m, err := c.read()
			if err != nil || m.op != 9 {
				t.Fatalf("got %v, %v, want a ping", m, err)
			}
			c.write(maskedFrame(0x8A, m.body))
		}
	})
}

// The clock changes while a session is paused because of its rate. The session continues on
// time.
func TestRateIgnoresTheWallClock(t *testing.T) {
	eachJump(t, func(t *testing.T, clock func(*settings), set func()) {
		g := start(t, clock, func(s *settings) { s.session.Rate = limit.Rate{PerSecond: 2, Burst: 1} })
		c := g.text("/room/clockrate/")
		for i := range 3 {
			c.send(fmt.Sprint("before ", i))
		}
		c.hears("before 0")
		set()
		c.hears("before 1")
		c.hears("before 2")
		c.send("after")
		c.hears("after")
	})
}

// The clock changes while a client is not reading for a moment. The gateway must not close the
// client as slow.
func TestSlowReadersAreNotJudgedByTheWallClock(t *testing.T) {
	eachJump(t, func(t *testing.T, clock func(*settings), set func()) {
		g := start(t, clock, func(s *settings) {
			s.session.Rate.PerSecond = 0
			s.session.SlowTime = time.Minute
			s.loop.SendBuffer = 4 << 10
		})
		room := fmt.Sprintf("clockslow%d", time.Now().UnixNano())
		slow, sender := g.json("/room/"+room+"/"), g.json("/room/"+room+"/")
		slow.want(`{"hello":*`)
		sender.want(`{"hello":*`)
		g.stuff(sender, room, 60, 40_000)
		set()
		time.Sleep(2500 * time.Millisecond) // longer than the interval at which the gateway looks at blocked sessions
		for seq := 1; seq <= 60; seq++ {
			slow.want(fmt.Sprintf(`{"room":"%s","seq":%d,*}`, room, seq))
		}
	})
}

// When the clock is set, the ends of tokens follow the new time.
func TestTokensEndByTheWallClock(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	eachJump(t, func(t *testing.T, clock func(*settings), set func()) {
		g := start(t, clock, func(s *settings) {
			s.auth.KeyFiles, s.session.QueryToken = []string{path}, true
			s.session.PingAfter = time.Second // so that the gateway checks sessions soon
		})
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": "ann", "iat": time.Now().Unix(), "exp": time.Now().Add(30 * time.Minute).Unix(),
		}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		c := g.text("/room/clocktoken/?token=" + token)
		set()
		for ahead := strings.HasSuffix(t.Name(), "/1h0m0s"); ; {
			c.nc.SetReadDeadline(time.Now().Add(8 * time.Second))
			m, err := c.read()
			switch {
			case err != nil:
				t.Fatal(err)
			case m.op == 9 && ahead:
				continue
			case m.op == 9, m.code == 4003 && ahead:
				return
			default:
				t.Fatalf("got %v", m)
			}
		}
	})
}
