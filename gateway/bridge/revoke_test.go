package bridge_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/bridge"
	"roomcast/proto"
	"roomcast/proto/history/historytest"
)

// revocations records the ids that it receives. While open is locked, Add blocks.
type revocations struct {
	open sync.Mutex
	ids  sync.Map
}

func (r *revocations) Add(list []proto.Revocation) {
	r.open.Lock()
	defer r.open.Unlock()
	for _, e := range list {
		r.ids.Store(e.ID, true)
	}
}

// listRevocations answers the requests of gateways for the list of revocations.
func listRevocations(t *testing.T, nc *nats.Conn, list func() proto.Revocations) {
	t.Helper()
	_, err := nc.Subscribe(proto.SubjectRevocations, func(m *nats.Msg) {
		body, err := json.Marshal(list())
		if err != nil {
			t.Error(err)
		}
		_ = m.Respond(body)
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The NATS client drops revocations if too many come at once. The gateway then reads the list
// again.
func TestDroppedRevocationsAreReadFromTheList(t *testing.T) {
	const many = 1 << 12
	s := historytest.Start(t, 1000)
	own(t, s)
	var stored atomic.Int64
	listRevocations(t, s.Conn(), func() (page proto.Revocations) {
		for i := range stored.Load() {
			page.List = append(page.List, proto.Revocation{ID: fmt.Sprint(i), At: 1})
		}
		return page
	})
	var revoked revocations
	var feed *nats.Conn
	g := open(t, s, "a", func(cfg *bridge.Config) {
		cfg.Revoked = &revoked
		dial := cfg.Dial
		cfg.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
			nc, err := dial(name, opts...)
			if name == "gateway/a" {
				feed = nc
			}
			return nc, err
		}
	})
	revoked.open.Lock()
	stored.Store(many)
	before, nc := feed.Stats().InMsgs, s.Conn()
	for i := range many {
		if err := nc.Publish(proto.SubjectRevoked, fmt.Appendf(nil, `{"id":"%d","at":1}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the revocations to arrive", func() bool { return feed.Stats().InMsgs >= before+many })
	revoked.open.Unlock()
	for i := range many {
		eventually(t, fmt.Sprint("revocation ", i), func() bool { _, known := revoked.ids.Load(fmt.Sprint(i)); return known })
	}
	g.stop()
}

// log keeps the lines of a log that contain a text.
type log struct {
	about string

	mu    sync.Mutex
	lines []string
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(p, []byte(l.about)) {
		_, line, _ := strings.Cut(string(p), " ") // without the time
		l.lines = append(l.lines, line)
	}
	return len(p), nil
}

// A gateway that cannot read the revocations says so once, and not with each attempt.
func TestGatewayLogsOnceWhyItLacksTheRevocations(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	var asked atomic.Int64
	listRevocations(t, s.Conn(), func() proto.Revocations {
		asked.Add(1)
		return proto.Revocations{Error: "the revocations cannot be read now"}
	})
	said := log{about: "list of revocations"}
	g := begin(t, s, "a", func(cfg *bridge.Config) {
		cfg.Revoked = new(revocations)
		cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	})
	eventually(t, "six attempts", func() bool { return asked.Load() >= 6 })
	g.stop()
	for i, line := range said.lines {
		if i > 0 && line == said.lines[i-1] {
			t.Fatalf("the log has the line %q twice in a row", line)
		}
	}
	if len(said.lines) == 0 {
		t.Error("the log does not say why the gateway waits")
	}
}

// The room service's bucket was made again, so the revisions are lower than the gateway's. The
// gateway reads the list again, at intervals.
func TestGatewayReadsAReplacedListAgain(t *testing.T) {
	s := historytest.Start(t, 1000)
	own(t, s)
	_, err := s.Conn().Subscribe(proto.SubjectRevocations, func(m *nats.Msg) {
		answer := `{"list":[{"id":"ann","at":1}],"last":5,"more":true}`
		if string(m.Data) != `{"after":0}` {
			answer = `{"list":null,"last":0,"more":true}`
		}
		_ = m.Respond([]byte(answer))
	})
	if err != nil {
		t.Fatal(err)
	}
	said := log{about: "was replaced"}
	g := begin(t, s, "a", func(cfg *bridge.Config) {
		cfg.Revoked = new(revocations)
		cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	})
	eventually(t, "the gateway to say why it waits", func() bool {
		said.mu.Lock()
		defer said.mu.Unlock()
		return len(said.lines) > 0
	})
	g.stop()
}
