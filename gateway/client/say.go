package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"roomcast/proto"
)

// Message is what to say. Without a key the client makes one; give your own to be able to
// say the same thing again after a restart without its being shown twice.
type Message struct {
	proto.Content
	Key string
}

// Text returns a message of plain text.
func Text(s string) Message {
	return Message{Content: proto.Content{Kind: proto.Text, Body: []byte(s)}}
}

// Ack says that a message is stored.
type Ack struct {
	Seq       uint64
	At        time.Time
	Duplicate bool // it had been stored before, under the same key
}

// Say returns when the message is stored, after as many repetitions with the same key as
// that takes. The client must have joined the room. Messages of one room are said in the
// order of the calls, and one at a time: that is what keeps a sender's order also when one
// of them is refused for now.
//
// Errors: a [*proto.Refusal] if the server will not have it; ctx's, [ErrClosed] or the
// reason of the client's end, after which nobody knows whether the message was stored:
// only saying it again with the same key as the same sender can tell.
func (c *Client) Say(ctx context.Context, name proto.Room, m Message) (Ack, error) {
	if m.Key == "" {
		m.Key = rand.Text()
	} else if refusal := proto.CheckKey(m.Key); refusal != nil {
		return Ack{}, fmt.Errorf("say: %w", refusal)
	}
	f := fields{Room: name.String(), Key: m.Key}
	f.content(m.Content)
	c.mu.Lock()
	r := c.rooms[name]
	if r == nil {
		err := c.err
		c.mu.Unlock()
		if err == nil {
			err = proto.Refuse(proto.NotJoined, "join the room first")
		}
		return Ack{}, fmt.Errorf("say: %w", err)
	}
	call := c.newCall(proto.VerbSay, f)
	r.says = append(r.says, call)
	c.mu.Unlock()
	signal(c.wake)

	ok, err := c.await(ctx, call)
	if err != nil {
		return Ack{}, fmt.Errorf("say: %w", err)
	}
	return Ack{Seq: ok.Seq, At: ok.At, Duplicate: ok.Duplicate}, nil
}

// said takes the answer to the first of a room's says. A refusal for now leaves it where
// it is, to be sent again; so does one that says that the room must be joined again.
func (r *room) said(call *call, in frame, now time.Time) {
	if in.Error == nil {
		call.finish(answer{ok: in.OK})
		r.refusals = 0
	} else if refusal := in.Error.refusal(); forNow(refusal) {
		call.sent = false
		r.later(refusal, now)
		return
	} else if refusal.Code == proto.NotJoined {
		call.sent = false
		r.state = absent
		return
	} else {
		call.finish(answer{err: refusal})
	}
	r.says = slices.DeleteFunc(r.says, call.is)
}
