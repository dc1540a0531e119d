package follow

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

const (
	fewRooms = 32 // up to this number of rooms, the feed reads each head with a request of its own
	maxOpens = 3  // how often a read of a head may time out before the feed refuses the waiting followers
)

// heads reads the heads of rooms that the feed begins to follow. The feed owns it.
type heads struct {
	shared
	repairs *repairs
	checks  *checker
	nc      *nats.Conn
}

// read reads the heads of the rooms that were opened since its last call. The feed has
// subscribed to these rooms before. So records that arrive during the read are not lost: the
// sequencers keep them.
//
// If there are few rooms, read asks the stream's leader for each head. If there are many, for
// example after the death of another gateway, it asks any replica for all heads at once. Because
// a replica may be behind, the checker compares these rooms with the log soon afterwards. In both
// cases, read asks the owner of an empty room for the close and the bans.
func (h *heads) read() {
	if len(h.rooms.opening) == 0 {
		return
	}
	rooms := h.rooms.opening
	h.rooms.opening = nil
	size := 1
	if len(rooms) > fewRooms {
		size = checkBatch
		// Put rooms of the same owner into one batch.
		slices.SortFunc(rooms, func(a, b *room) int { return a.name.Partition() - b.name.Partition() })
	}
	for some := range slices.Chunk(rooms, size) {
		h.reader.Do(func(ctx context.Context) {
			found, err := h.readSome(ctx, some)
			h.box.Put(func() {
				for _, r := range some {
					h.opened(r, found[r.name], err)
				}
			})
		}, func() { h.rooms.opening = append(h.rooms.opening, some...) })
	}
}

// readSome reads the heads of a few rooms. It runs on a worker of the reader.
func (h *heads) readSome(ctx context.Context, rooms []*room) (map[proto.Room]history.Head, error) {
	if err := h.nc.FlushWithContext(ctx); err != nil {
		return nil, err
	}
	if len(rooms) == 1 {
		head, err := h.reader.Head(ctx, rooms[0].name)
		return map[proto.Room]history.Head{rooms[0].name: head}, err
	}
	names := make([]proto.Room, len(rooms))
	for i, r := range rooms {
		names[i] = r.name
	}
	found, err := h.reader.Heads(ctx, names)
	if err != nil {
		return nil, err
	}
	var empty []proto.Room
	for _, name := range names {
		head, records := found[name]
		switch {
		case !records:
			empty = append(empty, name)
			continue
		case head.Closed: // only the record of the close contains the reason
			head, err = h.reader.Head(ctx, name)
		case head.Act > 0:
			err = h.reader.Complete(ctx, name, &head)
		default:
			continue
		}
		if found[name] = head; err != nil {
			return nil, err
		}
	}
	maps.Copy(found, h.reader.Empty(ctx, empty))
	return found, nil
}

func (h *heads) opened(r *room, head history.Head, err error) {
	r.reading = false
	if err == nil {
		err = head.Err
	}
	if err != nil {
		h.log.Warn("read head of room", "room", r.name.String(), "error", err)
		// Do not refuse the waiting clients yet. NATS may be slow because there are many clients. A
		// refused client would soon come back, which causes even more work than waiting.
		if r.opens++; r.opens < maxOpens && len(r.waiting) > 0 && errors.Is(err, context.DeadlineExceeded) {
			h.rooms.open(r)
			return
		}
		r.opens = 0
		r.sequencer.held = nil
		h.reader.HeadFailed(r.name, err)
		r.answer(history.Head{}, reads.Refusal(err))
		h.rooms.noteEmpty(r)
		return
	}
	r.live, r.opens = true, 0
	waiting := r.waiting
	r.answer(head, nil)
	for _, w := range waiting {
		r.followers = append(r.followers, w.f)
	}
	r.sequencer.begin(head, r.deliverRecord)
	h.repairs.begin(r)
	h.rooms.noteEmpty(r)
	h.checks.schedule(r, openedCheck)
}
