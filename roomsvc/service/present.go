package service

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
	"roomcast/roomsvc/room"
)

const (
	presentTime  = 800 * time.Millisecond // how long present waits for the answers of all gateways; less than maxWait
	presentStall = 250 * time.Millisecond // how long present waits for a further answer; after that it assumes that all gateways have answered
)

// seeks reports whether the service must ask the gateways about the member before it applies the
// command. This is so for a kick from a NATS client. A gateway has asked already before it sends a
// kick.
func (c *command) seeks(cmd *room.Command) bool {
	return cmd.Act == proto.ActKick && c.reply.act != nil && !c.sought
}

// seek starts a goroutine that asks all gateways whether the member to kick is in the room. The
// goroutine then passes the command and the result back to the partition.
func (p *partition) seek(ctx context.Context, c command, member string) {
	if p.finding >= maxLoading {
		p.s.refuse(c.reply, overloaded("too many commands wait for answers"))
		return
	}
	p.finding++
	l := lookup{term: p.term, c: c}
	l.c.sought = true
	p.s.tasks.Go(func() {
		there, err := p.s.present(c.to, member)
		if err != nil { // continue with the kick, which does no harm if the member is not in the room
			p.s.cfg.Log.Warn("ask who is in a room", "room", c.to.String(), "error", err)
		}
		l.c.absent = err == nil && !there
		select {
		case p.found <- l:
		case <-ctx.Done():
		}
	})
}

// present reports whether a member may be in a room, by the answers of the gateways. A gateway with
// more than 200 people in the room lists only some of them. Then present returns true, because the
// member may be among the others.
func (s *Service) present(to proto.Room, member string) (bool, error) {
	inbox := s.nc.NewRespInbox()
	answers, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return false, err
	}
	defer answers.Unsubscribe()
	if err := s.nc.PublishRequest(to.WhoSubject(), inbox, nil); err != nil {
		return false, err
	}
	wait, answered := presentTime, false
	for end := time.Now().Add(presentTime); time.Now().Before(end); {
		m, err := answers.NextMsg(wait)
		switch {
		case errors.Is(err, nats.ErrTimeout):
			return !answered, nil // gateways that are too busy to answer may have the member
		case errors.Is(err, nats.ErrNoResponders):
			return false, nil
		case err != nil:
			return false, err
		}
		wait, answered = presentStall, true
		body := m.Data
		if s.cfg.Keys != nil {
			if body, err = s.cfg.Keys.Open(to, seal.Who, "", body); err != nil {
				return false, err
			}
		}
		var share proto.Present
		if err := json.Unmarshal(body, &share); err != nil {
			return false, err
		}
		if share.Count > len(share.List) || slices.ContainsFunc(share.List, func(who proto.Member) bool { return who.ID == member }) {
			return true, nil
		}
	}
	return false, nil
}
