package client

import (
	"context"
	"errors"
	"fmt"

	"roomcast/proto"
)

// Join follows a room from the given place on. It returns the room's newest seq, and
// [Client.Next] returns the events. It fails with a [*proto.Refusal], for example if the room is
// closed, or with the error of ctx. After an error the client does not follow the room.
func (c *Client) Join(ctx context.Context, room proto.Room, from proto.From) (head uint64, err error) {
	k, err := c.state.addRoom(room, from)
	if err != nil {
		return 0, fmt.Errorf("join: %w", err)
	}
	var joined proto.Joined
	if err := c.await(ctx, k, &joined); err != nil {
		if c.state.removeRoom(room) && ctx.Err() != nil {
			// For the server, the session may be in the room. Nobody waits for this answer.
			_, _ = c.state.addCall(proto.VerbLeave, fields{Room: room.String()})
		}
		return 0, fmt.Errorf("join: %w", err)
	}
	return joined.Seq, nil
}

// Leave stops following a room. Messages without an ack fail there with [ErrClosed].
func (c *Client) Leave(ctx context.Context, room proto.Room) error {
	if !c.state.removeRoom(room) {
		return fmt.Errorf("leave: %w", proto.Refuse(proto.NotJoined, "the room has not been joined"))
	}
	err := c.ask(ctx, proto.VerbLeave, fields{Room: room.String()}, nil)
	var refusal *proto.Refusal
	if errors.As(err, &refusal) && refusal.Code == proto.NotJoined {
		return nil // the new session has not joined the room
	}
	return err
}

// Page is a part of a room's log.
type Page struct {
	Events []proto.Event // in order
	More   bool          // there are events before the first one
	Gap    *proto.Gap    // announces events that the log does not hold; nil = there are none
	Seq    uint64        // of the room's newest event
	Epoch  string        // of the room
}

// History reads up to limit events before a seq, the newest ones if before is 0. The
// server chooses if limit is 0; it returns at most [proto.MaxHistory].
func (c *Client) History(ctx context.Context, room proto.Room, before uint64, limit int) (Page, error) {
	var p proto.Page
	if err := c.ask(ctx, proto.VerbHistory, fields{Room: room.String(), Before: before, Limit: limit}, &p); err != nil {
		return Page{}, err
	}
	page := Page{More: p.More, Gap: p.Gap, Seq: p.Seq, Epoch: p.Epoch}
	if p.Gap != nil {
		p.Gap.Room = room
	}
	for _, raw := range p.Events {
		e, err := proto.ParseEvent(raw)
		if err != nil {
			return Page{}, fmt.Errorf("history: %w", err)
		}
		page.Events = append(page.Events, e)
	}
	return page, nil
}

// Members returns how many members a room has, and lists up to [proto.MaxListed] of them.
func (c *Client) Members(ctx context.Context, room proto.Room) (m proto.Members, err error) {
	err = c.ask(ctx, proto.VerbMembers, fields{Room: room.String()}, &m)
	return m, err
}

// Signal sends a notification to the members of a room, which is not stored; data is any JSON or
// nil. The client sends it at most once. If the connection breaks before the answer, Signal
// returns [ErrLost].
func (c *Client) Signal(ctx context.Context, room proto.Room, kind string, data []byte) error {
	return c.ask(ctx, proto.VerbSignal, fields{Room: room.String(), Type: kind, Data: data}, nil)
}
