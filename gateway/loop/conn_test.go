package loop_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"roomcast/gateway/loop"
)

// lines returns a Received function that uses only whole lines, and sends each line to out.
func lines(out chan<- string) func(loop.ID, []byte) int {
	return func(_ loop.ID, p []byte) int {
		used := 0
		for {
			end := bytes.IndexByte(p[used:], '\n')
			if end < 0 {
				return used
			}
			out <- string(p[used : used+end])
			used += end + 1
		}
	}
}

func TestUnusedBytesArePassedAgain(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		out := make(chan string, 100)
		h := &script{received: lines(out)}
		c := dial(t, serve(t, cfg, h))

		long := strings.Repeat("x", 100_000)
		io.WriteString(c, "one\ntwo\nthr")
		for _, b := range []byte("ee\n") {
			c.Write([]byte{b})
		}
		io.WriteString(c, long+"\n"+long+"\nfive\n")
		for _, want := range []string{"one", "two", "three", long, long, "five"} {
			if got := <-out; got != want {
				t.Fatalf("got %.20q (%d bytes), want %.20q (%d bytes)", got, len(got), want, len(want))
			}
		}
	})
}

func TestTooManyUnusedBytesCloseTheConnection(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		cfg.MaxPending = 100_000
		h := &script{received: func(loop.ID, []byte) int { return 0 }}
		c := dial(t, serve(t, cfg, h))
		c.Write(make([]byte, 200_000))
		eventually(t, "gone", func() bool { return len(h.goneErrors()) == 1 })
		if why := h.goneErrors()[0]; why != loop.ErrPending {
			t.Fatalf("got %v, want %v", why, loop.ErrPending)
		}
	})
}

// A peer that reads late receives all bytes in order, although some calls of Write accepted only
// a part of their bytes.
func TestWritableFollowsAShortWrite(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		data := make([]byte, 4<<20)
		for i := range data {
			data[i] = byte(i * 7 / 3)
		}
		rest, shorts := data, 0
		h := &script{}
		push := func(id loop.ID) {
			for len(rest) > 0 {
				part := rest[:min(len(rest), 50_000)]
				n := h.l.Write(id, part)
				rest = rest[n:]
				if n < len(part) {
					shorts++
					return
				}
			}
			h.l.Close(id)
		}
		h.received = func(id loop.ID, p []byte) int { push(id); return len(p) }
		h.writable = push
		c := dial(t, serve(t, cfg, h))
		c.Write([]byte("go"))
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(data))
		}
		eventually(t, "gone", func() bool { return len(h.goneErrors()) == 1 })
		if shorts == 0 {
			t.Fatal("no write was short")
		}
	})
}

func TestPauseStopsReadingUntilResume(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		got := make(chan string, 10)
		h := &script{}
		h.received = func(id loop.ID, p []byte) int { // one letter, then a pause
			got <- string(p[:1])
			h.l.Pause(id)
			return 1
		}
		c := dial(t, serve(t, cfg, h))
		io.WriteString(c, "abc")
		c.CloseWrite() // the loop still delivers the unread bytes first
		for _, want := range []string{"a", "b", "c"} {
			if s := <-got; s != want {
				t.Fatalf("got %q, want %q", s, want)
			}
			// Events of other connections do not end the pause.
			idle := make(chan bool)
			for range 3 {
				h.l.Post(func() { idle <- true })
				<-idle
			}
			if len(got) > 0 {
				t.Fatal("received while paused")
			}
			h.l.Post(func() { h.l.Resume(h.conns()[0]) })
		}
		eventually(t, "gone", func() bool { return len(h.goneErrors()) == 1 })
		if why := h.goneErrors()[0]; why != io.EOF {
			t.Fatalf("got %v, want EOF", why)
		}
	})
}

// After a pause, the handler receives the unused bytes and answers them. The answer leaves in the
// same iteration, even if nothing else happens on the loop.
func TestTurnFollowsThePassingOfUnusedBytes(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		paused := make(chan bool, 1)
		var due []byte
		var from loop.ID
		h := &script{}
		h.received = func(id loop.ID, p []byte) int {
			if from == 0 {
				from = id
				h.l.Pause(id)
				paused <- true
				return 0
			}
			due = append(due, p...)
			return len(p)
		}
		h.turn = func() bool {
			due = due[h.l.Write(from, due):]
			return false
		}
		c := dial(t, serve(t, cfg, h))
		io.WriteString(c, "left")
		<-paused
		h.l.Post(func() { h.l.Resume(from) })
		got := make([]byte, 4)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "left" {
			t.Fatalf("got %q, %v, want the leftover bytes", got, err)
		}
	})
}

