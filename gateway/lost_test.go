package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roomcast/gateway/auth"
	"roomcast/gateway/bridge"
	"roomcast/gateway/follow"
	pages "roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// shown records the deliveries to the members of one room.
type shown struct {
	mu   sync.Mutex
	got  []follow.Delivery
	gaps []proto.Gap
}

func (s *shown) Deliver(d follow.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Gap != nil {
		s.gaps, s.got = append(s.gaps, *d.Gap), nil
	} else if d.Seq > 0 {
		s.got = append(s.got, d)
	}
}

// newest returns the newest event, and all gaps so far.
func (s *shown) newest() (follow.Delivery, []proto.Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) == 0 {
		return follow.Delivery{}, s.gaps
	}
	return s.got[len(s.got)-1], s.gaps
}

// lazily makes NATS sync the log only at intervals. A power failure then removes the end of the
// log.
func lazily(cfg *service.Config) { cfg.Sync = service.DefaultConfig().Sync }

// runBridge runs the bridge of a gateway to NATS until the test ends.
func runBridge(t *testing.T, dial func(string, ...nats.Option) (*nats.Conn, error), change ...func(*bridge.Config)) *bridge.Bridge {
	t.Helper()
	cfg := bridge.DefaultConfig()
	cfg.ID, cfg.Dial, cfg.Log, cfg.Signing = "a", dial, quiet(), new(auth.SigningKeys)
	for _, f := range change {
		f(&cfg)
	}
	b, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Run(t, "the bridge", b.Run)
	natstest.Within(t, 5*time.Minute, "the bridge", func() bool { return b.Ready() == nil }) // it may have to read a long list of revocations
	return b
}

// sayTo sends a message until it is stored.
func sayTo(t *testing.T, nc *nats.Conn, room proto.Room, key string) (r proto.Reply) {
	t.Helper()
	natstest.Eventually(t, "the ack of "+key, func() bool {
		m := nats.NewMsg(room.Subject())
		m.Data = []byte(key)
		m.Header.Set(proto.HeaderFrom, "u")
		m.Header.Set(proto.HeaderKey, key)
		got, err := nc.RequestMsg(m, 2*time.Second)
		if err == nil {
			r, err = proto.ParseReply(got.Data)
		}
		return err == nil && r.Seq > 0
	})
	return r
}

// A power failure stops the room service and removes the end of the log without a trace. But a
// gateway that is still running has seen the lost records. So the room must begin a new epoch,
// and its members must receive the remaining records again.
func TestGatewayRemembersWhatTheLogLost(t *testing.T) {
	for name, before := range map[string]int{
		"no message since the loss":     0,
		"fewer messages than were lost": 4,
		"as many messages as were lost": 10,
		"more messages than were lost":  13,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			live, kept := filepath.Join(dir, "live"), filepath.Join(dir, "kept")
			opts := &natsserver.Options{JetStream: true, StoreDir: live}
			ns := startServer(t, opts)
			port := ns.Addr().(*net.TCPAddr).Port
			dial := func(name string, more ...nats.Option) (*nats.Conn, error) {
				return nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port), append([]nats.Option{nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}, more...)...)
			}
			stop := serveRooms(t, dial, lazily)
			nc, err := dial("test")
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			b, members, lobby := runBridge(t, dial), new(shown), proto.MustRoom("lobby")
			followed := make(chan error, 1)
			b.Follow(lobby, members, func(_ history.Head, err error) { followed <- err })
			if err := <-followed; err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				sayTo(t, nc, lobby, fmt.Sprint("a", i))
			}
			if out, err := exec.Command("cp", "-a", live, kept).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
			for i := range 10 {
				sayTo(t, nc, lobby, fmt.Sprint("b", i))
			}
			natstest.Eventually(t, "event 20", func() bool { d, _ := members.newest(); return d.Seq == 20 })
			last, _ := members.newest()

			// After the loss, members send messages while this gateway is not connected.
			stop()
			ns.Shutdown()
			ns.WaitForShutdown()
			if err := os.RemoveAll(live); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(kept, live); err != nil {
				t.Fatal(err)
			}
			if before > 0 {
				elsewhere := &natsserver.Options{JetStream: true, StoreDir: live}
				ns := startServer(t, elsewhere)
				there := func(name string, more ...nats.Option) (*nats.Conn, error) {
					return nats.Connect(ns.ClientURL(), append([]nats.Option{nats.Name(name)}, more...)...)
				}
				stop := serveRooms(t, there, lazily)
				nc, err := there("test")
				if err != nil {
					t.Fatal(err)
				}
				for i := range before {
					sayTo(t, nc, lobby, fmt.Sprint("c", i))
				}
				nc.Close()
				stop()
				ns.Shutdown()
				ns.WaitForShutdown()
			}
			restartOn(t, live, port)
			left := uint64(10 + before)
			natstest.Eventually(t, "a reset and what is left", func() bool {
				d, gaps := members.newest()
				return len(gaps) > 0 && d.Seq == left
			})
			serveRooms(t, dial, lazily) // started after the gateway has noticed the loss
			n := 0
			natstest.Eventually(t, "a new epoch", func() bool {
				n++
				sayTo(t, nc, lobby, fmt.Sprint("d", n))
				d, _ := members.newest()
				return d.Epoch != "" && d.Epoch != last.Epoch
			})
			natstest.Eventually(t, "the newest event", func() bool { d, _ := members.newest(); return d.Seq == left+uint64(n) })
			for i := range 3 { // these messages belong to the same epoch
				sayTo(t, nc, lobby, fmt.Sprint("e", i))
			}
			natstest.Eventually(t, "the newest event", func() bool { d, _ := members.newest(); return d.Seq == left+uint64(n)+3 })
			now, gaps := members.newest()
			if len(gaps) != 2 || gaps[0].Epoch != last.Epoch || gaps[1].Epoch != now.Epoch || gaps[1].Reason != proto.GapReset {
				t.Errorf("got the gaps %+v, want one reset for the loss and one for the epoch %s", gaps, now.Epoch)
			}
			page := make(chan pages.Page, 1)
			b.Read(history.Query{Room: lobby, Since: last.Seq, HasSince: true, Epoch: last.Epoch}, func(p pages.Page, err error) {
				if err != nil {
					t.Error(err)
				}
				page <- p
			})
			p := <-page
			if p.Gap == nil || p.Gap.Reason != proto.GapReset || p.Gap.Epoch != now.Epoch || len(p.Records) == 0 || p.Records[0].Seq != 1 {
				t.Errorf("a client of the old epoch receives the gap %+v and %d records, want a reset and the records from 1 on", p.Gap, len(p.Records))
			}
			p.Release()
		})
	}
}

