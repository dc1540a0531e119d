package check

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"roomcast/scripts/torture/history"
)

// cleanRun is the history of a run in which the system keeps every promise. Three clients are in
// two rooms. The history has lost connections and resumes, an act that closes a room, refusals, a
// message whose answer was lost, and a message that was sent twice.
func cleanRun() []history.Entry {
	var h, logs []history.Entry
	now := int64(0)
	add := func(e history.Entry) {
		now += 1e6
		e.T = now
		h = append(h, e)
	}
	clients := []string{"ann", "bob", "eve"}
	seq := map[string]uint64{}
	for i, c := range clients {
		add(history.Entry{Op: history.Hello, Client: c, Link: 1, Sender: fmt.Sprint("id", i)})
		for _, room := range []string{"lobby", "gavel"} {
			add(history.Entry{Op: history.Join, Client: c, Link: 1, Room: room})
			add(history.Entry{Op: history.Joined, Client: c, Link: 1, Room: room, Seq: 0})
		}
	}
	store := func(room, key, kind, sender string) history.Entry {
		seq[room]++
		body := history.Sum(history.Text(key, 40))
		e := history.Entry{
			Op: history.Log, Room: room, Seq: seq[room], Key: key, Kind: kind, Sender: sender,
			At: int64(seq[room]) * 10, Body: body,
		}
		logs = append(logs, e)
		return e
	}
	show := func(e history.Entry, client string, link int) {
		e.Op, e.Client, e.Link = history.Recv, client, link
		add(e)
	}
	say := func(client, room, key, kind string, op history.Op) history.Entry {
		add(history.Entry{
			Op: history.Invoke, Client: client, Room: room, Key: key, Kind: kind,
			Body: history.Sum(history.Text(key, 40)),
		})
		var e history.Entry
		if op != history.Fail {
			e = store(room, key, kind, client)
		}
		answer := history.Entry{Op: op, Client: client, Room: room, Key: key, Seq: e.Seq, Dup: len(h)%50 == 0}
		if op == history.Fail {
			answer.Why = "room_closed: the room is closed"
		}
		add(answer)
		if e.Seq > 0 {
			e.Op, e.Client = history.App, "app"
			add(e)
			if e.Seq%50 == 0 {
				add(e) // an application may receive an event more than once
			}
			e.Op, e.Client = history.Log, ""
		}
		return e
	}
	page := func(seq uint64, link int) {
		for _, e := range logs {
			if e.Room == "lobby" && e.Seq == seq {
				e.Op, e.Client, e.Link = history.PageRecv, "ann", link
				add(e)
			}
		}
	}
	link := 1
	for i := range 1200 {
		c := clients[i%3]
		room := []string{"lobby", "gavel"}[i/3%2]
		key := fmt.Sprintf("%s-%d", c, i)
		switch {
		case i == 600: // bob loses his connection, misses three messages, and comes back
			add(history.Entry{Op: history.Ended, Client: "bob", Link: 1})
			from := seq["lobby"]
			gavel := seq["gavel"]
			var missed []history.Entry
			for j := range 3 {
				e := say("ann", "lobby", fmt.Sprintf("ann-missed-%d", j), "", history.OK)
				show(e, "ann", 1)
				show(e, "eve", 1)
				add(history.Entry{Op: history.TextRecv, Client: "tom", Link: 1, Room: "lobby", Key: e.Key, Body: e.Body})
				missed = append(missed, e)
			}
			link = 2
			add(history.Entry{Op: history.Hello, Client: "bob", Link: 2, Sender: "id1"})
			add(history.Entry{Op: history.Join, Client: "bob", Link: 2, Room: "lobby", From: &from})
			add(history.Entry{Op: history.Join, Client: "bob", Link: 2, Room: "gavel", From: &gavel})
			add(history.Entry{Op: history.Joined, Client: "bob", Link: 2, Room: "lobby", Seq: seq["lobby"]})
			add(history.Entry{Op: history.Joined, Client: "bob", Link: 2, Room: "gavel", Seq: seq["gavel"]})
			for _, e := range missed {
				show(e, "bob", 2)
			}
		case i == 900: // eve closes the room, ann is refused, eve opens it again
			for _, kind := range []string{"closed", "reopened"} {
				e := say("eve", "gavel", "eve-"+kind, kind, history.OK)
				for _, c := range clients {
					l := 1
					if c == "bob" {
						l = link
					}
					if kind == "reopened" {
						from := e.Seq - 1
						add(history.Entry{Op: history.Join, Client: c, Link: l, Room: "gavel", From: &from})
						add(history.Entry{Op: history.Joined, Client: c, Link: l, Room: "gavel", Seq: e.Seq})
					}
					show(e, c, l)
					if kind == "closed" {
						add(history.Entry{Op: history.Left, Client: c, Link: l, Room: "gavel"})
					}
				}
				if kind == "closed" {
					say("ann", "gavel", "ann-refused", "", history.Fail)
					again := history.Entry{Client: "ann", Room: "gavel", Key: "ann-closed-again"}
					again.Op, again.Kind = history.Invoke, kind
					add(again)
					again.Op, again.Seq, again.Dup = history.OK, e.Seq, true
					add(again)
				}
			}
		default:
			op := history.OK
			if i%100 == 7 {
				op = history.Unknown
			}
			e := say(c, room, key, "", op)
			for _, member := range clients {
				l := 1
				if member == "bob" {
					l = link
				}
				show(e, member, l)
			}
			if room == "lobby" && i >= 300 { // tom is a text session, which receives plain lines
				add(history.Entry{Op: history.TextRecv, Client: "tom", Link: 1, Room: room, Key: e.Key, Body: e.Body})
			}
			if room == "lobby" && i%100 == 99 { // a client reads a page before the newest event, and a page after an old event
				from := e.Seq - 10
				add(history.Entry{Op: history.Page, Client: "ann", Link: i, Room: room, To: e.Seq})
				for n := from; n < e.Seq; n++ {
					page(n, i)
				}
				add(history.Entry{Op: history.Page, Client: "ann", Link: i + 1, Room: room, From: &from})
				page(from+1, i+1)
				page(from+2, i+1)
			}
		}
		if i == 299 {
			add(history.Entry{Op: history.TextOpen, Client: "tom", Link: 1, Room: "lobby"})
		}
		if i == 1190 {
			add(history.Entry{Op: history.Heal})
		}
	}
	add(history.Entry{Op: history.Calm})
	add(history.Entry{Op: history.Count, Client: "ann", Room: "lobby", Count: 4})
	add(history.Entry{Op: history.Count, Client: "ann", Room: "gavel", Count: 3})
	for _, c := range clients {
		for room, count := range map[string]int{"lobby": 4, "gavel": 3} {
			add(history.Entry{Op: history.Told, Client: c, Room: room, Count: count})
		}
	}
	add(history.Entry{Op: history.End})
	return append(h, logs...)
}

