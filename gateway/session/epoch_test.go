package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	goclient "roomcast/gateway/client"
	"roomcast/proto"
)

// store writes a record into a room's log, as a room's owner does.
func store(t *testing.T, room, epoch string, seq uint64, at time.Time, kind proto.EventKind, text string) {
	t.Helper()
	nc, err := dialNATS("owner")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	e := proto.Event{Room: proto.MustRoom(room), Seq: seq, At: at, Kind: kind, From: proto.Identity{ID: "owner"}}
	if kind == proto.Message {
		e.Content = proto.Content{Kind: proto.Text, Body: []byte(text)}
	} else {
		e.Why = text
	}
	if seq == 1 {
		e.Epoch = epoch
	}
	rec := proto.Record{Room: e.Room, Seq: seq, Kind: kind, From: "owner", Stamp: "T",
		State: proto.State{Epoch: epoch, At: at, Closed: kind == proto.Closed}}
	rec.Payload, rec.Text = e.AppendRecord(nil)
	m := nats.NewMsg(e.Room.LogSubject())
	m.Header.Set(proto.HeaderRecord, rec.Header())
	m.Data = rec.Payload
	if _, err := nc.RequestMsg(m, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// clearAbove removes the records of a room whose seq is greater than keep. To readers, the log
// has lost its end.
func clearAbove(t *testing.T, room string, keep uint64) {
	t.Helper()
	nc, err := dialNATS("operator")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), proto.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	subject := proto.MustRoom(room).LogSubject()
	if keep == 0 {
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
			t.Fatal(err)
		}
		return
	}
	for {
		m, err := stream.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := proto.ParseRecord(m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if rec.Seq <= keep {
			return
		}
		if err := stream.DeleteMsg(t.Context(), m.Sequence); err != nil {
			t.Fatal(err)
		}
	}
}

var epochBegin = time.Date(2026, 11, 22, 10, 53, 7, 0, time.UTC)

// storeMany writes the messages in the given range of seqs, one for each millisecond. The range
// includes both ends.
func storeMany(t *testing.T, room, epoch string, from, to uint64, begin time.Time, text string) {
	t.Helper()
	for seq := from; seq <= to; seq++ {
		store(t, room, epoch, seq, begin.Add(time.Duration(seq)*time.Millisecond), proto.Message, fmt.Sprintf("%s %d", text, seq))
	}
}

// place is the position of a client in a room.
type place struct {
	Seq   uint64
	Epoch string
	At    string
}

func (p place) query() string {
	return url.Values{"since": {fmt.Sprint(p.Seq)}, "epoch": {p.Epoch}, "at": {p.At}}.Encode()
}

// eventsUntil reads frames up to the event numbered last, and returns the texts of the events. In
// the result, "reset" stands for a gap with this reason. It updates p by the rules in
// PROTOCOL.md.
func (c *client) eventsUntil(p *place, last uint64) (got []string) {
	c.t.Helper()
	for {
		var f struct {
			Hello *place
			Seq   uint64
			At    string
			Epoch string
			Text  string
			Kind  string
			Gap   *struct{ Reason, Epoch string }
		}
		if err := json.Unmarshal([]byte(c.next()), &f); err != nil {
			c.t.Fatal(err)
		}
		switch {
		case f.Hello != nil:
			if p.Seq == 0 {
				*p = *f.Hello
			}
		case f.Gap != nil:
			got = append(got, f.Gap.Reason)
			*p = place{Epoch: f.Gap.Epoch}
		default:
			got = append(got, f.Text+f.Kind)
			p.Seq, p.At = f.Seq, f.At
			if f.Epoch != "" {
				p.Epoch = f.Epoch
			}
		}
		if last == 0 && f.Hello != nil || f.Gap == nil && f.Seq > 0 && f.Seq == last {
			return got
		}
	}
}

func numbered(text string, from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("%s %d", text, i))
	}
	return out
}

