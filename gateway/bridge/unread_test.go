package bridge_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"roomcast/gateway/bridge"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
	"roomcast/proto/seal"
)

// lines is a log in memory. It is safe for concurrent use.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func keys(t *testing.T, secrets ...byte) *seal.Keys {
	t.Helper()
	var all [][]byte
	for _, b := range secrets {
		all = append(all, bytes.Repeat([]byte{b}, 32))
	}
	k, err := seal.New(all...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// If a gateway cannot read a record, it tells the members of the room, refuses joins with the
// reason, logs one error and is not ready. When it can read the log again, it is ready again.
func TestUnreadableRecordIsAnnounced(t *testing.T) {
	newer := func(t *testing.T, s *historytest.Server, room *historytest.Room) {
		m, rec := room.Next("three")
		m.Header.Set(proto.HeaderRecord, fmt.Sprintf("%d something new", proto.SchemaVersion+1))
		if err := room.Commit(m, rec); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name       string
		log, knows *seal.Keys // the keys that seal the log, and the keys that the gateway has
		write      func(t *testing.T, s *historytest.Server, room *historytest.Room)
		want       string
	}{
		{"newer version", nil, nil, newer, "upgrade this server"},
		{"newer version, sealed", keys(t, 1), keys(t, 1), newer, "upgrade this server"},
		{"new key", keys(t, 1), keys(t, 1), func(t *testing.T, s *historytest.Server, room *historytest.Room) {
			s.Keys = keys(t, 2, 1)
			room.Append(1)
		}, "does not have"},
		{"not sealed", keys(t, 1), keys(t, 1), func(t *testing.T, s *historytest.Server, room *historytest.Room) {
			s.Keys = nil
			room.Append(1)
		}, "not encrypted"},
		{"no keys", nil, nil, func(t *testing.T, s *historytest.Server, room *historytest.Room) {
			s.Keys = keys(t, 1)
			room.Append(1)
		}, "does not have"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := historytest.Start(t, 1000)
			s.Keys = test.log
			own(t, s)
			var logged lines
			a := open(t, s, "a", func(c *bridge.Config) {
				c.Keys, c.Log = test.knows, slog.New(slog.NewTextHandler(&logged, nil))
			})
			room, other := s.Room("lobby", "e1"), s.Room("hall", "e2")
			a.follow(t, room.Name)
			a.follow(t, other.Name)
			room.Append(2)
			other.Append(1)
			a.wantEvents(t, room.Name, 1, 2)
			stream := room.Last.Stream
			test.write(t, s, room)
			eventually(t, "members to be told", a.said(room.Name, test.want))
			if err := a.Ready(); err == nil || !strings.Contains(err.Error(), "lobby") {
				t.Errorf("ready: got %v", err)
			}
			a.Unfollow(room.Name, &a.follower)
			refused := make(chan error, 1)
			a.Follow(room.Name, &a.follower, func(_ history.Head, err error) { refused <- err })
			if err := <-refused; err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("join: got %v", err)
			}
			a.Read(history.Query{Room: room.Name, HasSince: true}, func(p reads.Page, err error) { p.Release(); refused <- err })
			if err := <-refused; err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("read: got %v", err)
			}
			if n := logged.count("level=ERROR"); n != 1 {
				t.Errorf("%d errors were logged, want 1", n)
			}
			if got := a.events(other.Name); len(got) != 1 {
				t.Errorf("members of another room were told %v", got)
			}
			log, err := s.JS.Stream(t.Context(), proto.StreamName)
			if err != nil {
				t.Fatal(err)
			}
			if err := log.DeleteMsg(t.Context(), room.Last.Stream); err != nil || room.Last.Stream == stream {
				t.Fatal(err)
			}
			eventually(t, "the gateway to be ready again", func() bool { return a.Ready() == nil })
			a.follow(t, room.Name)
		})
	}
}