func entries(h []history.Entry) iter.Seq2[history.Entry, error] {
	return func(yield func(history.Entry, error) bool) {
		for _, e := range h {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func run(t *testing.T, h []history.Entry) *Report {
	t.Helper()
	r, err := Check(entries(h))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCleanHistoryPasses(t *testing.T) {
	r := run(t, cleanRun())
	for _, v := range r.Violations {
		t.Error(v)
	}
	if r.OK < MinOK || r.Deliveries < 3*r.OK || r.Resumes != 5 || r.TextDeliveries == 0 || r.Pages != 8 || r.Counts != 8 || r.Failed != 1 || r.Unknown != 12 || r.Told < r.OK {
		t.Errorf("got %+v", r)
	}
}

// A message that is sent while its room is closed may wait in the system, and be stored when the
// room is open again.
func TestMessageMayWaitForTheReopening(t *testing.T) {
	h := cleanRun()
	i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Invoke && e.Kind == "reopened" })
	j := i + find(h[i:], 0, func(e history.Entry) bool { return op(history.Invoke, "gavel")(e) && e.Kind == "" })
	e := h[j]
	e.T = h[i].T - 1
	h = slices.Insert(slices.Delete(h, j, j+1), i, e)
	for _, v := range run(t, h).Violations {
		t.Error(v)
	}
}

// An act that has no answer may be carried out later. So a reopening without an answer may come
// after a later closing, and messages may be stored again.
func TestReopeningWithoutAnAnswerMayComeLater(t *testing.T) {
	h := cleanRun()
	refused := find(h, 0, func(e history.Entry) bool { return e.Op == history.Fail && e.Key == "ann-refused" })
	h[refused].Op = history.OK // a violation, if the room is closed
	if r := run(t, slices.Clone(h)); r.Broken[AfterClose] == 0 {
		t.Errorf("got %v, want %q among them", r.Broken, AfterClose)
	}
	closed := find(h, 0, func(e history.Entry) bool { return e.Op == history.Invoke && e.Kind == "closed" })
	open := history.Entry{T: h[closed].T, Op: history.Invoke, Client: "mia", Room: "gavel", Key: "mia-reopened", Kind: "reopened"}
	unknown := open
	unknown.Op = history.Unknown
	if r := run(t, slices.Insert(h, closed, open, unknown)); r.Broken[AfterClose] > 0 {
		t.Errorf("got %v, want no %q", r.Broken, AfterClose)
	}
}

// An earlier try of a message has no answer, and the last try was refused. Such a message counts as
// answered.
func TestRefusalOfALaterTryIsAnAnswer(t *testing.T) {
	h := cleanRun()
	i := find(h, 0, op(history.Heal, ""))
	e := history.Entry{Op: history.Invoke, Client: "ann", Room: "gavel", Key: "ann-again", T: h[i].T}
	answer := e
	answer.Op, answer.Why = history.Unknown, history.RefusedAgain
	for _, v := range run(t, slices.Insert(h, i+1, e, answer)).Violations {
		t.Error(v)
	}
}

// find looks at the entries for which is(entry) returns true. It returns the index of entry number
// n among them, counted from 0.
func find(h []history.Entry, n int, is func(history.Entry) bool) int {
	for i, e := range h {
		if is(e) {
			if n--; n < 0 {
				return i
			}
		}
	}
	panic("no such entry")
}

func recv(client, room string) func(history.Entry) bool {
	return func(e history.Entry) bool { return e.Op == history.Recv && e.Client == client && e.Room == room }
}

func op(op history.Op, room string) func(history.Entry) bool {
	return func(e history.Entry) bool { return e.Op == op && (room == "" || e.Room == room) }
}

// resumed reports whether e is an event on bob's second connection.
func resumed(e history.Entry) bool { return recv("bob", "lobby")(e) && e.Link == 2 }

func told(room string) func(history.Entry) bool { return op(history.App, room) }

func recvText(e history.Entry) bool { return e.Op == history.TextRecv }

// swapSeqs exchanges two entries of the log. Each gets the seq and the time of the other.
func swapSeqs(h []history.Entry, i, j int) {
	h[i].Seq, h[j].Seq = h[j].Seq, h[i].Seq
	h[i].At, h[j].At = h[j].At, h[i].At
	h[i], h[j] = h[j], h[i]
}

// For each fault, the report contains the longest time without an ack in which only this fault was
// at work.
func TestPauseIsBlamedOnTheOnlyFaultAtWork(t *testing.T) {
	at := func(ms int64, e history.Entry) history.Entry { e.T = ms * 1e6; return e }
	var h []history.Entry
	ack := func(ms int64, key string) {
		h = append(h,
			at(ms, history.Entry{Op: history.Invoke, Client: "ann", Room: "lobby", Key: key}),
			at(ms+900, history.Entry{Op: history.OK, Client: "ann", Room: "lobby", Key: key, Seq: 1}))
	}
	fault := func(ms int64, name string) {
		h = append(h, at(ms, history.Entry{Op: history.Fault, Why: name, Key: name}))
	}
	over := func(ms int64, name string) { h = append(h, at(ms, history.Entry{Op: history.Over, Key: name})) }
	fault(0, "kill")
	ack(100, "a")
	over(1100, "kill")
	fault(3000, "cut")
	ack(3100, "b")
	fault(4100, "pause")
	ack(4200, "c")
	over(5200, "pause")
	over(5200, "cut")

	r := run(t, h)
	alone := map[string]time.Duration{"kill": 900 * time.Millisecond, "cut": 900 * time.Millisecond, "pause": 0}
	for name, want := range alone {
		if got := r.Faults[name]; got.Times != 1 || got.Alone != want {
			t.Errorf("%s: %+v, want once and %v without an ack", name, got, want)
		}
	}
	want := []Period{
		{"kill", 0, 1100 * time.Millisecond, 1, time.Second},
		{"cut", 3 * time.Second, 2200 * time.Millisecond, 2, 1100 * time.Millisecond},
		{"pause", 4100 * time.Millisecond, 1100 * time.Millisecond, 1, time.Second},
	}
	if !slices.Equal(r.Periods, want) {
		t.Errorf("got %+v, want %+v", r.Periods, want)
	}
}

func TestReportIsBounded(t *testing.T) {
	h := slices.DeleteFunc(cleanRun(), op(history.Log, ""))
	r := run(t, h)
	if r.Broken[Lost] < MinOK || len(r.Violations) > maxKept*len(r.Broken) {
		t.Errorf("got %d lost and %d kept violations", r.Broken[Lost], len(r.Violations))
	}
}
