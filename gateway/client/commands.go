package client

import (
	"context"
	"errors"
	"fmt"

	"roomcast/proto"
)

// Join follows a room, beginning at the given place in its log. It returns the room's newest seq,
// and [Client.Next] returns the events. It fails with a [*proto.Refusal], for example if the room
// is closed, or with the error of ctx. After an error the client does not follow the room.
func (c *Client) Join(ctx context.Context, room proto.Room, from proto.From) (head uint64, err error) {
	k, err := c.state.addRoom(room, from)
	if err != nil {
		return 0, fmt.Errorf("join: %w", err)
	}
	var joined proto.Joined
	if err := c.await(ctx, k, &joined); err != nil {
		if c.state.removeRoom(room) && ctx.Err() != nil {
			// The server may have received the join, so send a leave. Nobody waits for its answer.
			_, _ = c.state.addCall(proto.VerbLeave, fields{Room: room.String()})
		}
		return 0, fmt.Errorf("join: %w", err)
	}
	return joined.Seq, nil
}

// Leave stops following a room. Calls of Say in this room that have no ack fail with [ErrClosed];
// their messages may have been stored.
func (c *Client) Leave(ctx context.Context, room proto.Room) error {
	if !c.state.removeRoom(room) {
		return fmt.Errorf("leave: %w", proto.Refuse(proto.NotJoined, "the room has not been joined"))
	}
	err := c.ask(ctx, proto.VerbLeave, fields{Room: room.String()}, nil)
	var refusal *proto.Refusal
	if errors.As(err, &refusal) && refusal.Code == proto.NotJoined {
		return nil // the connection broke, and the new session is in no room
	}
	return err
}

// Page is a part of a room's log.
type Page struct {
	Events []proto.Event // in order
	More   bool          // the log has older events than this page
	Gap    *proto.Gap    // announces events that the log no longer has; nil = no event is missing
	Seq    uint64        // seq of the room's newest event
	Epoch  string        // epoch of the room
}

// History reads up to limit events before the seq before. If before is 0, it reads the newest
// events. If limit is 0, the server chooses it. The server returns at most [proto.MaxHistory]
// events.
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

// Signal sends a notification to the members of a room. It is not stored. The parameter data is any
// JSON, or nil. The client sends a signal at most once: if the connection breaks before the answer,
// Signal returns [ErrLost].
func (c *Client) Signal(ctx context.Context, room proto.Room, kind string, data []byte) error {
	return c.ask(ctx, proto.VerbSignal, fields{Room: room.String(), Type: kind, Data: data}, nil)
}
