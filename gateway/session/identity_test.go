package session_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/proto"
)

// A token with the latest possible end must not end early because of an overflow.
func TestTokenMayEndInTheFarFuture(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token := func(exp int64) string {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "iat": now.Unix(), "exp": exp}).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	g := start(t, func(s *settings) {
		s.auth.KeyFiles, s.session.QueryToken, s.session.PingAfter = []string{path}, true, time.Second
	})
	exp := now.Add(proto.MaxCredential).Unix()
	for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
		h := g.connect()
		h.write([]byte(strings.Replace(handshakeOf("/room/future/", "roomcast.v1"), "Host:", "Authorization: "+scheme+" "+token(exp)+"\r\nHost:", 1)))
		if got := h.status(); got != 101 {
			t.Errorf("%s: got status %d, want 101", scheme, got)
		}
		h.want(`{"hello":*"you":{"id":"ann"*`)
	}
	c := g.json("/room/future/?token=" + token(exp))
	c.want(`{"hello":*`)
	c.send(`{"id":1,"auth":{"token":"` + token(exp) + `"}}`)
	c.want(`{"id":1,"ok":*`)
	for { // until a ping arrives, by which time the gateway has also checked the token's end
		m, err := c.read()
		if err != nil || m.op == 8 {
			t.Fatalf("got %v, %v, want a ping", m, err)
		}
		if m.op == 9 {
			return
		}
	}
}

// The log has a line for each session that begins or ends, and with LogMessages a line for each
// message. It never contains a message text, a token or a resume string. No client can inject a
// line break.
func TestLogContainsNoTextsAndNoCredentials(t *testing.T) {
	for _, messages := range []bool{false, true} {
		t.Run(fmt.Sprintf("messages=%v", messages), func(t *testing.T) {
			var mu sync.Mutex
			var lines bytes.Buffer
			handler := slog.NewTextHandler(writer(func(p []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return lines.Write(p)
			}), &slog.HandlerOptions{Level: slog.LevelDebug})
			g := start(t, func(s *settings) {
				s.session.Log, s.bridge.Log, s.bridge.Publish.LogMessages = slog.New(handler), slog.New(handler), messages
			})
			c := g.json("/room/logged/?name=Ann%20%E2%9C%93")
			hello := c.want(`{"hello":*`)
			_, rest, _ := strings.Cut(hello, `"resume":"`)
			resume, _, _ := strings.Cut(rest, `"`)
			c.send(`{"id":1,"say":{"text":"my secret\nlevel=ERROR"}}`)
			c.next()
			c.next()
			c.write([]byte{0x88, 0x80, 0, 0, 0, 0})
			c.want("close 0 ")
			c.nc.Close()
			eventually(t, "the session's last line", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return strings.Contains(lines.String(), "session gone")
			})
			mu.Lock()
			defer mu.Unlock()
			out := lines.String()
			for _, want := range []string{`msg="session opened"`, `name="Ann ✓"`, `msg="session closed"`, "reason=client"} {
				if !strings.Contains(out, want) {
					t.Errorf("got log without %s:\n%s", want, out)
				}
			}
			if strings.Contains(out, "my secret") {
				t.Errorf("got a log with the text:\n%s", out)
			}
			if got := strings.Contains(out, "msg=message room=logged from=anon-"); got != messages {
				t.Errorf("got a line for the message: %v, want %v:\n%s", got, messages, out)
			}
			if strings.Contains(out, resume) || strings.Contains(out, "\nlevel=ERROR") {
				t.Errorf("got a resume string or a forged line in the log:\n%s", out)
			}
		})
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// The gateway compresses a message once, for all members that accept compression. It does not
// compress short messages.
func TestCompressedRoom(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Compress = true })
	c := g.connect()
	c.write([]byte(strings.Replace(handshakeOf("/room/deflate/", ""), "Host:",
		"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\nHost:", 1)))
	if got := c.status(); got != 101 {
		t.Fatalf("got status %d, want 101", got)
	}
	plain := g.text("/room/deflate/")
	long := strings.Repeat("a long message ", 40)
	plain.send("short")
	plain.send(long)
	plain.hears("short", long)
	c.hears("short")

	var h [4]byte
	if _, err := io.ReadFull(c.r, h[:2]); err != nil {
		t.Fatal(err)
	}
	if h[0] != 0xC1 || h[1] >= 126 {
		t.Fatalf("got frame header % x, want a short compressed text", h[:2])
	}
	body := make([]byte, h[1])
	if _, err := io.ReadFull(c.r, body); err != nil {
		t.Fatal(err)
	}
	tail := []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}
	text, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(body), bytes.NewReader(tail))))
	if err != nil || stamped(t, string(text)) != long {
		t.Errorf("got %q, %v, want the message", text, err)
	}
}

// A client is in several busy rooms and reads only a little at a time. It must receive whole
// frames, and the events of each room in order.
func TestFramesStayWholeOverASmallBuffer(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, func(s *settings) {
			s.session.Rate.PerSecond = 0
			s.loop.SendBuffer = 4 << 10
		})
		run := time.Now().UnixNano()
		const rooms, messages = 4, 60
		c := g.json("/ws")
		c.nc.(*net.TCPConn).SetReadBuffer(8 << 10)
		c.want(`{"hello":*`)
		for i := range rooms {
			c.send(fmt.Sprintf(`{"id":%d,"join":{"room":"r%d_%d"}}`, i, i, run))
			c.want(fmt.Sprintf(`{"id":%d,"ok":*`, i))
		}
		var sending sync.WaitGroup
		defer sending.Wait()
		for i := range rooms {
			s := g.text(fmt.Sprintf("/room/r%d_%d/", i, run))
			sending.Go(func() {
				for n := range messages {
					s.send(fmt.Sprintf("%d %s", n, strings.Repeat("x", n*7%900)))
					s.next()
				}
			})
		}
		next := make([]int, rooms)
		for range rooms * messages {
			got := c.next()
			var room, seq, body int
			if _, err := fmt.Sscanf(got, `{"room":"r%d_`, &room); err != nil {
				t.Fatalf("got %s: %v", got, err)
			}
			_, rest, _ := strings.Cut(got, `"seq":`)
			fmt.Sscanf(rest, "%d", &seq)
			_, rest, _ = strings.Cut(got, `"text":"`)
			fmt.Sscanf(rest, "%d", &body)
			if seq != next[room]+1 || body != next[room] {
				t.Fatalf("room %d: got seq %d with message %d, want seq %d with message %d", room, seq, body, next[room]+1, next[room])
			}
			next[room]++
		}
	})
}
