//go:build linux

package main

import (
	"bytes"
	"fmt"
	"time"

	"roomcast/gateway/wire/wstest"
)

// stamp has the same length as the time that a text session receives before each message.
const stamp = "2006-01-02 15:04:05 "

// talk decides which members of a swarm send, and checks the deliveries. A text contains the number
// of the speaker, the number of the message and filler. From these numbers, talk checks that each
// delivery is in the right room and in order, and that none is missing or repeated. One goroutine
// owns a talk.
type talk struct {
	s       *swarm
	text    []byte // the text of the next message; say overwrites its beginning with the numbers
	speaks  []speaker
	inRoom  [][]int  // by room: indexes of its speakers in speaks
	members []int    // by room: the number of its members
	next    []uint32 // for each member and each speaker of its room: the number of the next expected message
	first   []int    // by member: where its part of next begins

	closedLoop bool // a speaker sends its next message when its last one has reached all members
	turn       int  // index of the next speaker, if closedLoop is false
	timed      int  // the delay is measured for members with a lower id; 0 = for all members
	frame      []byte

	heard  int64     // number of deliveries
	said   int64     // number of messages
	faults int64     // number of wrong deliveries
	wrong  string    // description of the first wrong delivery
	delay  histogram // from the sender's write to a member's read
	busy   int       // number of messages that have not reached all members of their rooms yet
}

// speaker is a member that sends messages.
type speaker struct {
	member int
	room   int
	local  int               // its index among its room's speakers
	last   uint32            // number of its last message
	sent   [64]time.Duration // when it sent its last 64 messages, by number modulo 64
	got    [64]int32         // how many members have received each of these messages
}

// newTalk returns a talk for the members of a swarm. In each room, perRoom members send texts. With
// the stamp, a text has size bytes.
func newTalk(s *swarm, rooms, perRoom, size int) *talk {
	t := &talk{s: s, inRoom: make([][]int, rooms), members: make([]int, rooms)}
	t.text = bytes.Repeat([]byte("."), max(18, size-len(stamp)))
	for id := range s.members {
		room := int(s.members[id].room)
		t.members[room]++
		if len(t.inRoom[room]) < perRoom {
			t.inRoom[room] = append(t.inRoom[room], len(t.speaks))
			t.speaks = append(t.speaks, speaker{member: id, room: room, local: len(t.inRoom[room]) - 1})
		}
	}
	for id := range s.members {
		t.first = append(t.first, len(t.next))
		for range t.inRoom[s.members[id].room] {
			t.next = append(t.next, 1)
		}
	}
	s.hears = t.hear
	s.ticks = t.sayNext
	return t
}

// sayNext lets the next speaker send.
func (t *talk) sayNext() {
	t.say(t.turn)
	t.turn = (t.turn + 1) % len(t.speaks)
}

func (t *talk) say(i int) {
	p := &t.speaks[i]
	p.last++
	putHex(t.text[0:8], uint32(i))
	t.text[8] = ' '
	putHex(t.text[9:17], p.last)
	t.text[17] = ' '
	n := p.last % uint32(len(p.sent))
	p.got[n] = 0
	if t.s.json {
		t.frame = append(append(append(t.frame[:0], `{"say":{"text":"`...), t.text...), `"}}`...)
		t.s.out = wstest.AppendMasked(t.s.out[:0], wstest.Fin|wstest.Text, t.frame)
	} else {
		t.s.out = wstest.AppendMasked(t.s.out[:0], wstest.Fin|wstest.Text, t.text)
	}
	p.sent[n] = time.Since(t.s.start)
	t.said++
	t.busy++
	t.s.write(p.member, t.s.out)
}

func (t *talk) hear(id int, payload []byte) {
	m := &t.s.members[id]
	if t.s.json {
		at := bytes.Index(payload, []byte(`"text":"`))
		if at < 0 {
			if bytes.Contains(payload, []byte(`"error":`)) || bytes.Contains(payload, []byte(`"gap":`)) {
				t.fault("member %d got %s", id, payload)
			}
			return // another frame of a JSON session: hello, ok, joined or left
		}
		m.have = number(payload, `"seq":`)
		payload = payload[at+len(`"text":"`):]
	} else if len(payload) > len(stamp) {
		payload = payload[len(stamp):]
	}
	if len(payload) < 18 {
		t.fault("a message of %d bytes", len(payload))
		return
	}
	from, n := int(hex(payload[0:8])), hex(payload[9:17])
	if from >= len(t.speaks) || t.speaks[from].room != int(m.room) {
		t.fault("member %d of room %d heard speaker %d", id, m.room, from)
		return
	}
	p := &t.speaks[from]
	next := &t.next[t.first[id]+p.local]
	if n != *next {
		t.fault("member %d heard message %d of speaker %d instead of %d", id, n, from, *next)
		return
	}
	*next++
	t.heard++
	slot := n % uint32(len(p.sent))
	if t.timed == 0 || id < t.timed {
		t.delay.add(t.s.now - p.sent[slot])
	}
	p.got[slot]++
	if int(p.got[slot]) == t.members[p.room] {
		t.busy--
		if t.closedLoop {
			t.say(from)
		}
	}
}

func (t *talk) fault(format string, args ...any) {
	if t.faults++; t.wrong == "" {
		t.wrong = fmt.Sprintf(format, args...)
	}
}

// settle stops the speakers and waits until all members have received all messages.
func (t *talk) settle(limit time.Duration) error {
	t.closedLoop = false
	t.s.every(0)
	if err := t.s.run(limit, func() bool { return t.busy == 0 || t.faults > 0 }); err != nil {
		return fmt.Errorf("%d messages have not reached all members: %w", t.busy, err)
	}
	if t.faults > 0 {
		return fmt.Errorf("%d wrong deliveries: %s", t.faults, t.wrong)
	}
	return nil
}

// number returns the decimal number that follows the first occurrence of name in b, or 0.
func number(b []byte, name string) (v uint64) {
	at := bytes.Index(b, []byte(name))
	if at < 0 {
		return 0
	}
	for _, c := range b[at+len(name):] {
		if c < '0' || c > '9' {
			break
		}
		v = v*10 + uint64(c-'0')
	}
	return v
}

const digits = "0123456789abcdef"

func putHex(b []byte, v uint32) {
	for i := 7; i >= 0; i-- {
		b[i] = digits[v&15]
		v >>= 4
	}
}

// hex reads a number that putHex has written. For bytes that putHex has not written, it returns a
// number that putHex never writes.
func hex(b []byte) (v uint32) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint32(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint32(c-'a'+10)
		default:
			return 1<<32 - 1
		}
	}
	return v
}
