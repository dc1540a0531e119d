package hub

import (
	"slices"
	"sort"
	"time"
	"unsafe"

	"roomcast/proto"
)

// ring is the newest part of a room's log as the frames of one encoding, each encoded
// once, and the members that are served from it. Offsets count bytes since the ring
// was made and never wrap; buf holds those from base to head, always in one piece, so
// that a backlog of any length goes out in one write. When it is full the older half
// is dropped and the rest moved to the front, which costs two bytes moved for each
// appended one.
type ring struct {
	room *room
	enc  Encoding
	self uint32 // its index in Hub.rings

	buf    []byte
	base   uint64  // offset of buf[0]
	frames []frame // those in buf, oldest first
	shy    uint64  // offset behind the newest frame that not everybody gets

	members []member
	pos     int       // of the pass under way: the next member to serve
	to      uint64    // of the pass under way: it serves up to here
	began   time.Time // the pass under way, or the last one
	dirty   bool      // in Hub.dirty, or about to be after a pause
	warm    bool      // in Hub.warm
	used    uint32    // when a frame was appended last, in the hub's seconds

	counted struct{ from, to, n uint64 } // the last answer of count
}

// frame is one event or ephemeral in a ring.
type frame struct {
	at   uint64 // offset of its first byte
	seq  uint64 // of the event; an ephemeral has that of the event before it
	time int64  // of the event, in milliseconds since 1970
	skip uint32 // slot+1 of the connection that does not get it; 0 = everybody does
	eph  bool
}

// member is a connection's cursor in a ring. It stands at a frame's beginning.
type member struct {
	cursor uint64 // everything before has been given to the connection; or catching
	slot   uint32
}

// catching is the cursor of a member that is being served from the log until the ring
// reaches it. It is beyond every offset, so that a pass goes by without a test of its own.
const catching = ^uint64(0)

// Sizes of a ring's buffer in bytes. It grows beyond ringSmall only while some member
// still needs what is in it.
const (
	ringFirst = 2 << 10
	ringSmall = 16 << 10
)

// size returns how many bytes of memory the ring holds.
func (r *ring) size() int { return cap(r.buf) + cap(r.frames)*int(unsafe.Sizeof(frame{})) }

func (r *ring) head() uint64 { return r.base + uint64(len(r.buf)) }

func (r *ring) bytes(from, to uint64) []byte { return r.buf[from-r.base : to-r.base] }

// index returns the first frame at or behind the offset.
func (r *ring) index(at uint64) int {
	return sort.Search(len(r.frames), func(i int) bool { return r.frames[i].at >= at })
}

// end returns the offset behind frame i.
func (r *ring) end(i int) uint64 {
	if i+1 < len(r.frames) {
		return r.frames[i+1].at
	}
	return r.head()
}

// next returns the seq of the first event at or behind the offset.
func (r *ring) next(at uint64) uint64 {
	i := r.index(at)
	switch {
	case i == len(r.frames):
		return r.room.head.Seq + 1
	case r.frames[i].eph:
		return r.frames[i].seq + 1
	}
	return r.frames[i].seq
}

// find returns the offset of the event with the given seq, or of the place where it
// will be if it is the next to come.
func (r *ring) find(seq uint64) (at uint64, ok bool) {
	if seq == r.room.head.Seq+1 {
		return r.head(), true
	}
	if f := r.event(seq); f != nil {
		return f.at, true
	}
	return 0, false
}

// event returns the frame of the event with the given seq, nil if the ring does not hold it.
func (r *ring) event(seq uint64) *frame {
	i := sort.Search(len(r.frames), func(i int) bool { return r.frames[i].seq >= seq })
	if i == len(r.frames) || r.frames[i].seq != seq || r.frames[i].eph {
		return nil
	}
	return &r.frames[i]
}

// continues reports whether what is known here shows that the room's log is the one that
// a member continues. If not, the log itself decides.
func (r *ring) continues(from proto.From) bool {
	head := &r.room.head
	switch {
	case from.Since == 0:
		return true
	case from.Since > head.Seq || from.Epoch != "" && from.Epoch != head.Epoch:
		return false
	case from.At.IsZero():
		return true
	case from.Since == head.Seq && !head.At.IsZero():
		return from.At.Equal(head.At)
	}
	f := r.event(from.Since)
	return f != nil && from.At.UnixMilli() == f.time
}

// needed returns the lowest cursor, the offset from which the ring is still needed.
func (r *ring) needed() uint64 {
	low := r.head()
	for i := range r.members {
		low = min(low, r.members[i].cursor)
	}
	return low
}

// drop forgets the frames before the offset, which must be a frame's beginning or the head.
func (r *ring) drop(to uint64) {
	r.frames = slices.Delete(r.frames, 0, r.index(to))
	n := copy(r.buf, r.buf[to-r.base:])
	r.buf = r.buf[:n]
	r.base = to
}

// half returns the frame boundary at or behind the middle of what the ring holds.
func (r *ring) half() uint64 {
	i := r.index(r.base + uint64(len(r.buf))/2)
	if i == len(r.frames) {
		return r.head()
	}
	return r.frames[i].at
}
