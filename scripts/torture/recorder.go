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

// recorder writes the frames between one client and the gateways into the history. It sees each
// frame before the client handles the frame. So the client cannot hide a duplicate or a missing
// event.
type recorder struct {
	history *history.Writer
	client  string

	mu     sync.Mutex         // guards the fields below
	joins  map[uint64]joining // joins without an answer, by the id of the command
	leaves map[uint64]string
	epochs map[string]string // by room: the epoch of the newest event that the client has received
	counts map[string]int    // by room: the newest number of members that the client has received
}

// joining is a join that has no answer yet.
type joining struct {
	room    string
	resumes bool // the client has received events of the room before
}

func newRecorder(h *history.Writer, client string) *recorder {
	return &recorder{history: h, client: client,
		joins: map[uint64]joining{}, leaves: map[uint64]string{}, epochs: map[string]string{}, counts: map[string]int{}}
}

func (r *recorder) trace() client.Trace {
	return client.Trace{Sent: r.sent, Received: r.received, Ended: r.ended}
}

// sent writes the joins and leaves of the client into the history. It leaves out messages, because
// the code that sends a message also writes the entry.
func (r *recorder) sent(link int, p []byte) {
	var f struct {
		ID   uint64
		Join *struct {
			Room  string
			Since *uint64
		}
		Leave *struct{ Room string }
	}
	if json.Unmarshal(p, &f) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case f.Join != nil:
		r.joins[f.ID] = joining{f.Join.Room, f.Join.Since != nil && *f.Join.Since > 0}
		r.history.Add(history.Entry{Op: history.Join, Client: r.client, Link: link, Room: f.Join.Room, From: f.Join.Since})
	case f.Leave != nil:
		r.leaves[f.ID] = f.Leave.Room
	}
}

// told has the fields of a server's frame that a recorder needs.
type told struct {
	ID uint64
	OK *struct {
		Seq   uint64
		Epoch string
	}
	Hello *struct{ You proto.Identity }
	Gap   *struct {
		From, To uint64
		Reason   string
		Epoch    string
	}
	Joined, Left *struct{ Count int }
	Room         string
	Seq          uint64
	Epoch        string
}

func (r *recorder) received(link int, p []byte) {
	var f told
	if err := json.Unmarshal(p, &f); err != nil {
		r.history.Add(history.Entry{Op: history.Recv, Client: r.client, Link: link, Why: "not JSON: " + err.Error()})
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := history.Entry{Client: r.client, Link: link, Room: f.Room}
	switch {
	case f.Hello != nil:
		e.Op, e.Sender = history.Hello, f.Hello.You.ID
	case f.OK != nil:
		if room, left := r.leaves[f.ID]; left {
			e.Op, e.Room = history.Left, room
			break
		}
		join, ours := r.joins[f.ID]
		if !ours {
			return
		}
		// If a client resumes and the answer has another epoch, a reset follows. The connection may
		// break before the reset. Then the client must name its old epoch again.
		if !join.resumes || r.epochs[join.room] == "" {
			r.epochs[join.room] = f.OK.Epoch
		}
		e.Op, e.Room, e.Seq, e.Epoch = history.Joined, join.room, f.OK.Seq, f.OK.Epoch
	case f.Gap != nil:
		if f.Gap.Reason == string(proto.GapReset) {
			r.epochs[f.Room] = f.Gap.Epoch
		}
		e.Op, e.From, e.Seq, e.Why, e.Epoch = history.Gap, &f.Gap.From, f.Gap.To, f.Gap.Reason, f.Gap.Epoch
	case f.Joined != nil:
		e.Op, e.Count = history.Told, f.Joined.Count
		r.counts[f.Room] = e.Count
	case f.Left != nil:
		e.Op, e.Count = history.Told, f.Left.Count
		r.counts[f.Room] = e.Count
	case f.Seq > 0:
		event, err := proto.ParseEvent(p)
		if err != nil {
			e.Why = err.Error()
		}
		record(&e, history.Recv, &event)
		if f.Epoch != "" { // the first event of an epoch names the epoch
			r.epochs[f.Room] = f.Epoch
		}
		e.Epoch = r.epochs[f.Room]
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

// record fills in the fields of e from a stored event.
func record(e *history.Entry, op history.Op, event *proto.Event) {
	text := string(event.Content.Body)
	if event.Kind != proto.Message {
		text = event.Why
	}
	e.Op, e.Seq, e.Kind, e.Sender = op, event.Seq, string(event.Kind), event.From.ID
	e.Key, e.Body, e.At = history.KeyOf(text), history.Sum(text), event.At.UnixMilli()
}

// renew forgets the commands of the previous client, because the next client numbers its commands
// from 1 again.
func (r *recorder) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.joins)
	clear(r.leaves)
}

// epoch returns the epoch that the client must name when it resumes in the room.
func (r *recorder) epoch(room string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epochs[room]
}

// count returns the newest number of members of the room that the client has received.
func (r *recorder) count(room string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[room]
}
