// Package historytest provides a real NATS server for tests, with the stream of all rooms. It
// writes records into the stream in the way an owner does. It also answers the questions of
// gateways, as the owner of rooms without restrictions.
package historytest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/natstest"
	"roomcast/proto/seal"
)

// Server is a NATS server in the process of the test. JetStream uses a directory of the test.
type Server struct {
	*natstest.Server
	JS   jetstream.JetStream // over a privileged connection, like that of an owner
	Keys *seal.Keys          // keys that seal the records of each Room; nil = records are not sealed

	tb     testing.TB
	newest sync.Map // room's name -> seq of the newest record that a Room has committed
}

// Start starts a server with the streams of Roomcast. The log of each room keeps perRoom
// records. The functions in change may alter the stream's configuration.
func Start(tb testing.TB, perRoom int64, change ...func(*jetstream.StreamConfig)) *Server {
	tb.Helper()
	s := &Server{Server: natstest.Start(tb, func(o *server.Options) { o.ServerName = "test" }), tb: tb}
	var err error
	if s.JS, err = jetstream.New(s.Conn()); err != nil {
		tb.Fatal(err)
	}
	cfg := jetstream.StreamConfig{
		Name:              proto.StreamName,
		Subjects:          []string{proto.SubjectAnyLog, proto.SubjectAnyOwn},
		MaxMsgsPerSubject: perRoom,
		AllowDirect:       true,
		RePublish:         &jetstream.RePublish{Source: proto.SubjectAnyLog, Destination: proto.RepublishTo},
	}
	for _, f := range change {
		f(&cfg)
	}
	states := jetstream.StreamConfig{
		Name:        proto.StateStream,
		Subjects:    []string{proto.SubjectStates, proto.SubjectStateOwn},
		AllowDirect: true,
	}
	for _, c := range []jetstream.StreamConfig{cfg, states} {
		if _, err := s.JS.CreateStream(tb.Context(), c); err != nil {
			tb.Fatal(err)
		}
	}
	if _, err := s.Conn().Subscribe(proto.SubjectAskStates, s.answerStates); err != nil {
		tb.Fatal(err)
	}
	return s
}

// answerStates answers the question of a gateway that has found no records of some rooms. Like an
// owner, it knows the newest seq although the log may have lost the record.
func (s *Server) answerStates(m *nats.Msg) {
	var ask proto.AskStates
	if json.Unmarshal(m.Data, &ask) != nil {
		return
	}
	states := make(proto.States)
	for _, room := range ask.Rooms {
		seq, _ := s.newest.Load(room)
		known, _ := seq.(uint64)
		states[room] = proto.OwnerState{Seq: known, Snapshot: json.RawMessage("{}")}
	}
	if answer, err := json.Marshal(states); err == nil {
		_ = m.Respond(answer) // without an answer, the gateway asks again
	}
}

// Restart starts the server again after Stop.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Server.Restart(s.tb)
}

// Conn returns a connection that is closed when the test ends.
func (s *Server) Conn(opts ...nats.Option) *nats.Conn {
	s.tb.Helper()
	return s.Connect(s.tb, opts...)
}

// Room appends records to the log of one room. One goroutine owns it.
type Room struct {
	Name  proto.Room
	Last  proto.Record // the newest record
	Begin time.Time    // record n has the time Begin plus n milliseconds

	s       *Server
	renewed bool // the next record is the first of its epoch
}

// Room returns a Room for a room without records. Its records will have the given epoch.
func (s *Server) Room(name, epoch string) *Room {
	return &Room{
		Name: proto.MustRoom(name), Last: proto.Record{State: proto.State{Epoch: epoch}},
		Begin: time.UnixMilli(1_795_000_000_000).UTC(), s: s,
	}
}

// Next returns the room's next record, and the NATS message that would store this record.
func (r *Room) Next(text string) (*nats.Msg, proto.Record) {
	return r.next(proto.Event{Content: proto.Content{Kind: proto.Text, Body: []byte(text)}})
}

// Act commits an event that closes or reopens the room.
func (r *Room) Act(kind proto.EventKind, why string) {
	r.s.tb.Helper()
	if err := r.Commit(r.next(proto.Event{Kind: kind, Why: why})); err != nil {
		r.s.tb.Fatal(err)
	}
}

func (r *Room) next(e proto.Event) (*nats.Msg, proto.Record) {
	rec := r.Last
	rec.Room = r.Name
	rec.Kind = e.Kind
	rec.State.Closed = e.Kind == proto.Closed || e.Kind == proto.Message && r.Last.State.Closed
	rec.From = "alice"
	rec.Seq++
	rec.Stamp = "2026-11-22 18:53:07"
	rec.State.At = r.Begin.Add(time.Duration(rec.Seq) * time.Millisecond)
	if r.Last.Seq > 0 && r.Last.Seq%proto.PageSize == 0 {
		rec.State.Page, rec.State.Start = r.Last.State.Start, r.Last.Stream+1
	} else if rec.State.Start == 0 {
		rec.State.Start = r.Last.Stream
	}
	e.Room, e.Seq, e.At, e.From = r.Name, rec.Seq, rec.State.At, proto.Identity{ID: rec.From}
	if rec.Seq == 1 || r.renewed {
		e.Epoch, r.renewed = rec.State.Epoch, false
	}
	if e.Kind != proto.Message {
		rec.State.Act = rec.Seq
	}
	rec.Payload, rec.Text = e.AppendRecord(nil)
	m := nats.NewMsg(r.Name.LogSubject())
	rec.Sealed = r.s.Keys != nil
	m.Header.Set(proto.HeaderRecord, rec.Header())
	m.Data = r.s.Keys.Seal(r.Name, seal.Log, rec.Header(), rec.Payload)
	return m, rec
}

// Cut deletes the n newest records, so that the log seems to have lost its end. Last is then the
// newest remaining record.
func (r *Room) Cut(n int) {
	r.s.tb.Helper()
	stream, err := r.s.JS.Stream(r.s.tb.Context(), proto.StreamName)
	if err != nil {
		r.s.tb.Fatal(err)
	}
	for range n {
		if err := stream.DeleteMsg(r.s.tb.Context(), r.Last.Stream); err != nil {
			r.s.tb.Fatal(err)
		}
		m, err := stream.GetLastMsgForSubject(r.s.tb.Context(), r.Name.LogSubject())
		if err != nil {
			r.s.tb.Fatal(err)
		}
		if r.Last, err = proto.ParseRecord(m.Subject, m.Header, m.Data); err != nil {
			r.s.tb.Fatal(err)
		}
		r.Last.Stream = m.Sequence
	}
}

// Renew makes the next record the first one of another epoch. The numbering continues.
func (r *Room) Renew(epoch string) { r.Last.State.Epoch, r.renewed = epoch, true }

// Append commits n messages.
func (r *Room) Append(n int) {
	r.s.tb.Helper()
	for range n {
		m, rec := r.Next(fmt.Sprintf("message %d", r.Last.Seq+1))
		if err := r.Commit(m, rec); err != nil {
			r.s.tb.Fatal(err)
		}
	}
}

// Commit publishes a message that Next has returned.
func (r *Room) Commit(m *nats.Msg, rec proto.Record) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ack, err := r.s.JS.PublishMsg(ctx, m)
	if err != nil {
		return err
	}
	rec.Stream = ack.Sequence
	r.Last = rec
	r.s.newest.Store(r.Name.String(), rec.Seq)
	return nil
}