func restartOn(t *testing.T, dir string, port int) {
	t.Helper()
	natstest.Start(t, func(o *natsserver.Options) { o.StoreDir, o.Port = dir, port })
}

// A gateway can report that the log has lost records. A guest and a backend cannot.
func TestOnlyGatewaysReportLostRecords(t *testing.T) {
	ns := shippedServer(t)
	heard, err := connectAs(t, ns, "admin").SubscribeSync(proto.SubjectLost)
	if err != nil {
		t.Fatal(err)
	}
	serveRooms(t, dialRoomsvc(ns))
	lobby := proto.MustRoom("lobby")
	operator := connectAs(t, ns, "operator")
	stored := sayTo(t, operator, lobby, "1")
	rec, _, err := history.New(connectAs(t, ns, "admin"), nil).Last(t.Context(), lobby)
	if err != nil {
		t.Fatal(err)
	}
	report := proto.Lost{Room: lobby, Epoch: rec.State.Epoch, Seq: stored.Seq + 7}.JSON()
	for _, user := range []string{"guest", "operator"} {
		nc := connectAs(t, ns, user)
		if err := nc.PublishRequest(proto.SubjectLost, "_INBOX.x", report); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	sayTo(t, operator, lobby, "2")
	// The owner ignores a report about a record that the log still contains.
	gateway := connectAs(t, ns, "gateway")
	for _, at := range []time.Time{rec.State.At, {}} {
		held := proto.Lost{Room: lobby, Epoch: rec.State.Epoch, Seq: rec.Seq, Stream: rec.Stream, At: at}.JSON()
		if _, err := gateway.Request(proto.SubjectLost, held, 5*time.Second); err != nil {
			t.Errorf("report of a gateway: %v", err)
		}
		if m, err := heard.NextMsg(5 * time.Second); err != nil || string(m.Data) != string(held) {
			t.Errorf("got %v, %v, want the report of the gateway", m, err)
		}
	}
	sayTo(t, operator, lobby, "3")
	if now, _, err := history.New(connectAs(t, ns, "admin"), nil).Last(t.Context(), lobby); err != nil || now.State.Epoch != rec.State.Epoch || now.Seq != 3 {
		t.Errorf("got seq %d of epoch %s, %v; want 3 of %s", now.Seq, now.State.Epoch, err, rec.State.Epoch)
	}
}
