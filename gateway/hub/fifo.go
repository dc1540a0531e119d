package hub

// fifo is a queue that keeps its memory while it is in use.
type fifo[T any] struct {
	items []T
	first int
}

func (f *fifo[T]) len() int { return len(f.items) - f.first }

func (f *fifo[T]) push(v T) {
	if f.first > 32 && f.first > len(f.items)/2 {
		n := copy(f.items, f.items[f.first:])
		clear(f.items[n:])
		f.items, f.first = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

func (f *fifo[T]) pop() T {
	v := f.items[f.first]
	f.first++
	if f.first == len(f.items) {
		clear(f.items)
		f.items, f.first = f.items[:0], 0
	}
	return v
}
