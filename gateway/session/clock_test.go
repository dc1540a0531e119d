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

// eachJump runs a test twice, with a clock that set moves forward, and with one that it moves
// back.
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

// A change of the system's clock neither delays pings nor closes sessions.
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

// A session that waits because of its rate continues in time.
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

// A client reads nothing for a moment. A change of the clock must not make it look slow.
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
		time.Sleep(2500 * time.Millisecond) // more than one look at blocked sessions
		for seq := 1; seq <= 60; seq++ {
			slow.want(fmt.Sprintf(`{"room":"%s","seq":%d,*}`, room, seq))
		}
	})
}

// A change of the clock changes when a token ends.
func TestTokensEndByTheWallClock(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	eachJump(t, func(t *testing.T, clock func(*settings), set func()) {
		g := start(t, clock, func(s *settings) {
			s.auth.KeyFiles, s.session.QueryToken = []string{path}, true
			s.session.PingAfter = time.Second // so that sessions are looked at soon
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