func TestGoneReportsHowEachConnectionEnded(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		h := &script{}
		seen := make(chan string, 10)
		h.received = func(id loop.ID, p []byte) int {
			seen <- string(p)
			switch string(p) {
			case "close":
				h.l.Write(id, []byte("bye"))
				h.l.Close(id)
				h.l.Close(id)
				if n := h.l.Write(id, []byte("late")); n != 0 {
					t.Errorf("Write after Close took %d bytes", n)
				}
			case "panic":
				panic("over what was received")
			}
			return len(p)
		}
		addr := serve(t, cfg, h)
		for _, tt := range []struct {
			send  string
			end   string // the client's next step
			want  error
			reads string
		}{
			{"close", "reads", loop.ErrClosed, "bye"},
			{"data before the end", "half-closes", io.EOF, ""},
			{"data before the reset", "resets", syscall.ECONNRESET, ""},
			{"panic", "reads", nil, ""},
		} {
			before := len(h.goneErrors())
			c := dial(t, addr)
			io.WriteString(c, tt.send)
			if got := <-seen; got != tt.send {
				t.Errorf("%s: received %q", tt.send, got)
			}
			switch tt.end {
			case "half-closes":
				c.CloseWrite()
			case "resets":
				c.SetLinger(0)
				c.Close()
			}
			if tt.end != "resets" {
				if got, _ := io.ReadAll(c); string(got) != tt.reads {
					t.Errorf("%s: client read %q, want %q", tt.send, got, tt.reads)
				}
			}
			eventually(t, "gone", func() bool { return len(h.goneErrors()) > before })
			found := tt.want == nil
			for _, why := range h.goneErrors() {
				found = found || errors.Is(why, tt.want)
			}
			if !found {
				t.Errorf("%s: got %v, want one %v", tt.send, h.goneErrors(), tt.want)
			}
			if n := len(h.goneErrors()); n != before+1 {
				t.Errorf("%s: Gone was called %d times", tt.send, n-before)
			}
		}
	})
}

func TestCloseWriteContinuesReading(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		var got []byte
		h := &script{}
		h.received = func(id loop.ID, p []byte) int {
			if len(got) == 0 {
				h.l.Write(id, []byte("last words"))
				h.l.CloseWrite(id)
			}
			got = append(got, p...)
			return len(p)
		}
		c := dial(t, serve(t, cfg, h))
		io.WriteString(c, "first")
		if said, err := io.ReadAll(c); string(said) != "last words" || err != nil {
			t.Fatalf("got %q, %v", said, err)
		}
		big := make([]byte, 1<<20)
		if _, err := c.Write(big); err != nil {
			t.Fatal(err)
		}
		c.Close()
		eventually(t, "gone", func() bool { return len(h.goneErrors()) == 1 })
		if len(got) != len("first")+len(big) || h.goneErrors()[0] != io.EOF {
			t.Fatalf("got %d bytes, %v", len(got), h.goneErrors()[0])
		}
	})
}

func TestDetachedConnectionServesHTTP(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg loop.Config) {
		h := &script{}
		accepted := &oneListener{conns: make(chan detached, 1)}
		h.received = func(id loop.ID, p []byte) int {
			if !bytes.Contains(p, []byte("\r\n\r\n")) {
				return 0
			}
			nc, err := h.l.Detach(id)
			if n := h.l.Write(id, []byte("late")); n != 0 {
				t.Errorf("Write after Detach took %d bytes", n)
			}
			accepted.conns <- detached{nc, err}
			return 0
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
		})}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(accepted) }()
		defer func() { srv.Close(); <-done }()

		c := dial(t, serve(t, cfg, h))
		io.WriteString(c, "POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n")
		io.WriteString(c, "\r\nbo")
		io.WriteString(c, "dy")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if string(body) != "POST /api body" {
			t.Fatalf("got %q", body)
		}
		eventually(t, "gone", func() bool { return len(h.goneErrors()) == 1 })
		if why := h.goneErrors()[0]; why != loop.ErrDetached {
			t.Fatalf("got %v, want %v", why, loop.ErrDetached)
		}
	})
}
