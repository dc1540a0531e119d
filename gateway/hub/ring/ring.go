// Package ring keeps the newest part of a room's log as frames of one format, each encoded once.
// Each member has a cursor in it. The package is pure: it neither writes nor reads a clock.
//
// Offsets count bytes since the ring was made and never wrap. The buffer holds the bytes from base
// to head, always in one piece, so a backlog of any length goes out in one write. A full ring drops
// its older half and moves the rest to the front, which moves two bytes for each appended one.
package ring

// Ring is a log and the members that are served from it. It is owned by one goroutine.
type Ring struct {
	Log

	members []Member
	pos     int    // of the pass under way: the next member to serve
	to      uint64 // of the pass under way: it serves up to here
}

// Member is a connection's cursor in a ring. The cursor stands at a frame's beginning.
type Member struct {
	Cursor uint64 // every byte before it has been given to the connection; or Away
	Slot   uint32 // of the connection
}

// Away is the cursor of a member that is served from the log until the ring reaches it. It
// is beyond every offset, so a pass skips the member without a test of its own.
const Away = ^uint64(0)

// Members returns the members. The slice is not a copy: the caller may change its elements, but not
// its length.
func (r *Ring) Members() []Member { return r.members }

// Join adds a member that is served from the log, and returns its position.
func (r *Ring) Join(slot uint32) (pos uint32) {
	r.members = append(r.members, Member{Cursor: Away, Slot: slot})
	return uint32(len(r.members) - 1)
}

// Leave removes the member at pos. The last member takes its position; during a pass two members
// move, so that the pass misses none. Leave calls moved with the slot and the new position of each
// member that moves.
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

// Begin starts a pass over the members, unless one is under way. The pass serves the frames
// that the ring holds now; later ones are for the next pass. It reports whether it started.
func (r *Ring) Begin() bool {
	if r.pos > 0 {
		return false
	}
	r.to = r.Head()
	return true
}

// Next returns the next member that the pass has bytes for, and where these bytes end. It returns
// nil at the end of the pass, or when steps reaches 0. Each member that it looks at takes one step,
// because a member without new bytes costs far less than a write.
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

// End ends the pass if it has served every member, and reports whether it did. More reports whether
// this pass or another one still has bytes to write.
func (r *Ring) End() (ended, more bool) {
	if r.pos < len(r.members) {
		return false, true
	}
	r.pos = 0
	return true, r.to < r.Head()
}

// Passing reports whether a pass is under way.
func (r *Ring) Passing() bool { return r.pos > 0 }

// Needed returns the lowest cursor. No member needs the frames before it.
func (r *Ring) Needed() uint64 {
	low := r.Head()
	for i := range r.members {
		low = min(low, r.members[i].Cursor)
	}
	return low
}
