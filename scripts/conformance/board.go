package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// board collects the frames that the client sends, and the objects that the client passes to its
// application. A step of the scenario then takes them. It is safe for concurrent use.
type board struct {
	mu         sync.Mutex
	current    *link         // the link whose frames are collected; nil = none
	changed    chan struct{} // closed and replaced at each change
	queues     map[string][]map[string]any
	failure    error // why the scenario has failed; nil = it has not failed yet
	transcript []string

	said  map[string]string // text of a message of the application → its key in the scenario
	given map[string]string // key in the scenario → the key that the client gave the message
}

func newBoard() *board {
	return &board{changed: make(chan struct{}), queues: map[string][]map[string]any{},
		said: map[string]string{}, given: map[string]string{}}
}

// queueOf returns the name of the queue for an object. A scenario checks the order of objects only
// within a queue. For example, a client may send its joins before or after its messages, so joins
// and messages have two queues. Events and gaps share a queue, because an application must receive
// both in one order.
func queueOf(actor string, object map[string]any) string {
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

// put adds an object that the application has received, or a frame that the client has sent on the
// link from. It drops frames of links other than the current one.
func (b *board) put(actor string, from *link, object map[string]any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from != nil && from != b.current {
		return
	}
	if say, ok := object["say"].(map[string]any); ok {
		b.named(say)
	}
	queue := queueOf(actor, object)
	b.queues[queue] = append(b.queues[queue], object)
	b.transcript = append(b.transcript, actor+" "+compact(object))
	b.change()
}

// named replaces the key that the client has made for a message by the key in the scenario. If the
// client sends the same message again with another key, named does not replace that key, so that
// the scenario fails. The caller holds mu.
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

// keyOf returns the key that the client has made for the message with this key in the scenario.
func (b *board) keyOf(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if key, ok := b.given[name]; ok {
		return key
	}
	return name
}

// says remembers a message that the application is about to send.
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

// take waits for an object in the queue of the pattern, and removes the oldest one. It fails if
// that object does not match the pattern.
func (b *board) take(actor string, pattern map[string]any, limit time.Duration) (map[string]any, error) {
	queue := queueOf(actor, pattern)
	timeout := time.After(limit)
	for {
		b.mu.Lock()
		changed := b.changed
		if b.failure != nil {
			defer b.mu.Unlock()
			return nil, b.failure
		}
		if waiting := b.queues[queue]; len(waiting) > 0 {
			defer b.mu.Unlock()
			b.queues[queue] = waiting[1:]
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

// begin makes l the current link. nil means that there is no current link. It drops the waiting
// frames of the previous link, because a client may have sent more frames than the scenario takes.
func (b *board) begin(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = l
	for queue := range b.queues {
		if strings.HasPrefix(queue, "client ") {
			delete(b.queues, queue)
		}
	}
}

// rest returns an error if objects are left that no step has taken. For example, the client may
// have delivered an event twice or sent a message twice.
func (b *board) rest() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure != nil {
		return b.failure
	}
	for _, queue := range slices.Sorted(maps.Keys(b.queues)) {
		switch queue {
		case "client leave", "sees lost": // these may be left, because a client may leave its rooms when it closes
			continue
		}
		if waiting := b.queues[queue]; len(waiting) > 0 {
			return fmt.Errorf("the scenario has ended, but there was also %s %s", strings.Fields(queue)[0], compact(waiting[0]))
		}
	}
	return nil
}

// has reports whether an object waits in the queue of the pattern.
func (b *board) has(actor string, pattern map[string]any) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure != nil || len(b.queues[queueOf(actor, pattern)]) > 0
}
