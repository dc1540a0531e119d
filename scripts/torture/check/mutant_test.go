package check

import (
	"slices"
	"testing"

	"roomcast/scripts/torture/history"
)

// TestMutants breaks a clean history in many ways, at least one for each promise. The check must
// find each violation.
func TestMutants(t *testing.T) {
	tests := []struct {
		name   string
		want   Rule
		mutate func(h []history.Entry) []history.Entry
	}{
		{"acked message missing at the end", Lost, func(h []history.Entry) []history.Entry {
			return slices.Delete(h, len(h)-1, len(h))
		}},
		{"ack of a repeated act names another event than the act", Lost, func(h []history.Entry) []history.Entry {
			i := slices.IndexFunc(h, func(e history.Entry) bool { return e.Op == history.OK && e.Key == "ann-closed-again" })
			h[i].Seq--
			return h
		}},
		{"acked message replaced in the log", Lost, func(h []history.Entry) []history.Entry {
			i := find(h, 100, op(history.Log, "lobby"))
			h[i].Key = "ann-never"
			return h
		}},
		{"hole in the log", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 100, op(history.Log, "lobby"))
			return slices.Delete(h, i, i+1)
		}},
		{"drop one delivery", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recv("eve", "lobby"))
			return slices.Delete(h, i, i+1)
		}},
		{"drop the last delivery", Stuck, func(h []history.Entry) []history.Entry {
			n := 0
			for _, e := range h {
				if recv("ann", "gavel")(e) {
					n++
				}
			}
			i := find(h, n-1, recv("ann", "gavel"))
			return slices.Delete(h, i, i+1)
		}},
		{"swap two deliveries", Reorder, func(h []history.Entry) []history.Entry {
			i, j := find(h, 50, recv("eve", "lobby")), find(h, 51, recv("eve", "lobby"))
			h[i], h[j] = h[j], h[i]
			return h
		}},
		{"two members disagree", Reorder, func(h []history.Entry) []history.Entry {
			i, j := find(h, 50, recv("eve", "lobby")), find(h, 51, recv("eve", "lobby"))
			h[i].Key, h[j].Key = h[j].Key, h[i].Key
			h[i].Body, h[j].Body = h[j].Body, h[i].Body
			return h
		}},
		{"deliver twice", Duplicate, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recv("eve", "lobby"))
			return slices.Insert(h, i, h[i])
		}},
		{"store twice", Duplicate, func(h []history.Entry) []history.Entry {
			i := find(h, 100, op(history.Log, "lobby"))
			e := h[i]
			for j := range h {
				if op(history.Log, "lobby")(h[j]) && h[j].Seq > e.Seq {
					h[j].Seq++
				}
			}
			e.Seq++
			return slices.Insert(h, i+1, e)
		}},
		{"deliver what nobody said", Phantom, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recv("eve", "lobby"))
			h[i].Key = "mallory-1"
			return h
		}},
		{"deliver an altered message", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 50, recv("eve", "lobby"))].Body++
			return h
		}},
		{"deliver a message with another time", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 50, recv("eve", "lobby"))].At++
			return h
		}},
		{"store an altered message", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 50, op(history.Log, "lobby"))].Body++
			return h
		}},
		{"store what nobody said", Phantom, func(h []history.Entry) []history.Entry {
			e := h[len(h)-1]
			e.Seq++
			e.Key = "mallory-1"
			return append(h, e)
		}},
		{"deliver an event of another room", Phantom, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recv("eve", "lobby"))
			h[i].Room = "gavel"
			return h
		}},
		{"store a refused message", Phantom, func(h []history.Entry) []history.Entry {
			i := find(h, 20, op(history.OK, "lobby"))
			h[i].Op = history.Fail
			return h
		}},
		{"become somebody else", Phantom, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Hello && e.Link == 2 })
			h[i].Sender = "id9"
			return h
		}},
		{"overlap at a resume", BadResume, func(h []history.Entry) []history.Entry {
			i := find(h, 0, resumed)
			j := find(h, 0, func(e history.Entry) bool { return recv("bob", "lobby")(e) && e.Seq == h[i].Seq-1 })
			again := h[j]
			again.Link = 2
			return slices.Insert(h, i, again)
		}},
		{"hole at a resume", BadResume, func(h []history.Entry) []history.Entry {
			i := find(h, 0, resumed)
			return slices.Delete(h, i, i+1)
		}},
		{"live event before the join's ok", BadResume, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Joined && e.Link == 2 })
			j := find(h, 0, resumed)
			e := h[j]
			h = slices.Delete(h, j, j+1)
			return slices.Insert(h, i, e)
		}},
		{"gap although the log is whole", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recv("eve", "lobby"))
			h[i].Op, h[i].Why = history.Gap, "trimmed"
			return h
		}},
		{"store in a closed room", AfterClose, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Log && e.Kind == "reopened" })
			j := find(h, 0, func(e history.Entry) bool {
				return op(history.Log, "gavel")(e) && e.Seq == h[i].Seq+1
			})
			swapSeqs(h, i, j)
			return h
		}},
		{"deliver an event after the close", AfterClose, func(h []history.Entry) []history.Entry {
			return slices.DeleteFunc(h, func(e history.Entry) bool {
				return e.Room == "gavel" && e.Client == "ann" && (e.Op == history.Left || e.Op == history.Join && e.From != nil || e.Op == history.Joined && e.Seq > 0)
			})
		}},
		{"acknowledge a message in a closed room, without storing it", AfterClose, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Fail })
			h[i].Op = history.OK
			return h
		}},
		{"a text session misses a message", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recvText)
			return slices.Delete(h, i, i+1)
		}},
		{"a text session is shown a message twice", Duplicate, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recvText)
			return slices.Insert(h, i, h[i])
		}},
		{"a text session is shown messages in another order", Reorder, func(h []history.Entry) []history.Entry {
			i, j := find(h, 50, recvText), find(h, 51, recvText)
			h[i], h[j] = h[j], h[i]
			return h
		}},
		{"a text session is shown an altered message", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 50, recvText)].Body++
			return h
		}},
		{"a text session is shown what nobody said", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 50, recvText)].Key = "mallory-1"
			return h
		}},
		{"a text session is shown a message after the close", AfterClose, func(h []history.Entry) []history.Entry {
			for i, e := range h {
				if e.Op == history.TextRecv || e.Op == history.TextOpen {
					h[i].Room = "elsewhere"
				}
			}
			closed := find(h, 0, func(e history.Entry) bool { return e.Op == history.Log && e.Kind == "closed" })
			var texts []history.Entry
			for _, e := range h {
				if e.Op == history.Log && e.Room == "gavel" && e.Seq >= h[closed].Seq-1 && e.Kind == "" {
					texts = append(texts, history.Entry{Op: history.TextRecv, Client: "tim", Room: "gavel", Key: e.Key, Body: e.Body})
				}
			}
			return slices.Insert(h, find(h, 0, op(history.End, "")), texts...)
		}},
		{"a text session is not shown the last message", Stuck, func(h []history.Entry) []history.Entry {
			n := 0
			for _, e := range h {
				if recvText(e) {
					n++
				}
			}
			i := find(h, n-1, recvText)
			return slices.Delete(h, i, i+1)
		}},
		{"a page of history has a hole", BadResume, func(h []history.Entry) []history.Entry {
			i := find(h, 5, op(history.PageRecv, "lobby"))
			return slices.Delete(h, i, i+1)
		}},
		{"a page of history begins late", BadResume, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Page && e.From != nil })
			return slices.Delete(h, i+1, i+2)
		}},
		{"a page of history ends early", BadResume, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Page && e.From != nil })
			return slices.Delete(h, i-1, i)
		}},
		{"a page of history shows an altered event", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 5, op(history.PageRecv, "lobby"))].Body++
			return h
		}},
		{"the number of members includes one that has left", Presence, func(h []history.Entry) []history.Entry {
			h[find(h, 0, op(history.Count, "lobby"))].Count++
			return h
		}},
		{"a notice counts a member that has left", Presence, func(h []history.Entry) []history.Entry {
			h[find(h, 0, op(history.Told, "lobby"))].Count++
			return h
		}},
		{"a member receives no notice of the number of members", Presence, func(h []history.Entry) []history.Entry {
			i := find(h, 0, op(history.Told, "lobby"))
			return slices.Delete(h, i, i+1)
		}},
		{"a message is refused with room_closed after the reopening", Shut, func(h []history.Entry) []history.Entry {
			opened := find(h, 0, func(e history.Entry) bool { return e.Op == history.OK && e.Key == "eve-reopened" })
			for _, what := range []history.Op{history.Fail, history.Invoke} {
				i := find(h, 0, func(e history.Entry) bool { return e.Op == what && e.Key == "ann-refused" })
				e := h[i]
				e.T = h[opened].T + 1
				h = slices.Insert(h, opened+1, e)
				h = slices.Delete(h, i, i+1)
				opened--
			}
			return h
		}},
		{"a message is refused with room_closed in a room that nobody closed", Shut, func(h []history.Entry) []history.Entry {
			invoked := find(h, 50, op(history.Invoke, "lobby"))
			e := h[invoked]
			e.Key, e.Op, e.Why = "ann-shut", history.Invoke, ""
			failed := e
			failed.Op, failed.Why = history.Fail, "room_closed: the room is closed"
			return slices.Insert(h, invoked, e, failed)
		}},
		{"a member is shown a message only after later ones", Stuck, func(h []history.Entry) []history.Entry {
			n := 0
			for _, e := range h {
				if recv("ann", "lobby")(e) {
					n++
				}
			}
			i := find(h, n-1, recv("ann", "lobby"))
			late := h[i]
			h = slices.Delete(h, i, i+1)
			return slices.Insert(h, find(h, 0, op(history.Calm, ""))+1, late)
		}},
		{"a reset although nothing was lost", Epoch, func(h []history.Entry) []history.Entry {
			i := find(h, 50, recv("eve", "lobby"))
			return slices.Insert(h, i, history.Entry{T: h[i].T, Op: history.Gap, Client: "eve", Link: 1, Room: "lobby", Why: "reset", Epoch: "e2"})
		}},
		{"a new epoch although nothing was lost", Skip, func(h []history.Entry) []history.Entry {
			for i := range h {
				if op(history.Log, "lobby")(h[i]) {
					h[i].Epoch = "e1"
					if h[i].Seq > 50 {
						h[i].Epoch = "e2"
					}
				}
			}
			return h
		}},
		{"the log forks", Reorder, func(h []history.Entry) []history.Entry {
			i := find(h, 100, op(history.Log, "lobby"))
			e := h[i]
			e.Seq, e.Key = 6, "mallory-1"
			return slices.Insert(h, i, e)
		}},
		{"time goes back", Clock, func(h []history.Entry) []history.Entry {
			h[find(h, 50, op(history.Log, "lobby"))].At -= 1000
			return h
		}},
		{"a message is stored before one that was acknowledged earlier", Stale, func(h []history.Entry) []history.Entry {
			i, j := find(h, 50, op(history.OK, "lobby")), find(h, 51, op(history.OK, "lobby"))
			h[i].Seq, h[j].Seq = h[j].Seq, h[i].Seq
			return h
		}},
		{"one sender's messages swapped", FIFO, func(h []history.Entry) []history.Entry {
			of := func(e history.Entry) bool { return op(history.OK, "lobby")(e) && e.Client == "ann" }
			i, j := find(h, 20, of), find(h, 21, of)
			h[i].Seq, h[j].Seq = h[j].Seq, h[i].Seq
			return h
		}},
		{"drop one event of an application", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 60, told("lobby"))
			return slices.Delete(h, i, i+1)
		}},
		{"swap two events of an application", Skip, func(h []history.Entry) []history.Entry {
			i, j := find(h, 60, told("lobby")), find(h, 61, told("lobby"))
			h[i], h[j] = h[j], h[i]
			return h
		}},
		{"tell an application events in another order", Reorder, func(h []history.Entry) []history.Entry {
			i, j := find(h, 60, told("lobby")), find(h, 61, told("lobby"))
			h[i].Key, h[j].Key = h[j].Key, h[i].Key
			h[i].Body, h[j].Body = h[j].Body, h[i].Body
			return h
		}},
		{"tell an application what nobody said", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 60, told("lobby"))].Key = "mallory-1"
			return h
		}},
		{"tell an application an altered message", Phantom, func(h []history.Entry) []history.Entry {
			h[find(h, 60, told("lobby"))].Body++
			return h
		}},
		{"tell an application an act as a message", Phantom, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return told("gavel")(e) && e.Kind == "closed" })
			h[i].Kind = ""
			return h
		}},
		{"drop the last event of an application", Stuck, func(h []history.Entry) []history.Entry {
			n := 0
			for _, e := range h {
				if told("gavel")(e) {
					n++
				}
			}
			i := find(h, n-1, told("gavel"))
			return slices.Delete(h, i, i+1)
		}},
		{"tell an application nothing about a room", Stuck, func(h []history.Entry) []history.Entry {
			return slices.DeleteFunc(h, told("gavel"))
		}},
		{"never answered", Stuck, func(h []history.Entry) []history.Entry {
			i := find(h, 50, op(history.OK, "lobby"))
			return slices.Delete(h, i, i+1)
		}},
		{"no answer after healing", Stuck, func(h []history.Entry) []history.Entry {
			heal := find(h, 0, op(history.Heal, ""))
			for i := heal; ; i++ {
				if h[i].Op == history.OK {
					h[i].Op = history.Unknown
					return h
				}
			}
		}},
		{"a member never reconnects", Stuck, func(h []history.Entry) []history.Entry {
			i := find(h, 0, op(history.End, ""))
			return slices.Insert(h, i, history.Entry{Op: history.Ended, Client: "bob", Link: 2})
		}},
		{"hardly anything happened", Vacuous, func([]history.Entry) []history.Entry {
			return []history.Entry{{Op: history.End}}
		}},
		{"most answers are unknown", Vacuous, func(h []history.Entry) []history.Entry {
			for i := range h {
				if h[i].Op == history.OK && i%3 == 0 {
					h[i].Op = history.Unknown
				}
			}
			return h
		}},
		{"nobody listened", Vacuous, func(h []history.Entry) []history.Entry {
			return slices.DeleteFunc(h, func(e history.Entry) bool {
				return e.Op == history.Recv || e.Op == history.Join || e.Op == history.Joined
			})
		}},
		{"a client resumes from where it has not been", Broken, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Join && e.Link == 2 })
			from := *h[i].From + 1
			h[i].From = &from
			return h
		}},
		{"answered twice", Broken, func(h []history.Entry) []history.Entry {
			i := find(h, 50, op(history.OK, "lobby"))
			return slices.Insert(h, i, h[i])
		}},
		{"the history has no end", Broken, func(h []history.Entry) []history.Entry {
			return slices.DeleteFunc(h, op(history.End, ""))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := run(t, test.mutate(cleanRun()))
			if r.Broken[test.want] == 0 {
				t.Errorf("got %v, want %q among them", r.Broken, test.want)
			}
		})
	}
}