func wantTexts(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// A member that joins an empty room learns the room's epoch with the first event.
func TestEmptyRoomGivesItsEpoch(t *testing.T) {
	g := start(t)
	const room = "epoch-empty"
	c := g.json("/room/" + room + "/")
	var p place
	c.eventsUntil(&p, 0)
	if p != (place{}) {
		t.Errorf("got %+v in the hello of an empty room", p)
	}
	storeMany(t, room, "e1", 1, 5, epochBegin, "old")
	wantTexts(t, c.eventsUntil(&p, 5), numbered("old", 1, 5)...)
	c.nc.Close()
	clearAbove(t, room, 0)
	storeMany(t, room, "e2", 1, 8, epochBegin.Add(time.Hour), "new")
	c = g.json("/room/" + room + "/?" + p.query())
	wantTexts(t, c.eventsUntil(&p, 8), append([]string{"reset"}, numbered("new", 1, 8)...)...)
}

// An operator restores the log from an older copy. Then the log grows beyond the client's
// position, in the same epoch. So the client has seen other events under some of these seqs, and
// must receive a reset. Other members in the room make no difference.
func TestRestoredLogIsAnotherHistory(t *testing.T) {
	for _, present := range []bool{false, true} {
		t.Run(fmt.Sprint("somebody is present: ", present), func(t *testing.T) {
			g := start(t, func(s *settings) { s.bridge.Follow.Linger = 10 * time.Millisecond })
			room := fmt.Sprint("epoch-restored-", present)
			storeMany(t, room, "e1", 1, 20, epochBegin, "old")
			c := g.json("/room/" + room + "/?since=0")
			var p place
			c.eventsUntil(&p, 20)
			c.nc.Close()
			clearAbove(t, room, 10)
			storeMany(t, room, "e1", 11, 25, epochBegin.Add(time.Hour), "new")
			if present {
				other := g.json("/room/" + room + "/")
				var seen place
				eventually(t, "the new head", func() bool { other.eventsUntil(&seen, 0); return true })
			}
			want := append(append([]string{"reset"}, numbered("old", 1, 10)...), numbered("new", 11, 25)...)
			again := place(p)
			c = g.json("/room/" + room + "/?" + p.query())
			wantTexts(t, c.eventsUntil(&p, 25), want...)
			c.nc.Close()
			c = g.json("/room/" + room + "/?" + p.query())
			var hello place
			c.eventsUntil(&hello, 0)
			c.silent() // the client must not receive a second reset

			text := g.text("/room/" + room + "/?" + again.query())
			text.want("[this room has a new numbering; its oldest messages follow]")
			text.want("*old 1")

			ws := g.json("/ws")
			ws.want(`{"hello":*`)
			ws.send(fmt.Sprintf(`{"id":1,"join":{"room":%q,"since":25,"epoch":"e1","at":%q}}`, room, p.At))
			ws.want(`{"id":1,"ok":*`)
			ws.silent()
			ws.send(fmt.Sprintf(`{"id":2,"history":{"room":%q,"since":20,"epoch":"e1","at":%q,"limit":2}}`, room, again.At))
			ws.want(`{"id":2,"ok":{*"old 1"*"old 2"*"more":true,"seq":25,"epoch":"e1","gap":{"from":21,"to":0,"reason":"reset","epoch":"e1","seq":25}}}`)
			ws.send(fmt.Sprintf(`{"id":3,"history":{"room":%q,"since":24,"epoch":"e1","at":%q}}`, room, "2026-11-22T11:53:07.024Z"))
			ws.want(`{"id":3,"ok":{*"new 25"*"more":false,"seq":25,"epoch":"e1"}}`)
		})
	}
}

// An edit or a delete without an epoch is for the epoch in which the session joined. After a
// reset, the same seq could belong to another message.
func TestSeqsAreOfTheEpochOfTheJoin(t *testing.T) {
	g := start(t, withTokens(t))
	room := fmt.Sprintf("epoch-edit_%d", time.Now().UnixNano())
	join := func() (*client, place) {
		c := g.bearer("/room/"+room+"/", tokenOf("owner", "*=read say", time.Hour))
		var p place
		c.eventsUntil(&p, 0)
		return c, p
	}
	empty, _ := join()
	storeMany(t, room, "e1", 1, 3, epochBegin, "old")
	for _, text := range numbered("old", 1, 3) {
		empty.wantSoon(`*"text":"` + text + `"}`)
	}
	before, p := join()
	if p.Epoch != "e1" {
		t.Fatalf("joined in the epoch %q", p.Epoch)
	}
	clearAbove(t, room, 0)
	storeMany(t, room, "e2", 1, 6, epochBegin.Add(time.Hour), "new")
	for _, c := range []*client{empty, before} {
		c.wantSoon(`*"gap":*"reset"*`)
		c.wantSoon(`*"text":"new 6"}`)
	}
	after, p := join()
	if p.Epoch != "e2" {
		t.Fatalf("joined in the epoch %q", p.Epoch)
	}
	outside := g.bearer("/ws", tokenOf("owner", "*=read say", time.Hour))
	outside.wantSoon(`{"hello":*`)
	for i, tt := range []struct {
		c              *client
		command, epoch string
		want           string
	}{
		{before, `"edit":{"text":"x","seq":1`, "", `"error":{"code":"not_found"*`},
		{before, `"moderate":{"act":"delete","seq":1`, "", `"error":{"code":"not_found"*`},
		{empty, `"edit":{"text":"x","seq":1`, "", `"error":{"code":"not_found"*`},
		{before, `"edit":{"text":"x","seq":1`, "e1", `"error":{"code":"not_found"*`},
		{after, `"edit":{"text":"x","seq":1`, "e1", `"error":{"code":"not_found"*`},
		{before, `"edit":{"text":"x","seq":1`, "e2", `"ok":{"seq":7,*`},
		{after, `"edit":{"text":"x","seq":2`, "", `"ok":{"seq":8,*`},
		{outside, `"edit":{"text":"x","seq":3`, "", `"ok":{"seq":9,*`},
		{after, `"moderate":{"act":"delete","seq":4`, "", `"ok":{"seq":10,*`},
	} {
		frame := fmt.Sprintf(`{"id":%d,%s,"room":%q`, i, tt.command, room)
		if tt.epoch != "" {
			frame += fmt.Sprintf(`,"epoch":%q`, tt.epoch)
		}
		tt.c.send(frame + "}}")
		tt.c.wantSoon(fmt.Sprintf(`{"id":%d,%s`, i, tt.want))
	}
}

// drain closes all sessions with code 1001, going away.
func (g *gateway) drain() {
	for i, ss := range g.sessions {
		done := make(chan int)
		g.loops[i].Post(func() { done <- ss.Drain(1000) })
		<-done
	}
}

// follower is a Go client in one room. It records the notices that the client passes to it.
type follower struct {
	t   *testing.T
	ctx context.Context
	c   *goclient.Client
	got []string
}

func (g *gateway) follower(t *testing.T, room string, from proto.From) *follower {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	c, err := goclient.Dial(ctx, goclient.Config{URLs: []string{"ws://" + g.addr}, MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Join(ctx, proto.MustRoom(room), from); err != nil {
		t.Fatal(err)
	}
	return &follower{t: t, ctx: ctx, c: c}
}

// awaitNotice reads and records notices, up to the first one with the given text.
func (f *follower) awaitNotice(text string) {
	f.t.Helper()
	for len(f.got) == 0 || f.got[len(f.got)-1] != text {
		n, err := f.c.Next(f.ctx)
		if err != nil {
			f.t.Fatalf("waiting for %q: %v; got %q", text, err, f.got)
		}
		switch {
		case n.Event != nil:
			f.got = append(f.got, string(n.Event.Content.Body)+string(n.Event.Kind))
		case n.Gap != nil:
			f.got = append(f.got, string(n.Gap.Reason))
		case n.Refused != nil:
			f.got = append(f.got, string(n.Refused.Code))
		}
	}
}

func TestClientAcrossResets(t *testing.T) {
	g := start(t)
	const room = "epoch-client"
	storeMany(t, room, "e1", 1, 1, epochBegin, "old")
	f := g.follower(t, room, proto.From{})
	storeMany(t, room, "e1", 2, 2, epochBegin, "old")
	f.awaitNotice("old 2")
	clearAbove(t, room, 0)
	later := epochBegin.Add(time.Hour)
	storeMany(t, room, "e2", 1, 3, later, "new")
	f.awaitNotice("new 3")
	for seq := uint64(4); seq <= 6; seq++ {
		g.drain() // makes the client reconnect
		storeMany(t, room, "e2", seq, seq, later, "new")
		f.awaitNotice(fmt.Sprint("new ", seq))
	}
	// The client may also have received a reset when the log was empty.
	wantTexts(t, slices.Compact(f.got), append([]string{"old 2", "reset"}, numbered("new", 1, 6)...)...)
}

// After a reset, seqs begin again. So an event that the client received before may have a higher
// seq than the close of the room. The client must still leave the room.
func TestClientIsClosedAfterAReset(t *testing.T) {
	g := start(t)
	const room = "epoch-closed"
	storeMany(t, room, "e1", 1, 10, epochBegin, "old")
	f := g.follower(t, room, proto.From{})
	clearAbove(t, room, 0)
	later := epochBegin.Add(time.Hour)
	storeMany(t, room, "e2", 1, 1, later, "new")
	f.awaitNotice("new 1")
	store(t, room, "e2", 2, later.Add(time.Second), proto.Closed, "enough")
	f.awaitNotice(string(proto.RoomClosed))
	if got := f.got[len(f.got)-2]; got != "closed" {
		t.Errorf("got %q before the refusal, want the closing", got)
	}
}

// After a reset, the gateway replays the log, with the closes of the room and their reopenings. A
// close that was undone must not end a membership.
func TestUndoneCloseInAResetEndsNoMembership(t *testing.T) {
	g := start(t)
	const room = "epoch-undone"
	storeMany(t, room, "e1", 1, 2, epochBegin, "old")
	store(t, room, "e1", 3, epochBegin.Add(3*time.Millisecond), proto.Closed, "once")
	store(t, room, "e1", 4, epochBegin.Add(4*time.Millisecond), proto.Reopened, "")
	storeMany(t, room, "e1", 5, 9, epochBegin, "old")
	live := g.json("/room/" + room + "/")
	var p place
	live.eventsUntil(&p, 0)
	f := g.follower(t, room, proto.From{HasSince: true})
	f.awaitNotice("old 9")
	clearAbove(t, room, 6)
	storeMany(t, room, "e2", 7, 8, epochBegin.Add(time.Hour), "new")
	if got := live.eventsUntil(&p, 8); !slices.Equal(got[len(got)-9:], []string{"reset", "old 1", "old 2", "closed", "reopened", "old 5", "old 6", "new 7", "new 8"}) {
		t.Errorf("got %q", got)
	}
	storeMany(t, room, "e2", 9, 9, epochBegin.Add(time.Hour), "new")
	wantTexts(t, live.eventsUntil(&p, 9), "new 9")
	f.awaitNotice("new 9")
	late := g.json("/room/" + room + "/?since=9&epoch=e1")
	late.eventsUntil(&place{Seq: 1}, 9)
	store(t, room, "e2", 10, epochBegin.Add(2*time.Hour), proto.Closed, "enough")
	for name, c := range map[string]*client{"live": live, "resumed": late} {
		if got := c.next(); !strings.Contains(got, `"kind":"closed"`) {
			t.Errorf("%s: got %s, want the closing", name, got)
		}
		if got := c.next(); !strings.HasPrefix(got, "close 4100") {
			t.Errorf("%s: got %s, want close 4100", name, got)
		}
	}
	f.awaitNotice(string(proto.RoomClosed))
}
