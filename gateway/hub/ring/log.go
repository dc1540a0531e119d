package ring

import (
	"iter"
	"slices"
	"sort"
	"unsafe"

	"roomcast/proto"
	"roomcast/proto/history"
)

// Log is the frames of a ring. It is owned by one goroutine.
type Log struct {
	buf      []byte
	base     uint64  // offset of buf[0]
	frames   []Frame // those in buf, oldest first
	lastSkip uint64  // offset behind the newest frame that some member does not get

	counted struct{ from, to, n uint64 } // the arguments and the result of the last Count
}

// Frame is one event or ephemeral in a ring.
type Frame struct {
	Seq       uint64 // of the event; an ephemeral has that of the event before it
	Time      int64  // of the event, in milliseconds since 1970
	Skip      uint32 // slot+1 of the member that does not get it; 0 = every member does
	Ephemeral bool

	at uint64 // offset of its first byte
}

// Sizes of a ring's buffer in bytes. It grows beyond Small only while some member still
// needs what is in it.
const (
	First = 2 << 10
	Small = 16 << 10
)

// Size returns how many bytes of memory the frames take.
func (l *Log) Size() int { return cap(l.buf) + cap(l.frames)*int(unsafe.Sizeof(Frame{})) }

// Len returns how many bytes the buffer holds, and Cap how many fit into it.
func (l *Log) Len() int { return len(l.buf) }
func (l *Log) Cap() int { return cap(l.buf) }

// Head returns the offset behind the newest frame.
func (l *Log) Head() uint64 { return l.base + uint64(len(l.buf)) }

// Bytes returns the bytes between two offsets.
func (l *Log) Bytes(from, to uint64) []byte { return l.buf[from-l.base : to-l.base] }

// Append adds a frame. Encode appends the frame's bytes to the buffer. Append reports whether
// encode added any, because a format may show nothing of an event.
func (l *Log) Append(f Frame, encode func([]byte) []byte) (shown bool) {
	f.at = l.Head()
	l.buf = encode(l.buf)
	l.frames = append(l.frames, f)
	if f.Skip != 0 {
		l.lastSkip = l.Head()
	}
	return l.Head() > f.at
}

// index returns the first frame at or behind the offset.
func (l *Log) index(at uint64) int {
	return sort.Search(len(l.frames), func(i int) bool { return l.frames[i].at >= at })
}

// edge returns the offset of frame i, or the head if i is the number of frames.
func (l *Log) edge(i int) uint64 {
	if i < len(l.frames) {
		return l.frames[i].at
	}
	return l.Head()
}

// Edge returns the first frame boundary at or behind the offset.
func (l *Log) Edge(at uint64) uint64 { return l.edge(l.index(at)) }

// Half returns the frame boundary at or behind the middle of the buffer.
func (l *Log) Half() uint64 { return l.Edge(l.base + uint64(len(l.buf))/2) }

// NextSeq returns the seq of the first event at or behind the offset. Newest is the seq of
// the room's newest event.
func (l *Log) NextSeq(at, newest uint64) uint64 {
	i := l.index(at)
	switch {
	case i == len(l.frames):
		return newest + 1
	case l.frames[i].Ephemeral:
		return l.frames[i].Seq + 1
	}
	return l.frames[i].Seq
}

// Find returns the offset of the event with the given seq, or the head if that event is the next to
// come. Newest is the seq of the room's newest event.
func (l *Log) Find(seq, newest uint64) (at uint64, ok bool) {
	if seq == newest+1 {
		return l.Head(), true
	}
	if f := l.event(seq); f != nil {
		return f.at, true
	}
	return 0, false
}

// Behind returns the offset behind the event with the given seq and everything that came before it.
// Some reports whether the ring holds any frame before that offset.
func (l *Log) Behind(seq uint64) (at uint64, some bool) {
	i := sort.Search(len(l.frames), func(i int) bool { return l.frames[i].Seq > seq || l.frames[i].Seq == seq && l.frames[i].Ephemeral })
	return l.edge(i), i > 0
}

// event returns the frame of the event with the given seq, or nil if the ring does not
// hold it.
func (l *Log) event(seq uint64) *Frame {
	i := sort.Search(len(l.frames), func(i int) bool { return l.frames[i].Seq >= seq })
	if i == len(l.frames) || l.frames[i].Seq != seq || l.frames[i].Ephemeral {
		return nil
	}
	return &l.frames[i]
}

// Continues reports whether the room's head and the ring prove that the log continues the history
// that a client has seen. If not, only a read of the log can decide.
func (l *Log) Continues(from proto.From, head history.Head) bool {
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
	f := l.event(from.Since)
	return f != nil && from.At.UnixMilli() == f.Time
}

// Drop forgets the frames before the offset, which must be a frame boundary.
func (l *Log) Drop(to uint64) {
	l.frames = slices.Delete(l.frames, 0, l.index(to))
	n := copy(l.buf, l.buf[to-l.base:])
	l.buf = l.buf[:n]
	l.base = to
}

// Resize gives the ring a buffer of another size. It keeps a buffer if a smaller one would save
// less than three quarters, because the copy costs more.
func (l *Log) Resize(size int) {
	if size <= cap(l.buf) && size > cap(l.buf)/4 {
		return
	}
	buf := make([]byte, len(l.buf), size)
	copy(buf, l.buf)
	l.buf = buf
}

// Free gives up the buffer with everything in it.
func (l *Log) Free() {
	l.base = l.Head()
	l.buf, l.frames = nil, nil
}

// Runs yields the ranges between two offsets that the member in the given slot gets.
func (l *Log) Runs(from, to uint64, slot uint32) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for i := l.index(from); from < min(to, l.lastSkip) && i < len(l.frames) && l.frames[i].at < to; i++ {
			if l.frames[i].Skip != slot+1 {
				continue
			}
			if at := l.frames[i].at; at > from && !yield(from, at) {
				return
			}
			from = l.edge(i + 1)
		}
		if from < to {
			yield(from, to)
		}
	}
}

// Skips reports whether some member does not get a frame behind the offset.
func (l *Log) Skips(from uint64) bool { return from < l.lastSkip }

// Count returns how many frames are between two offsets. It remembers its last result, because most
// members are served the same frames.
func (l *Log) Count(from, to uint64) uint64 {
	if l.counted.from != from || l.counted.to != to {
		l.counted.from, l.counted.to = from, to
		l.counted.n = uint64(l.index(to) - l.index(from))
	}
	return l.counted.n
}
