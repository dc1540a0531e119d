package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// board collects what the client sends and what its application sees, until a step of the
// scenario takes it. It is safe for concurrent use.
type board struct {
	mu         sync.Mutex
	current    *link         // whose frames count; nil = none
	changed    chan struct{} // closed and replaced at each change
	lanes      map[string][]map[string]any
	failure    error // the scenario has failed, whatever comes
	transcript []string

	said  map[string]string // the text of each message that the application says → its key in the scenario
	given map[string]string // a key in the scenario → the key that the client gave the message
}

func newBoard() *board {
	return &board{changed: make(chan struct{}), lanes: map[string][]map[string]any{},
		said: map[string]string{}, given: map[string]string{}}
}

// laneOf names the line in which an object waits. The order counts within a lane only: a
// client is free to send its joins before its messages or behind them. An application sees
// events and gaps in one order.
func laneOf(actor string, object map[string]any) string {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		switch {
		case name == "id":
		case name == "gap":
			return actor + " event"
		default:
			return actor + " " + name
		}
	}
	return actor
}

// put adds an object that the application sees, or a frame of the client on the link that is
// not over.
func (b *board) put(actor string, from *link, object map[string]any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from != nil && from != b.current {
		return
	}
	if say, ok := object["say"].(map[string]any); ok {
		b.named(say)
	}
	lane := laneOf(actor, object)
	b.lanes[lane] = append(b.lanes[lane], object)
	b.transcript = append(b.transcript, actor+" "+compact(object))
	b.change()
}

// named replaces the key of a message by that of the scenario, for clients that make their
// own keys. A message that comes again with another key keeps that. mu is held.
func (b *board) named(say map[string]any) {
	text, _ := say["text"].(string)
	key, _ := say["key"].(string)
	name, known := b.said[text]
	if !known || key == "" {
		return
	}
	if b.given[name] == "" {
		b.given[name] = key
	}
	if b.given[name] == key {
		say["key"] = name
	}
}

// keyOf returns the key that the client gave a message.
func (b *board) keyOf(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if key, ok := b.given[name]; ok {
		return key
	}
	return name
}

// says notes what the application is about to say.
func (b *board) says(say map[string]any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, _ := say["text"].(string)
	b.said[text], _ = say["key"].(string)
}

func (b *board) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.transcript = append(b.transcript, line)
}

func (b *board) fail(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure == nil {
		b.failure = fmt.Errorf("%s", why)
	}
	b.change()
}

// take waits for the oldest object of the pattern's lane and removes it. It must match.
func (b *board) take(actor string, pattern map[string]any, limit time.Duration) (map[string]any, error) {
	lane := laneOf(actor, pattern)
	timeout := time.After(limit)
	for {
		b.mu.Lock()
		changed := b.changed
		if b.failure != nil {
			defer b.mu.Unlock()
			return nil, b.failure
		}
		if waiting := b.lanes[lane]; len(waiting) > 0 {
			defer b.mu.Unlock()
			b.lanes[lane] = waiting[1:]
			if why := match(pattern, waiting[0]); why != "" {
				return nil, fmt.Errorf("got %s: %s", compact(waiting[0]), why)
			}
			return waiting[0], nil
		}
		b.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			return nil, fmt.Errorf("waited %v for nothing", limit)
		}
	}
}

// begin makes frames of another link count. It drops those of the link before, nil at the
// end of a link: a client may have sent more than the scenario took.
func (b *board) begin(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = l
	for lane := range b.lanes {
		if strings.HasPrefix(lane, "client ") {
			delete(b.lanes, lane)
		}
	}
}

// rest returns an error if the client has done more than the scenario takes: an event that
// is shown twice, or a message that is sent twice.
func (b *board) rest() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure != nil {
		return b.failure
	}
	for _, lane := range slices.Sorted(maps.Keys(b.lanes)) {
		switch lane {
		case "client leave", "sees lost": // a client may leave when it closes
			continue
		}
		if waiting := b.lanes[lane]; len(waiting) > 0 {
			return fmt.Errorf("the scenario has ended, but there was also %s %s", strings.Fields(lane)[0], compact(waiting[0]))
		}
	}
	return nil
}

// has reports whether an object waits in the lane of the pattern.
func (b *board) has(actor string, pattern map[string]any) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure != nil || len(b.lanes[laneOf(actor, pattern)]) > 0
}
