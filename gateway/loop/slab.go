package loop

// conn is the state of a connection: 32 bytes and no pointer, so that the garbage
// collector never looks at the slab.
type conn struct {
	gen     uint32 // generation of the slot; free raises it
	fd      int32  // epoll backend
	partial uint32 // epoll backend: 1 + index of the bytes not used yet; 0 = none
	open    bool   // accepted and not closed
	paused  bool   // the loop does not read from it
	short   bool   // a write was short, and Writable must follow
	armed   bool   // epoll backend: epoll reports writable

	// Owned by the wheel.
	due    uint32 // tick of the deadline; 0 = none
	queued uint32 // tick of its bucket in the wheel, at most due; 0 = it is in no bucket
	next   uint32 // 1 + slot of the next one in the bucket or the list of free slots; 0 = none
	prev   uint32 // 1 + slot of the previous one in the bucket; 0 = none
}

const chunkSize = 4096 // slots

// slab holds connections by slot. It grows by chunks, which never move. A new connection gets
// the slot that was freed last. The loop owns it.
type slab struct {
	chunks []*[chunkSize]conn
	size   uint32 // slots that were ever used
	unused uint32 // 1 + slot of the first free one; 0 = none
}

// alloc returns a new connection and its ID.
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
