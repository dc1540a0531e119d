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
	current    *link         // the link whose frames count; nil = none
	changed    chan struct{} // closed and replaced at each change
	lanes      map[string][]map[string]any
	failure    error // not nil = the scenario has failed already
	transcript []string

	said  map[string]string // text of a message that the application says → its key in the scenario
	given map[string]string // key in the scenario → the key that the client gave the message
}

func newBoard() *board {
	return &board{changed: make(chan struct{}), lanes: map[string][]map[string]any{},
		said: map[string]string{}, given: map[string]string{}}
}

// laneOf returns the name of the lane in which an object waits. The order of objects counts only
// within a lane. For example, a client may send its joins before or after its messages. Events and
// gaps share a lane, because an application must see both in one order.
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

// put adds an object that the application sees, or a frame that the client sent on the current
// link. It drops frames of other links.
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

// named replaces the key that a client made for a message by the key in the scenario. If the
// client sends the message again under another key, named keeps that key, so that the scenario
// fails. The caller holds mu.
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

// says records the message that the application is about to say.
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

// take waits for the oldest object in the pattern's lane and removes it. It fails if the object
// does not match the pattern.
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
			return nil, fmt.Errorf("nothing came within %v", limit)
		}
	}
}

// begin makes l the current link; nil ends the present link without another. It drops waiting
// frames of the present link, because a client may send more frames than the scenario takes.
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

// rest returns an error if the scenario has not taken everything that the client did, for example
// if the client showed an event twice or sent a message twice.
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
