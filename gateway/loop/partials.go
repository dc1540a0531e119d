package loop

import "sync"

const (
	minPartial = 256 // size of the smallest buffer in bytes; each size is twice the one before
	sizes      = 19  // number of sizes; the largest is 64 MiB
)

// partials stores received bytes that the handler has not used yet, mostly the beginning of a
// frame. Few connections have any. When a buffer is empty, it goes back to the pool for buffers
// of its size. The garbage collector may free buffers in a pool. The loop owns partials.
type partials struct {
	held   []*partial // indexed by conn.partial - 1
	unused []uint32   // free indexes of held
	pools  [sizes]sync.Pool
}

type partial struct {
	b    []byte
	size int // index of the buffer's pool
}

// of returns c's unused bytes, or nil.
func (t *partials) of(c *conn) *partial {
	if c.partial == 0 {
		return nil
	}
	return t.held[c.partial-1]
}

// keep stores rest as c's unused bytes. The slice rest may be a part of the buffer that c has
// already.
func (t *partials) keep(c *conn, rest []byte) {
	old := t.of(c)
	switch {
	case len(rest) == 0:
		t.drop(c)
	case old == nil:
		if n := len(t.unused); n > 0 {
			c.partial = t.unused[n-1] + 1
			t.unused = t.unused[:n-1]
		} else {
			t.held = append(t.held, nil)
			c.partial = uint32(len(t.held))
		}
		t.held[c.partial-1] = t.take(rest, len(rest))
	case len(rest) <= cap(old.b) && (old.size == 0 || len(rest) > cap(old.b)/8):
		if &rest[0] != &old.b[0] {
			copy(old.b[:len(rest)], rest)
		}
		old.b = old.b[:len(rest)]
	default:
		t.held[c.partial-1] = t.take(rest, len(rest))
		t.put(old)
	}
}

// grow returns c's unused bytes in a buffer that has free space behind them.
func (t *partials) grow(c *conn) *partial {
	old := t.of(c)
	if len(old.b) < cap(old.b) {
		return old
	}
	bigger := t.take(old.b, 2*len(old.b))
	t.held[c.partial-1] = bigger
	t.put(old)
	return bigger
}

// drop discards c's unused bytes.
func (t *partials) drop(c *conn) {
	if c.partial == 0 {
		return
	}
	t.put(t.held[c.partial-1])
	t.held[c.partial-1] = nil
	t.unused = append(t.unused, c.partial-1)
	c.partial = 0
}

// take returns a buffer with a copy of b and a capacity of at least n bytes.
func (t *partials) take(b []byte, n int) *partial {
	size, bytes := 0, minPartial
	for bytes < n && size < sizes-1 {
		size, bytes = size+1, bytes*2
	}
	tl, _ := t.pools[size].Get().(*partial)
	if tl == nil {
		tl = &partial{b: make([]byte, 0, max(bytes, n)), size: size}
	}
	tl.b = append(tl.b[:0], b...)
	return tl
}

func (t *partials) put(tl *partial) { t.pools[tl.size].Put(tl) }
