package room

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/roomsvc/scenariotest"
)

// TestScenarios plays testdata/*.txt; see [scenariotest.Play].
func TestScenarios(t *testing.T) {
	scenariotest.Play(t, func(t *testing.T) func(string) string {
		s := &stage{rules: DefaultRules(), now: time.Date(2026, 11, 22, 10, 53, 7, 0, time.UTC)}
		s.rules.Zone = time.UTC
		s.room = New(proto.MustRoom("lobby"), s.rules)
		return func(line string) string {
			words := split(line)
			return s.do(t, words[0], words[1:])
		}
	})
}

// stage is a room, its log and a clock that the scenario moves.
type stage struct {
	rules    *Rules
	room     *Room
	log      []*proto.Record
	snapshot *proto.Snapshot // the snapshot that the newest act wrote
	now      time.Time
	stream   uint64
}

func (s *stage) do(t *testing.T, verb string, args []string) string {
	c := Command{Request: proto.Request{From: proto.Identity{ID: "u1"}, Rights: proto.MayRead | proto.MaySay}}
	switch verb {
	case "act":
		c.Rights = proto.AllRights
	case "edit":
		c.Act = proto.ActEdit
	case "delete":
		c.Act = proto.ActDelete
	}
	for i, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "from":
			c.From.ID = value
		case "key":
			c.Key = value
		case "once":
			c.Key, c.Hidden = value, true
		case "why":
			c.Why = value
		case "line":
			c.Line, c.Content = true, proto.Content{Kind: proto.Text, Body: []byte(value)}
		case "text", "data", "bin":
			c.Content.Kind, c.Content.Body = proto.Kind(name), []byte(value)
		case "type":
			c.Content.Type = value
		case "act":
			c.Act = proto.Act(value)
		case "member":
			c.Terms.Member = value
		case "for":
			c.Terms.For, _ = time.ParseDuration(value)
		case "every":
			c.Terms.Every, _ = time.ParseDuration(value)
		case "seq":
			c.Terms.Seq, _ = strconv.ParseUint(value, 10, 64)
		case "epoch":
			c.Terms.Epoch = value
		case "absent":
			c.Absent = value == "true"
		case "history":
			s.rules.History, _ = strconv.Atoi(value)
		case "rights":
			c.Rights, _ = proto.ParseRights(value)
		case "guest":
			c.Guest = value == "true"
		case "window":
			s.rules.Window, _ = time.ParseDuration(value)
		case "keys":
			s.rules.Keys, _ = strconv.Atoi(value)
		case "max":
			s.rules.MaxRecord, _ = strconv.Atoi(value)
		default:
			if verb != "clock" && verb != "times" && verb != "lose-end" && verb != "ban-many" || i > 0 && verb != "times" {
				t.Fatalf("%s has no argument %s", verb, arg)
			}
		}
	}
	switch verb {
	case "rules": // window=, keys= and max= replace the default bounds
		return "ok"
	case "clock": // moves the clock forward or back
		d, err := time.ParseDuration(args[0])
		if err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return s.now.Format(time.RFC3339Nano)
	case "take-over": // another owner rebuilds the room from the log
		if len(s.log) == 0 {
			s.room = New(proto.MustRoom("lobby"), s.rules)
			if s.snapshot == nil {
				return "nothing in the log"
			}
			s.room.Recall(s.snapshot)
			return fmt.Sprintf("nothing in the log, snapshot covers seq=%d closed=%v", s.snapshot.Seq, s.snapshot.Closed)
		}
		s.room = Restore(s.log[len(s.log)-1], s.rules)
		if s.snapshot != nil {
			s.room.Restrict(s.snapshot.Limits)
		}
		for _, rec := range s.log {
			if s.snapshot != nil && s.snapshot.Limits.IsDeleted(rec.Seq) { // the log no longer has the record
				rec.Key, rec.Payload = "", nil
			}
		}
		for _, rec := range s.log {
			s.room.Remember(rec, s.now, s.now.Sub(rec.State.At))
		}
		return fmt.Sprintf("seq=%d keys=%d", s.room.Seq(), s.room.Keys())
	case "age-out": // the stream has dropped the whole log
		s.log = nil
		return "ok"
	case "lose-end": // the log has lost its newest records, and the next owner knows that
		n, _ := strconv.Atoi(args[0])
		s.log = s.log[:len(s.log)-n]
		out := s.do(t, "take-over", nil)
		s.room.Renew()
		return out
	case "times": // repeats the rest of the line and shows the last outcome
		n, _ := strconv.Atoi(args[0])
		out := ""
		for range n {
			out = s.do(t, args[1], args[2:])
		}
		return out
	case "ban-many": // bans a number of members and shows the last outcome
		n, _ := strconv.Atoi(args[0])
		out := ""
		for i := range n {
			out = s.do(t, "act", []string{"act=ban", "from=mod", fmt.Sprint("member=m", i)})
		}
		return out
	case "say", "act", "edit", "delete":
		return s.apply(&c)
	}
	t.Fatalf("there is no command %s", verb)
	return ""
}

func (s *stage) apply(c *Command) string {
	if c.Key != "" {
		content := fmt.Append(nil, c.Act, c.Why, c.Content.Kind, c.Content.Type, string(c.Content.Body))
		if c.Terms.Member != "" {
			content = fmt.Append(content, c.Terms.Member, c.Terms.For)
		}
		if c.Terms.Seq != 0 {
			content = fmt.Append(content, c.Terms.Seq)
		}
		sum := sha256.Sum256(content)
		c.Digests = []proto.Digest{proto.Digest(sum[:8])}
	}
	for _, rec := range s.log {
		if rec.Seq == c.Terms.Seq {
			c.Target, c.Secret = rec, rec.HidesKey()
		}
	}
	o := s.room.Apply(c, Moment{Now: s.now, Stream: s.stream})
	out := string(o.Reply.AppendJSON(nil))
	if rec := o.Record; rec != nil {
		s.log = append(s.log, rec)
		s.stream += 10 // as if other rooms had stored records in between
		if rec.State.Act == rec.Seq {
			snapshot := s.room.Snapshot()
			s.snapshot = &snapshot
		}
		out += fmt.Sprintf("\n%s\n%s", rec.Payload, rec.Header())
	}
	return out
}

// split cuts a line at spaces outside of single quotes, and removes the quotes.
func split(line string) (words []string) {
	word, quoted := "", false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted = !quoted
		case r == ' ' && !quoted:
			words = append(words, word)
			word = ""
		default:
			word += string(r)
		}
	}
	return words
}
