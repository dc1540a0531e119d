package client

import (
	"errors"
	"slices"
	"sync"
	"time"

	"roomcast/proto"
)

// state holds the rooms that the client follows, the commands without an answer, and the notices
// that Next has not returned. It does no I/O. Its methods are safe for concurrent use, except those
// whose comment says that the caller holds mu.
type state struct {
	buffer   int           // see Config
	patience time.Duration // see Config
	wake     chan struct{} // has an element if the connector must look for due commands
	arrived  chan struct{} // has an element if Next must look for a notice

	mu    sync.Mutex // never held during I/O or a wait
	hello Hello      // hello of the newest session
	rooms map[proto.Room]*room
	order []*room // the rooms, in the order of their joins
	calls calls
	queue []Notice
	err   error // why the client has ended; nil = it runs
	stats Stats
}

func newState(cfg *Config) *state {
	return &state{
		buffer: cfg.Buffer, patience: cfg.Patience,
		wake: make(chan struct{}, 1), arrived: make(chan struct{}, 1),
		hello: Hello{Resume: cfg.Resume}, rooms: map[proto.Room]*room{}, calls: calls{byID: map[uint64]*call{}},
	}
}

// signal puts an element into a channel that has space for one element. If the channel is full,
// signal does nothing. This wakes the reader.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// addRoom begins to follow a room. The returned call receives the answer to the first join.
func (s *state) addRoom(name proto.Room, from proto.From) (*call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if s.rooms[name] != nil {
		return nil, errors.New("the client has joined the room already")
	}
	r := &room{name: name, from: from, asked: &call{verb: proto.VerbJoin, done: make(chan answer, 1)}}
	s.rooms[name] = r
	s.order = append(s.order, r)
	signal(s.wake)
	return r.asked, nil
}

// removeRoom stops following a room and reports whether the client followed it.
func (s *state) removeRoom(name proto.Room) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[name]
	if r == nil {
		return false
	}
	s.forget(r, ErrClosed)
	return true
}

// addSay appends a message to the room's waiting messages.
func (s *state) addSay(name proto.Room, f fields) (*call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[name]
	if s.err != nil {
		return nil, s.err
	}
	if r == nil {
		return nil, proto.Refuse(proto.NotJoined, "join the room first")
	}
	k := s.calls.add(proto.VerbSay, f)
	r.says = append(r.says, k)
	signal(s.wake)
	return k, nil
}

// addCall queues a command that belongs to no room's queue.
func (s *state) addCall(verb proto.Verb, f fields) (*call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	signal(s.wake)
	return s.calls.queue(verb, f), nil
}

// keyWindow is how long a server remembers keys, unless its hello says otherwise.
const keyWindow = 2 * time.Minute

// forgotten reports whether the server may have forgotten the key of a message. The caller holds
// mu.
func (s *state) forgotten(k *call, now time.Time) bool {
	window := time.Duration(s.hello.Limits.KeyWindowMS) * time.Millisecond
	orDefault(&window, keyWindow)
	return k.as != s.hello.You.ID || now.Sub(k.began) >= window-min(15*time.Second, window/4)
}

// forgetCall removes a call whose caller no longer waits.
func (s *state) forgetCall(k *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.finished = true
	s.calls.remove(k)
	for _, r := range s.order {
		r.says = slices.DeleteFunc(r.says, k.is)
	}
	signal(s.wake)
}

// next removes a notice from the queue. If the queue is empty, ok is false.
func (s *state) next() (n Notice, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		if s.err != nil {
			signal(s.arrived) // for another caller of Next
		}
		return n, false, s.err
	}
	n = s.queue[0]
	s.queue[0] = Notice{}
	s.queue = s.queue[1:]
	if len(s.queue) > 0 {
		signal(s.arrived) // for another caller of Next
	} else {
		s.queue = nil
		signal(s.wake) // the queue is empty now, so lagging rooms can be joined again
	}
	return n, true, nil
}

// notify puts a notice in the queue and reports whether there was space. The caller holds mu.
func (s *state) notify(n Notice) bool {
	if len(s.queue) >= s.buffer {
		return false
	}
	s.queue = append(s.queue, n)
	signal(s.arrived)
	return true
}

// notifyIfSpace puts a notice in the queue or counts it as dropped. The caller holds mu.
func (s *state) notifyIfSpace(n Notice) {
	if !s.notify(n) {
		s.stats.Dropped++
	}
}

// upcoming returns the number of the next connection, and the resume string for it.
func (s *state) upcoming() (number int, resume string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.Links + 1, s.hello.Resume
}

// forgetResume makes the next connection present no resume string.
func (s *state) forgetResume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hello.Resume = ""
}

// attach begins a session. All calls without an answer are then due to be sent.
func (s *state) attach(h *Hello) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Links++
	s.hello = *h
	s.notify(Notice{Hello: h})
	signal(s.wake)
}

// detach ends a session.
func (s *state) detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.order {
		s.calls.remove(r.move)
		r.detached()
	}
	s.calls.detach()
}

// lost puts a notice into the queue which says that there is no connection.
func (s *state) lost(l Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify(Notice{Link: &l})
}

// end ends the client: all calls fail with err, and so do later ones.
func (s *state) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.calls.fail(err)
	for _, r := range s.order {
		r.fail(err)
	}
	s.order, s.rooms = nil, nil
	signal(s.arrived)
}

// forget stops following a room. Its waiting callers get err. The caller holds mu.
func (s *state) forget(r *room, err error) {
	r.fail(err)
	s.calls.remove(r.move)
	delete(s.rooms, r.name)
	s.order = slices.DeleteFunc(s.order, func(o *room) bool { return o == r })
}

// expel forgets a room whose membership the server has ended, and puts a notice about that into the
// queue. The caller holds mu.
func (s *state) expel(r *room, why *proto.Refusal) {
	s.notify(Notice{Room: r.name, Refused: why})
	s.forget(r, why)
}
