package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"roomcast/proto"
)

// call is a command somebody waits for. Client.mu guards it, but for done.
type call struct {
	id       uint64
	verb     proto.Verb
	fields   fields
	sent     bool
	sentAt   time.Time
	finished bool
	done     chan answer // of 1
}

type answer struct {
	ok  *okFrame
	err error
}

func (k *call) finish(a answer) {
	if !k.finished {
		k.finished = true
		k.done <- a
	}
}

func (k *call) is(other *call) bool { return k == other }

// forNow reports whether the same command may succeed later.
func forNow(r *proto.Refusal) bool {
	return r.Temporary() || r.Code == proto.Unavailable || r.Code == proto.Overloaded
}

// newCall registers a command. c.mu is held.
func (c *Client) newCall(verb proto.Verb, f fields) *call {
	c.lastID++
	k := &call{id: c.lastID, verb: verb, fields: f, done: make(chan answer, 1)}
	c.byID[k.id] = k
	return k
}

// await waits for a call's answer until ctx ends; then the call is forgotten.
func (c *Client) await(ctx context.Context, k *call) (*okFrame, error) {
	var a answer
	select {
	case a = <-k.done:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	c.mu.Lock()
	delete(c.byID, k.id)
	if k.finished = true; a.err != nil && ctx.Err() != nil {
		c.calls = slices.DeleteFunc(c.calls, k.is)
		for _, r := range c.order {
			r.says = slices.DeleteFunc(r.says, k.is)
		}
	}
	c.mu.Unlock()
	signal(c.wake)
	return a.ok, a.err
}

// ask makes a call that belongs to no room's queue and waits for its answer.
func (c *Client) ask(ctx context.Context, verb proto.Verb, f fields) (*okFrame, error) {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", verb, c.err)
	}
	k := c.newCall(verb, f)
	c.calls = append(c.calls, k)
	c.mu.Unlock()
	signal(c.wake)
	ok, err := c.await(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return ok, nil
}

// Join follows a room from where from says and returns the newest seq at that moment. The
// events come through [Client.Next]. Errors: a [*proto.Refusal], such as for a room that
// has been closed; ctx's, after which the room is left.
func (c *Client) Join(ctx context.Context, name proto.Room, from proto.From) (head uint64, err error) {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, fmt.Errorf("join: %w", c.err)
	}
	if c.rooms[name] != nil {
		defer c.mu.Unlock()
		return 0, errors.New("join: the room has been joined already")
	}
	r := &room{name: name, from: from}
	r.asked = c.newCall(proto.VerbJoin, fields{})
	asked := r.asked
	c.rooms[name] = r
	c.order = append(c.order, r)
	c.mu.Unlock()
	signal(c.wake)
	ok, err := c.await(ctx, asked)
	if err != nil {
		if c.drop(name) && ctx.Err() != nil {
			c.tell(name)
		}
		return 0, fmt.Errorf("join: %w", err)
	}
	return ok.Seq, nil
}

// Leave stops following a room. What is being said there fails with [ErrClosed].
func (c *Client) Leave(ctx context.Context, name proto.Room) error {
	if !c.drop(name) {
		return fmt.Errorf("leave: %w", proto.Refuse(proto.NotJoined, "the room has not been joined"))
	}
	_, err := c.ask(ctx, proto.VerbLeave, fields{Room: name.String()})
	var refusal *proto.Refusal
	if errors.As(err, &refusal) && refusal.Code == proto.NotJoined {
		return nil // a new connection had not come as far as joining
	}
	return err
}

// drop forgets a room.
func (c *Client) drop(name proto.Room) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[name]
	if r == nil {
		return false
	}
	c.forget(r, ErrClosed)
	return true
}

// forget is drop with c.mu held.
func (c *Client) forget(r *room, err error) {
	r.fail(err)
	delete(c.rooms, r.name)
	c.order = slices.DeleteFunc(c.order, func(o *room) bool { return o == r })
	if r.join != nil {
		delete(c.byID, r.join.id)
	}
}

// tell lets the server know that a room is left, without waiting for its answer.
func (c *Client) tell(name proto.Room) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		k := c.newCall(proto.VerbLeave, fields{Room: name.String()})
		c.calls = append(c.calls, k)
		signal(c.wake)
	}
}

// Page is a part of a room's log.
type Page struct {
	Events []proto.Event // in order
	More   bool          // there are more in the direction asked for
	Gap    *proto.Gap    // nil unless the log no longer reaches as far
	Seq    uint64        // of the room's newest event
	Epoch  string        // of the room
}

// History reads up to limit events before a seq, the newest if before is 0. limit 0 leaves
// it to the server; it is at most [proto.MaxHistory].
func (c *Client) History(ctx context.Context, name proto.Room, before uint64, limit int) (Page, error) {
	ok, err := c.ask(ctx, proto.VerbHistory, fields{Room: name.String(), Before: before, Limit: limit})
	if err != nil {
		return Page{}, err
	}
	page := Page{More: ok.More, Gap: ok.Gap.gap(name), Seq: ok.Seq, Epoch: ok.Epoch}
	for _, raw := range ok.Events {
		e, err := proto.ParseEvent(raw)
		if err != nil {
			return Page{}, fmt.Errorf("history: %w", err)
		}
		page.Events = append(page.Events, e)
	}
	return page, nil
}

// Members returns how many members a room has and, up to [proto.MaxListed], who they are.
func (c *Client) Members(ctx context.Context, name proto.Room) (count int, members []proto.Identity, err error) {
	ok, err := c.ask(ctx, proto.VerbMembers, fields{Room: name.String()})
	if err != nil {
		return 0, nil, err
	}
	return ok.Count, ok.Members, nil
}

// Signal tells those present something that is not stored; data is any JSON or nil. It is
// sent at most once: [ErrLost] if the connection broke before it was answered.
func (c *Client) Signal(ctx context.Context, name proto.Room, kind string, data []byte) error {
	_, err := c.ask(ctx, proto.VerbSignal, fields{Room: name.String(), Type: kind, Data: data})
	return err
}
