package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"roomcast/proto"
)

// call is a command whose caller waits for the answer. The mutex of the state guards all fields
// except done.
type call struct {
	id       uint64 // 0 = the call only makes the caller of Join wait, and is not sent
	verb     proto.Verb
	fields   fields
	sent     bool // the present connection has sent the command
	sentAt   time.Time
	began    time.Time // when a connection first sent the command; zero = never, so the server has not stored it
	as       string    // the sender's id when began was set
	broken   bool      // the replay since then had a gap, in which the event of this message may be missing
	finished bool
	done     chan answer // has space for the one answer
}

// answer is the answer to a command: the content of its ok, or an error.
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

// temporary reports whether the same command may succeed if the client sends it again later.
func temporary(r *proto.Refusal) bool {
	return r.Temporary() || r.Code == proto.Unavailable || r.Code == proto.Overloaded
}

// calls are the commands that wait for answers. The mutex of the state guards them.
type calls struct {
	last uint64 // id of the newest call
	byID map[uint64]*call
	list []*call // the calls that belong to no room, oldest first
}

// add makes a call and registers it, so that the answer with its id finds it. It does not queue the
// call for sending.
func (c *calls) add(verb proto.Verb, f fields) *call {
	c.last++
	k := &call{id: c.last, verb: verb, fields: f, done: make(chan answer, 1)}
	c.byID[k.id] = k
	return k
}

// queue makes a call that belongs to no room, and queues it for sending.
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

// detach prepares the calls for the next connection, which sends them again. Three kinds of call
// end here instead. A leave succeeds, because a new session is in no room. A new token fails,
// because the next session presents a token of its own. A signal that was sent fails, because the
// server may have received it and the client must not send it twice.
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

// fail answers all calls with err.
func (c *calls) fail(err error) {
	for _, k := range c.list {
		k.finish(answer{err: err})
	}
	c.list = nil
}
