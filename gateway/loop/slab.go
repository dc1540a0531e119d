package loop

// conn is the state of one connection. It has 32 bytes and contains no pointer, so the garbage
// collector does not scan the slab.
type conn struct {
	gen     uint32 // generation of the slot; free increments it
	fd      int32  // epoll backend
	partial uint32 // epoll backend: 1 + index in partials of the bytes not used yet; 0 = none
	open    bool   // accepted and not closed
	paused  bool   // the loop does not read from it
	short   bool   // a write accepted only some of its bytes, so the loop must call Writable
	armed   bool   // epoll backend: epoll reports when the socket is writable

	// Owned by the wheel.
	due    uint32 // tick of the deadline; 0 = none
	queued uint32 // tick of the bucket that the connection is in, at most due; 0 = in no bucket
	next   uint32 // 1 + slot of the next connection in the bucket or in the list of free slots; 0 = none
	prev   uint32 // 1 + slot of the previous connection in the bucket; 0 = none
}

const chunkSize = 4096 // slots

// slab stores the connections of a loop by slot. It grows in chunks, which never move in memory.
// A new connection gets the slot that was freed last. The loop owns the slab.
type slab struct {
	chunks []*[chunkSize]conn
	size   uint32 // number of slots that were ever used
	unused uint32 // 1 + slot of the first free slot; 0 = none
}

// alloc returns a new open connection and its ID.
func (s *slab) alloc() (ID, *conn) {
	slot := s.size
	if s.unused != 0 {
		slot = s.unused - 1
		s.unused = s.at(slot).next
	} else {
		if slot%chunkSize == 0 {
			s.chunks = append(s.chunks, new([chunkSize]conn))
		}
		s.size++
	}
	c := s.at(slot)
	*c = conn{gen: max(c.gen, 1), open: true} // no ID is zero
	return s.id(slot), c
}

// free makes the slot's ID invalid and the slot reusable.
func (s *slab) free(slot uint32) {
	c := s.at(slot)
	*c = conn{gen: c.gen + 1, next: s.unused}
	s.unused = slot + 1
}

// get returns the open connection of an ID, or nil.
func (s *slab) get(id ID) *conn {
	if id.Slot() >= s.size {
		return nil
	}
	c := s.at(id.Slot())
	if c.gen != uint32(id>>32) || !c.open {
		return nil
	}
	return c
}

func (s *slab) at(slot uint32) *conn { return &s.chunks[slot/chunkSize][slot%chunkSize] }

func (s *slab) id(slot uint32) ID { return ID(slot) | ID(s.at(slot).gen)<<32 }

// each calls f for every open connection.
func (s *slab) each(f func(ID, *conn)) {
	for slot := range s.size {
		if c := s.at(slot); c.open {
			f(s.id(slot), c)
		}
	}
}
