//go:build linux

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/scripts/torture/history"
	"roomcast/scripts/torture/rig"
)

// application plays the part of a user's application. It receives the events of rooms, either as
// posts to a webhook or from the consumer that roomsvc has made. It is safe for concurrent use.
type application struct {
	run  *run
	name string

	mu     sync.Mutex // guards the fields below
	seqs   map[proto.Room]uint64
	counts map[string]int // by room: the number of people in the newest event
	posts  int            // number of received posts
}

func newApplication(r *run, name string) *application {
	return &application{run: r, name: name, seqs: map[proto.Room]uint64{}, counts: map[string]int{}}
}

// ServeHTTP accepts posts. It answers some posts with an error, before or after it has received
// their events. Then roomsvc must post these events again.
func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch struct {
		Events []struct{ Data json.RawMessage }
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.posts++
	if a.posts%10 == 3 && !a.run.healed.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		w.WriteHeader(http.StatusBadRequest) // a fault has interrupted the post
		return
	}
	for _, e := range batch.Events {
		a.receive(e.Data)
	}
	if a.posts%10 == 7 && !a.run.healed.Load() {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// receive writes an event into the history. The caller holds mu.
func (a *application) receive(raw []byte) {
	var people struct {
		Room                                     string
		Joined, Left, Occupied, Vacated, Present *struct{ Count int }
	}
	if err := json.Unmarshal(raw, &people); err != nil {
		a.run.history.Add(history.Entry{Op: history.App, Client: a.name, Why: err.Error()})
		return
	}
	for _, p := range []*struct{ Count int }{people.Joined, people.Left, people.Occupied, people.Vacated, people.Present} {
		if p != nil {
			a.counts[people.Room] = p.Count
			return
		}
	}
	event, err := proto.ParseEvent(raw)
	e := history.Entry{Client: a.name, Room: people.Room}
	if record(&e, history.App, &event); err != nil {
		e.Why = err.Error()
	} else if !slices.Contains(a.run.all(), event.Room) {
		return
	}
	a.seqs[event.Room] = max(a.seqs[event.Room], event.Seq)
	a.run.history.Add(e)
}

// follow reads events from the consumer until ctx ends. It logs in to the NATS account APPS, as
// applications do.
func (a *application) follow(ctx context.Context, servers []string) {
	for ctx.Err() == nil {
		a.fetch(ctx, servers)
		sleep(ctx, 200*time.Millisecond)
	}
}

func (a *application) fetch(ctx context.Context, servers []string) {
	urls := strings.ReplaceAll(strings.Join(servers, ","), "//admin:", "//operator:")
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1))
	if err != nil {
		return
	}
	defer nc.Close()
	js, err := jetstream.NewWithAPIPrefix(nc, "room.js")
	if err != nil {
		return
	}
	consumer, err := js.Consumer(ctx, proto.EventsStream, rig.Consumer)
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		batch, err := consumer.Fetch(50, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return
		}
		for m := range batch.Messages() {
			a.mu.Lock()
			a.receive(m.Data())
			a.mu.Unlock()
			_ = m.Ack() // if the ack is lost, NATS delivers the message again
		}
	}
}

// waitForEvents waits, at most for showTime, until the application has received every acknowledged
// event.
func (a *application) waitForEvents(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, showTime)
	defer cancel()
	for _, room := range a.run.all() {
		for a.seq(room) < a.run.heads.of(room) && ctx.Err() == nil {
			sleep(ctx, 20*time.Millisecond)
		}
	}
}

func (a *application) seq(room proto.Room) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seqs[room]
}

// countMembers waits, at most for showTime, until the newest event says that the census room has
// want people. Then it writes the number in the newest event into the history.
func (a *application) countMembers(ctx context.Context, want int) {
	ctx, cancel := context.WithTimeout(ctx, showTime)
	defer cancel()
	count := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.counts[a.run.census.String()]
	}
	for count() != want && ctx.Err() == nil {
		sleep(ctx, 20*time.Millisecond)
	}
	a.run.history.Add(history.Entry{Op: history.Count, Client: a.name, Room: a.run.census.String(), Count: count()})
}

// applications starts an application that receives posts. If clients can reach NATS, it also starts
// an application that reads from the consumer. Both end with ctx.
func applications(ctx context.Context, r *run, staying *sync.WaitGroup) []*application {
	hook := newApplication(r, "hook")
	server := r.rig.Receive(hook)
	staying.Go(func() {
		<-ctx.Done()
		server.Close()
	})
	list := []*application{hook}
	if servers := r.rig.Servers(); len(servers) > 0 {
		reader := newApplication(r, "consumer")
		list = append(list, reader)
		staying.Go(func() { reader.follow(ctx, servers) })
	}
	return list
}
