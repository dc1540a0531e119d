package presence

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

const (
	stallTime  = 300 * time.Millisecond // how long to wait for the next answer
	answerTime = time.Second            // how long to wait for all answers
)

// inquiry is one question to all gateways. Callers that ask the same question at the same time
// share it.
type inquiry struct {
	room     proto.Room
	token    string
	done     []func(count int, list []proto.Member, err error)
	answered map[string]bool // the gateways that have answered
	people   map[string]proto.Member
	listed   bool // every answer so far has listed all its people
	total    int  // the greatest Total in an answer
	begun    time.Time
	heard    time.Time // when the last answer arrived
}

// inquiries contains the questions that wait for answers. One goroutine owns it.
type inquiries struct {
	self    string
	inbox   string // prefix of the subjects of answers, followed by a token
	rooms   map[proto.Room]*inquiry
	tokens  map[string]*inquiry
	next    uint64
	started time.Time
}

func newInquiries(self string) *inquiries {
	return &inquiries{self: self, rooms: make(map[proto.Room]*inquiry), tokens: make(map[string]*inquiry)}
}

// ask asks all gateways, over nc, which people are in a room.
func (s *inquiries) ask(nc *nats.Conn, room proto.Room, done func(count int, list []proto.Member, err error)) error {
	if q := s.rooms[room]; q != nil {
		q.done = append(q.done, done)
		return nil
	}
	now := time.Now()
	s.next++
	q := &inquiry{
		room: room, token: strconv.FormatUint(s.next, 36), listed: true, begun: now, heard: now,
		answered: make(map[string]bool), people: make(map[string]proto.Member),
	}
	q.done = append(q.done, done)
	if err := nc.PublishRequest(room.WhoSubject(), s.inbox+q.token, nil); err != nil {
		return err
	}
	s.rooms[room], s.tokens[q.token] = q, q
	return nil
}

// answered handles one answer. The parameter alive contains the other gateways that are alive. They
// must all answer.
func (s *inquiries) answered(m *nats.Msg, keys *seal.Keys, alive map[string]peer) error {
	q := s.tokens[strings.TrimPrefix(m.Subject, s.inbox)]
	if q == nil {
		return nil
	}
	body, err := m.Data, error(nil)
	if keys != nil {
		if body, err = keys.Open(q.room, seal.Who, "", body); err != nil {
			return err
		}
	}
	var a proto.Present
	if err := json.Unmarshal(body, &a); err != nil || q.answered[a.Gateway] {
		return err
	}
	q.answered[a.Gateway] = true
	q.heard = time.Now()
	for _, who := range a.List {
		who.Sessions = max(1, who.Sessions) + q.people[who.ID].Sessions // gateways of version 0.1.0 do not send the number of sessions
		q.people[who.ID] = who
	}
	q.listed = q.listed && len(a.List) >= a.Count
	q.total = max(q.total, a.Total, a.Count)
	if s.complete(q, alive) {
		s.finish(q, nil)
	}
	return nil
}

// complete reports whether every gateway that is alive has answered. Shortly after the start it
// returns false, because this gateway does not know all the others yet.
func (s *inquiries) complete(q *inquiry, alive map[string]peer) bool {
	if time.Since(s.started) < answerTime || !q.answered[s.self] {
		return false
	}
	for id := range alive {
		if !q.answered[id] {
			return false
		}
	}
	return true
}

// timeOut ends the inquiries whose time is over. Their callers get the answers that have
// arrived.
func (s *inquiries) timeOut(now time.Time) {
	for _, q := range s.tokens {
		if now.Sub(q.heard) >= stallTime || now.Sub(q.begun) >= answerTime {
			s.finish(q, nil)
		}
	}
}

// end ends all inquiries with the error.
func (s *inquiries) end(err error) {
	for _, q := range s.tokens {
		s.finish(q, err)
	}
}

func (s *inquiries) finish(q *inquiry, err error) {
	delete(s.rooms, q.room)
	delete(s.tokens, q.token)
	count := len(q.people)
	if !q.listed {
		count = max(count, q.total)
	}
	list := make([]proto.Member, 0, min(len(q.people), proto.MaxListed))
	for _, id := range slices.Sorted(maps.Keys(q.people)) {
		if len(list) == proto.MaxListed {
			break
		}
		list = append(list, q.people[id])
	}
	for _, done := range q.done {
		done(count, list, err)
	}
}
