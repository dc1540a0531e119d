package ring

import (
	"iter"
	"slices"
	"sort"
	"unsafe"

	"roomcast/proto"
	"roomcast/proto/history"
)

// Log contains the frames of a ring. One goroutine owns it.
type Log struct {
	buf      []byte
	base     uint64  // offset of buf[0]
	frames   []Frame // the frames in buf, oldest first
	lastSkip uint64  // offset after the newest frame that one of the members must not receive

	counted struct{ from, to, n uint64 } // arguments and result of the last call of Count
}

// Frame is an event or an ephemeral in a ring.
type Frame struct {
	Seq       uint64 // seq of the event; for an ephemeral, the seq of the event before it
	Time      int64  // time of the event, in milliseconds since 1970
	Skip      uint32 // 1 + slot of the member that must not receive the frame; 0 = every member receives it
	Ephemeral bool   // the log does not contain it
	Gap       bool   // an ephemeral that says which events are missing; a replay finds the same gap in the log

	at uint64 // offset of the frame's first byte
}

// Sizes of a ring's buffer in bytes. The buffer grows beyond Small only while some member has
// not received its contents.
const (
	First = 2 << 10
	Small = 16 << 10
)

// Size returns the memory of the buffer and of the list of frames, in bytes.
func (l *Log) Size() int { return cap(l.buf) + cap(l.frames)*int(unsafe.Sizeof(Frame{})) }

// Len returns the number of bytes in the buffer. Cap returns the size of the buffer.
func (l *Log) Len() int { return len(l.buf) }
func (l *Log) Cap() int { return cap(l.buf) }

// Head returns the offset after the newest frame.
func (l *Log) Head() uint64 { return l.base + uint64(len(l.buf)) }

// Bytes returns the bytes between two offsets.
func (l *Log) Bytes(from, to uint64) []byte { return l.buf[from-l.base : to-l.base] }

// Append adds a frame. The function encode appends the frame's bytes to the buffer. If the format
// does not include the event, it appends nothing. Then the frame is empty, and Append returns
// false.
func (l *Log) Append(f Frame, encode func([]byte) []byte) (shown bool) {
	f.at = l.Head()
	l.buf = encode(l.buf)
	l.frames = append(l.frames, f)
	if f.Skip != 0 {
		l.lastSkip = l.Head()
	}
	return l.Head() > f.at
}

// index returns the index of the first frame that begins at or after the offset.
func (l *Log) index(at uint64) int {
	return sort.Search(len(l.frames), func(i int) bool { return l.frames[i].at >= at })
}

// edge returns the offset of frame i. If i is the number of frames, it returns the head.
func (l *Log) edge(i int) uint64 {
	if i < len(l.frames) {
		return l.frames[i].at
	}
	return l.Head()
}

// Edge returns the first boundary between frames that is at or after the offset.
func (l *Log) Edge(at uint64) uint64 { return l.edge(l.index(at)) }

// Half returns the first boundary between frames that is at or after the middle of the buffer.
func (l *Log) Half() uint64 { return l.Edge(l.base + uint64(len(l.buf))/2) }

// NextSeq returns the seq of the first event at or after the offset. The parameter newest is the
// seq of the room's newest event.
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

// Find returns the offset of the event with the given seq. If this event is the next one to arrive,
// Find returns the head. The parameter newest is the seq of the room's newest event.
func (l *Log) Find(seq, newest uint64) (at uint64, ok bool) {
	if seq == newest+1 {
		return l.Head(), true
	}
	if f := l.event(seq); f != nil {
		return f.at, true
	}
	return 0, false
}

// OffsetAfter returns the offset after the event with the given seq. The result some reports
// whether there is any frame before that offset.
func (l *Log) OffsetAfter(seq uint64) (at uint64, some bool) {
	i := sort.Search(len(l.frames), func(i int) bool { return l.frames[i].Seq > seq || l.frames[i].Seq == seq && l.frames[i].Ephemeral })
	return l.edge(i), i > 0
}

// event returns the frame of the event with the given seq, or nil if the ring does not contain
// it.
func (l *Log) event(seq uint64) *Frame {
	i := sort.Search(len(l.frames), func(i int) bool { return l.frames[i].Seq >= seq })
	if i == len(l.frames) || l.frames[i].Seq != seq || l.frames[i].Ephemeral {
		return nil
	}
	return &l.frames[i]
}

// Continues reports whether the ring and the room's head prove that the client's position
// belongs to the log's present history. If it returns false, only reading the log can tell.
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

// Drop removes the frames before the offset, which must be a boundary between frames.
func (l *Log) Drop(to uint64) {
	l.frames = slices.Delete(l.frames, 0, l.index(to))
	n := copy(l.buf, l.buf[to-l.base:])
	l.buf = l.buf[:n]
	l.base = to
}

// Resize gives the ring a buffer of the given size. The buffer shrinks only if this saves at least
// three quarters of it. Otherwise copying would cost more than it saves.
func (l *Log) Resize(size int) {
	if size <= cap(l.buf) && size > cap(l.buf)/4 {
		return
	}
	buf := make([]byte, len(l.buf), size)
	copy(buf, l.buf)
	l.buf = buf
}

// Free frees the buffer with all frames.
func (l *Log) Free() {
	l.base = l.Head()
	l.buf, l.frames = nil, nil
}

// Runs yields the ranges of bytes between two offsets that the member in the given slot must
// receive.
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

// Notices yields the ephemerals between two offsets, except gaps, as ranges of bytes. It leaves out
// frames that the member in the given slot must not receive.
func (l *Log) Notices(from, to uint64, slot uint32) iter.Seq2[uint64, uint64] {
	return l.choose(from, to, func(f *Frame) bool { return f.notice() && f.Skip != slot+1 })
}

// Events yields the events and the gaps between two offsets, as ranges of bytes.
func (l *Log) Events(from, to uint64) iter.Seq2[uint64, uint64] {
	return l.choose(from, to, func(f *Frame) bool { return !f.notice() })
}

func (f *Frame) notice() bool { return f.Ephemeral && !f.Gap }

func (l *Log) choose(from, to uint64, take func(*Frame) bool) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for i := l.index(from); i < len(l.frames) && l.frames[i].at < to; i++ {
			if take(&l.frames[i]) && !yield(l.frames[i].at, l.edge(i+1)) {
				return
			}
		}
	}
}

// Skips reports whether there is a frame after the offset that some member must not receive.
func (l *Log) Skips(from uint64) bool { return from < l.lastSkip }

// Count returns the number of frames between two offsets. It remembers its last result, because
// most members are served the same frames.
func (l *Log) Count(from, to uint64) uint64 {
	if l.counted.from != from || l.counted.to != to {
		l.counted.from, l.counted.to = from, to
		l.counted.n = uint64(l.index(to) - l.index(from))
	}
	return l.counted.n
}
