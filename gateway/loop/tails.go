package loop

import "sync"

const (
	minTail = 256 // bytes of the smallest buffer; each size is twice the one before
	sizes   = 19  // up to 64 MiB
)

// tails holds, for the few connections that have any, the bytes received and not
// used yet: mostly the beginning of a frame. Buffers come in sizes and go back
// at once; the pools give them up to the garbage collector.
type tails struct {
	held   []*tail  // by conn.tail - 1
	unused []uint32 // indexes of held
	pools  [sizes]sync.Pool
}

type tail struct {
	b    []byte
	size int // index of its pool
}

// of returns c's bytes, nil if it has none.
func (t *tails) of(c *conn) *tail {
	if c.tail == 0 {
		return nil
	}
	return t.held[c.tail-1]
}

// keep makes rest c's bytes. rest may lie in the bytes it has.
func (t *tails) keep(c *conn, rest []byte) {
	old := t.of(c)
	switch {
	case len(rest) == 0:
		t.drop(c)
	case old == nil:
		if n := len(t.unused); n > 0 {
			c.tail = t.unused[n-1] + 1
			t.unused = t.unused[:n-1]
		} else {
			t.held = append(t.held, nil)
			c.tail = uint32(len(t.held))
		}
		t.held[c.tail-1] = t.take(rest, len(rest))
	case len(rest) <= cap(old.b) && (old.size == 0 || len(rest) > cap(old.b)/8):
		if &rest[0] != &old.b[0] {
			copy(old.b[:len(rest)], rest)
		}
		old.b = old.b[:len(rest)]
	default:
		t.held[c.tail-1] = t.take(rest, len(rest))
		t.put(old)
	}
}

// grow makes room behind c's bytes if there is none and returns them.
func (t *tails) grow(c *conn) *tail {
	old := t.of(c)
	if len(old.b) < cap(old.b) {
		return old
	}
	bigger := t.take(old.b, 2*len(old.b))
	t.held[c.tail-1] = bigger
	t.put(old)
	return bigger
}

// drop forgets c's bytes.
func (t *tails) drop(c *conn) {
	if c.tail == 0 {
		return
	}
	t.put(t.held[c.tail-1])
	t.held[c.tail-1] = nil
	t.unused = append(t.unused, c.tail-1)
	c.tail = 0
}

// take returns a buffer of at least n bytes that holds b.
func (t *tails) take(b []byte, n int) *tail {
	size, bytes := 0, minTail
	for bytes < n && size < sizes-1 {
		size, bytes = size+1, bytes*2
	}
	tl, _ := t.pools[size].Get().(*tail)
	if tl == nil {
		tl = &tail{b: make([]byte, 0, max(bytes, n)), size: size}
	}
	tl.b = append(tl.b[:0], b...)
	return tl
}

func (t *tails) put(tl *tail) { t.pools[tl.size].Put(tl) }
