//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"sync"

	"roomcast/gateway/client"
	"roomcast/proto"
	"roomcast/scripts/torture/history"
)

// recorder writes what travels between one client and the gateways into the history, as it
// is on the wire, before the client's own logic can mend or drop anything.
type recorder struct {
	history *history.Writer
	client  string

	mu    sync.Mutex        // guards joins
	joins map[uint64]string // by the id of the command: the room
}

func (r *recorder) trace() client.Trace {
	return client.Trace{Sent: r.sent, Received: r.received, Ended: r.ended}
}

// sent notes joins and leaves; what is said is noted by who says it.
func (r *recorder) sent(link int, p []byte) {
	var f struct {
		ID   uint64
		Join *struct {
			Room  string
			Since *uint64
		}
	}
	if json.Unmarshal(p, &f) != nil || f.Join == nil {
		return
	}
	r.mu.Lock()
	r.joins[f.ID] = f.Join.Room
	r.mu.Unlock()
	r.history.Add(history.Entry{Op: history.Join, Client: r.client, Link: link, Room: f.Join.Room, From: f.Join.Since})
}

func (r *recorder) received(link int, p []byte) {
	var f struct {
		ID    uint64
		OK    *struct{ Seq uint64 }
		Hello *struct{ You proto.Identity }
		Gap   *proto.Gap
		Room  string
		Seq   uint64
	}
	if err := json.Unmarshal(p, &f); err != nil {
		r.history.Add(history.Entry{Op: history.Recv, Client: r.client, Link: link, Why: "not JSON: " + err.Error()})
		return
	}
	e := history.Entry{Client: r.client, Link: link, Room: f.Room}
	switch {
	case f.Hello != nil:
		e.Op, e.Sender = history.Hello, f.Hello.You.ID
	case f.OK != nil:
		r.mu.Lock()
		room, join := r.joins[f.ID]
		r.mu.Unlock()
		if !join {
			return
		}
		e.Op, e.Room, e.Seq = history.Joined, room, f.OK.Seq
	case f.Gap != nil:
		e.Op, e.Seq, e.Why = history.Gap, f.Gap.To, string(f.Gap.Reason)
	case f.Seq > 0:
		event, err := proto.ParseEvent(p)
		if err != nil {
			e.Why = err.Error()
		}
		record(&e, history.Recv, &event)
	default:
		return
	}
	r.history.Add(e)
}

func (r *recorder) ended(link int, err error) {
	why := ""
	if !errors.Is(err, client.ErrClosed) {
		why = err.Error()
	}
	r.history.Add(history.Entry{Op: history.Ended, Client: r.client, Link: link, Why: why})
}

// record fills in what a stored event is.
func record(e *history.Entry, op history.Op, event *proto.Event) {
	text := string(event.Content.Body)
	if event.Kind != proto.Message {
		text = event.Why
	}
	e.Op, e.Seq, e.Kind, e.Sender = op, event.Seq, string(event.Kind), event.From.ID
	e.Key, e.Body, e.At = history.KeyOf(text), history.Sum(text), event.At.UnixMilli()
}
