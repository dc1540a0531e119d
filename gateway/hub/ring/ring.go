// Package ring keeps the newest part of a room's log as frames of one format. Each event is
// encoded once. Each member has a cursor, which is its position in the ring. The package does no
// I/O and has no clock.
//
// An offset is a number of bytes since the ring was made. It never wraps. The head is the offset
// after the newest frame. The buffer contains all bytes from the offset base to the head, in one
// piece. So one write can send all frames that a member lacks. When the buffer is full, the ring
// drops the older half and moves the rest to the front. On average, this moves two bytes for each
// appended byte.
package ring

// Ring is a log with the members that are served from it. One goroutine owns it.
type Ring struct {
	Log

	members []Member
	pos     int    // position of the member that the present pass serves next
	to      uint64 // the present pass writes the frames up to this offset
}

// Member is a connection with a cursor. The cursor is always at the beginning of a frame.
type Member struct {
	Cursor uint64 // offset of the first byte that the connection has not received, or Away
	Slot   uint32 // slot of the connection
}

// Away is the cursor of a member whose next event is not in the ring. The member is served from the
// log until the ring contains this event. Away is greater than every offset, so a pass skips the
// member without a special test.
const Away = ^uint64(0)

// Members returns the members. The slice is not a copy. The caller may change its elements, but
// not its length.
func (r *Ring) Members() []Member { return r.members }

// Join adds a member and returns its position. The member's cursor is Away.
func (r *Ring) Join(slot uint32) (pos uint32) {
	r.members = append(r.members, Member{Cursor: Away, Slot: slot})
	return uint32(len(r.members) - 1)
}

// Leave removes the member at pos, and moves the last member to its position. During a pass it
// moves two members, so that the pass still serves each remaining member. Leave calls moved with
// the slot and the new position of each member that it moves.
func (r *Ring) Leave(pos uint32, moved func(slot, pos uint32)) {
	at, last := int(pos), len(r.members)-1
	move := func(from, to int) {
		if from != to {
			r.members[to] = r.members[from]
			moved(r.members[to].Slot, uint32(to))
		}
	}
	if at < r.pos {
		r.pos--
		move(r.pos, at)
		at = r.pos
	}
	move(last, at)
	r.members = r.members[:last]
}

// Begin starts a pass over the members and returns true. If a pass is in progress, it returns
// false. The pass writes the frames that are in the ring now. Frames that are appended later
// belong to the next pass.
func (r *Ring) Begin() bool {
	if r.pos > 0 {
		return false
	}
	r.to = r.Head()
	return true
}

// Next returns the next member for which the pass has bytes, and the offset where these bytes end.
// It returns nil at the end of the pass, or when steps is 0. Next subtracts one from steps for each
// member that it looks at. Steps are counted separately from writes, because a member without new
// bytes costs much less than a write.
func (r *Ring) Next(steps *int) (m *Member, to uint64) {
	for r.pos < len(r.members) && *steps > 0 {
		m := &r.members[r.pos]
		r.pos++
		*steps--
		if m.Cursor < r.to {
			return m, r.to
		}
	}
	return nil, 0
}

// End ends the pass if all members have been served. The result ended reports whether it did. The
// result more reports whether this pass or another one has bytes to write.
func (r *Ring) End() (ended, more bool) {
	if r.pos < len(r.members) {
		return false, true
	}
	r.pos = 0
	return true, r.to < r.Head()
}

// Passing reports whether a pass is in progress.
func (r *Ring) Passing() bool { return r.pos > 0 }

// Needed returns the lowest cursor. All members have received the frames before it.
func (r *Ring) Needed() uint64 {
	low := r.Head()
	for i := range r.members {
		low = min(low, r.members[i].Cursor)
	}
	return low
}
