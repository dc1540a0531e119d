package service

import "sync"

// queue holds the waiting commands of one partition. It grows on demand up to its bound, because
// most partitions are quiet. It is safe for concurrent use.
type queue struct {
	bound int

	mu    sync.Mutex // guards the fields below
	items []command
	first int // index of the oldest queued item
}

// put appends c. It returns false if the queue is full.
func (q *queue) put(c command) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items)-q.first >= q.bound {
		return false
	}
	if q.first > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, c)
	return true
}

// take removes the oldest command. It returns false if the queue is empty.
func (q *queue) take() (c command, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == len(q.items) {
		return command{}, false
	}
	c, q.items[q.first] = q.items[q.first], command{}
	if q.first++; q.first == len(q.items) {
		q.first, q.items = 0, q.items[:0]
		if cap(q.items) > queueKept {
			q.items = nil
		}
	}
	return c, true
}

// queueKept is the largest capacity, in commands, that an empty queue keeps.
const queueKept = 64

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) - q.first
}
