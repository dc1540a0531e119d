package client_test

import (
	"testing"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// resumes closes the client's connection and answers the join on the next one. The join must name
// the epoch, and since as the last seq.
func (s *script) resumes(p *played, since uint64, epoch string, head uint64) *played {
	s.t.Helper()
	p.conn.Close()
	p = s.again()
	a := p.admitTo(epoch, head)
	want := ""
	if since > 0 {
		want = at(since)
	}
	if a.Since == nil || *a.Since != since || a.At != want || since > 0 && a.Epoch != epoch {
		s.t.Errorf("got join %+v, want since %d of %s and its time", a, since, epoch)
	}
	return p
}

func (p *played) reset(from uint64, epoch string, past uint64) {
	p.say(`{"room":"lobby","gap":{"from":%d,"to":0,"reason":"reset","epoch":"%s","seq":%d}}`, from, epoch, past)
}

// first sends the first event of an epoch.
func (p *played) first(epoch string) {
	p.say(`{"room":"lobby","seq":1,"at":"%s","epoch":"%s","from":{"id":"bob"},"text":"m1"}`, at(1), epoch)
}

func isGap(n client.Notice) bool { return n.Gap != nil }

func TestResumeNamesTheNewestEvent(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 5)
	p = s.resumes(p, 5, "e1", 5) // there is no new event in the room
	p.event(6)
	wantEvents(t, c, 6)
	s.resumes(p, 6, "e1", 6)
}

func TestResetWhileConnectedBeginsAnotherEpoch(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 9)
	p.event(10)
	p.reset(11, "e2", 0)
	p = s.resumes(p, 0, "e2", 2) // the client has received no event of the new epoch
	p.first("e2")
	p.event(2)
	p = s.resumes(p, 2, "e2", 3)
	p.event(3)
	s.resumes(p, 3, "e2", 3)
	wantEvents(t, c, 10, 1, 2, 3)
}

// The connection breaks before the client has received a reset. Then the next join must name the
// old epoch again, so that the client gets the reset.
func TestLostResetIsAskedForAgain(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	join(t, c, p, proto.From{}, 9)
	p.event(10)
	wantEvents(t, c, 10)
	for range 2 {
		p.conn.Close()
		p = s.again()
		if a := p.admitTo("e2", 12); *a.Since != 10 || a.Epoch != "e1" || a.At != at(10) {
			t.Errorf("got join %+v, want since 10 of e1", a)
		}
	}
	p.reset(11, "e2", 12)
	if got := await(t, c, isGap).Gap; got.Epoch != "e2" || got.Seq != 12 {
		t.Errorf("got gap %+v", got)
	}
	s.resumes(p, 0, "e2", 12)
}

func TestEmptyRoomGetsItsEpochWithTheFirstEvent(t *testing.T) {
	s := newScript(t)
	c, p := s.dial(s.config())
	go p.admitTo("", 0)
	if _, err := c.Join(within(t), lobby, proto.From{}); err != nil {
		t.Fatal(err)
	}
	p.first("e1")
	wantEvents(t, c, 1)
	s.resumes(p, 1, "e1", 1)
}

// A replay may contain a close that a reopening has undone. Such a close does not end the
// membership. After a reset, seqs begin again. Then a close ends the membership even if its seq is
// below the old head.
func TestCloseAfterAResetEndsTheMembership(t *testing.T) {
	for past, left := range map[uint64]bool{0: true, 1: true, 2: false} {
		s := newScript(t)
		c, p := s.dial(s.config())
		join(t, c, p, proto.From{}, 10)
		p.reset(11, "e2", past)
		p.first("e2")
		p.say(`{"room":"lobby","seq":2,"at":"%s","kind":"closed","from":{"id":"api"},"why":"enough"}`, at(2))
		wantEvents(t, c, 1, 2)
		if !left {
			p.event(3)
			wantEvents(t, c, 3)
			continue
		}
		refused := await(t, c, func(n client.Notice) bool { return n.Refused != nil }).Refused
		if refused.Code != proto.RoomClosed {
			t.Errorf("closings up to %d are undone: got %v, want room_closed", past, refused)
		}
	}
}
