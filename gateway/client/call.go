package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"roomcast/proto"
)

// call is a command whose caller waits for the answer. The state's mutex guards it, except
// done.
type call struct {
	id       uint64 // 0 = it stands for the caller of Join and is not sent
	verb     proto.Verb
	fields   fields
	sent     bool // on the present connection
	sentAt   time.Time
	began    time.Time // when any connection sent it first; zero = it is certainly not stored
	as       string    // the sender's id then
	broken   bool      // events have been lost since then, and its own may be among them
	finished bool
	done     chan answer // holds one
}

// answer is the ok of a command, or an error.
type answer struct {
	ok  json.RawMessage
	err error
}

func (a answer) decode(into any) error {
	if err := json.Unmarshal(a.ok, into); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func (k *call) finish(a answer) {
	if !k.finished {
		k.finished = true
		k.done <- a
	}
}

func (k *call) is(other *call) bool { return k == other }

// temporary reports whether the same command may succeed later.
func temporary(r *proto.Refusal) bool {
	return r.Temporary() || r.Code == proto.Unavailable || r.Code == proto.Overloaded
}

// calls are the commands that wait for answers. The state's mutex guards them.
type calls struct {
	last uint64 // the newest id
	byID map[uint64]*call
	list []*call // the calls that belong to no room, in order
}

// add makes a call that waits for its answer. The caller decides when to send it.
func (c *calls) add(verb proto.Verb, f fields) *call {
	c.last++
	k := &call{id: c.last, verb: verb, fields: f, done: make(chan answer, 1)}
	c.byID[k.id] = k
	return k
}

// queue adds a call that belongs to no room.
func (c *calls) queue(verb proto.Verb, f fields) *call {
	k := c.add(verb, f)
	c.list = append(c.list, k)
	return k
}

func (c *calls) remove(k *call) {
	if k != nil {
		delete(c.byID, k.id)
		c.list = slices.DeleteFunc(c.list, k.is)
	}
}

// detach prepares the calls for the next connection, which sends them again. It ends a leave,
// because a new session is in no room. It ends a token, because the new session has its own. It
// also ends a signal that was sent, because the server may have received it.
func (c *calls) detach() {
	for _, k := range slices.Clone(c.list) {
		switch {
		case k.verb == proto.VerbLeave:
			k.finish(answer{})
		case k.verb == proto.VerbSignal && k.sent, k.verb == proto.VerbAuth:
			k.finish(answer{err: ErrLost})
		}
		k.sent = false
		if k.finished {
			c.remove(k)
		}
	}
}

// fail answers all calls.
func (c *calls) fail(err error) {
	for _, k := range c.list {
		k.finish(answer{err: err})
	}
	c.list = nil
}
