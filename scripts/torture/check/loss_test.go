package check

import (
	"fmt"
	"slices"
	"testing"

	"roomcast/scripts/torture/history"
)

// lossyRun is the history of a run with two losses, which are announced as they should be. First an
// older copy replaces the log of a room. Later the log loses one record. Ann is connected all the
// time, bob connects again afterwards, and zoe is new at the end.
func lossyRun() []history.Entry {
	var h []history.Entry
	now := int64(0)
	add := func(e history.Entry) {
		now += 1e6
		e.T, e.Room = now, "lobby"
		h = append(h, e)
	}
	event := func(op history.Op, seq uint64, key, epoch string) history.Entry {
		return history.Entry{Op: op, Seq: seq, Key: key, Epoch: epoch, Body: history.Sum(key), At: 1}
	}
	show := func(client string, seq uint64, key, epoch string) {
		e := event(history.Recv, seq, key, epoch)
		e.Client = client
		add(e)
	}
	join := func(client string, since, head uint64, epoch string) {
		add(history.Entry{Op: history.Hello, Client: client, Sender: client})
		add(history.Entry{Op: history.Join, Client: client, From: &since})
		add(history.Entry{Op: history.Joined, Client: client, Seq: head, Epoch: epoch})
	}
	say := func(key string, seq uint64) {
		add(history.Entry{Op: history.Invoke, Client: "sam", Key: key, Body: history.Sum(key)})
		add(history.Entry{Op: history.OK, Client: "sam", Key: key, Seq: seq})
	}
	reset := func(client string, since uint64) {
		from := since + 1
		add(history.Entry{Op: history.Gap, Client: client, From: &from, Why: "reset", Epoch: "e2"})
	}
	old := func(seq uint64) string { return fmt.Sprint("old", seq) }
	key := func(seq uint64) string {
		if seq > 600 {
			return fmt.Sprint("new", seq)
		}
		return old(seq)
	}

	join("ann", 0, 0, "")
	join("bob", 0, 0, "")
	for seq := uint64(1); seq <= 620; seq++ {
		say(old(seq), seq)
		show("ann", seq, old(seq), "e1")
		if seq <= 610 {
			show("bob", seq, old(seq), "e1")
		}
	}
	add(history.Entry{Op: history.Ended, Client: "bob"})
	add(history.Entry{Op: history.Fault, Client: "nats1", Why: "restore nats", Key: "f1", Loss: history.LossEnd + " " + history.LossState})
	add(history.Entry{Op: history.Over, Key: "f1"})
	now += 3 * lossSlack
	say("new601", 601)
	reset("ann", 620)
	for seq := uint64(1); seq <= 601; seq++ {
		show("ann", seq, key(seq), "e2")
	}
	for seq := uint64(602); seq <= 1200; seq++ {
		say(key(seq), seq)
		show("ann", seq, key(seq), "e2")
	}
	join("bob", 610, 1200, "e2")
	reset("bob", 610)
	for seq := uint64(1); seq <= 1200; seq++ {
		show("bob", seq, key(seq), "e2")
	}
	add(history.Entry{Op: history.Fault, Client: "nats1", Why: "flip nats", Key: "f2", Loss: history.LossHole})
	add(history.Entry{Op: history.Over, Key: "f2"})
	now += 3 * lossSlack
	add(history.Entry{Op: history.Heal})
	join("zoe", 0, 1200, "e2")
	for seq := uint64(1); seq <= 1200; seq++ {
		if seq == 700 {
			add(history.Entry{Op: history.Gap, Client: "zoe", From: &seq, Seq: 700, Why: "damaged"})
			continue
		}
		show("zoe", seq, key(seq), "e2")
	}
	add(history.Entry{Op: history.Calm})
	for _, client := range []string{"ann", "bob", "zoe"} {
		add(history.Entry{Op: history.Told, Client: client, Count: 3})
	}
	add(history.Entry{Op: history.End})
	for seq := uint64(1); seq <= 1200; seq++ {
		if seq == 700 {
			continue
		}
		epoch := "e1"
		if seq > 600 {
			epoch = "e2"
		}
		add(event(history.Log, seq, key(seq), epoch))
	}
	return h
}

func TestAnnouncedLossPasses(t *testing.T) {
	r := run(t, lossyRun())
	for _, v := range r.Violations {
		t.Error(v)
	}
	if r.Destroyed != 21 || r.Resets != 2 || r.Gaps != 3 {
		t.Errorf("got %d destroyed, %d resets, %d gaps, want 21, 2, 3", r.Destroyed, r.Resets, r.Gaps)
	}
}

// TestTextSessionMayReceiveALostMessageAgain lets a fault destroy a message that a text session has
// received. Its sender sends the message again, and it gets another seq.
func TestTextSessionMayReceiveALostMessageAgain(t *testing.T) {
	h := lossyRun()
	again := func(op history.Op, client string) history.Entry {
		return history.Entry{Op: op, Client: client, Room: "lobby", Seq: 1201, Key: "old601", Epoch: "e2", Body: history.Sum("old601"), At: 1}
	}
	text := func(after uint64) {
		key := fmt.Sprint("old", after)
		i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Recv && e.Client == "ann" && e.Key == key })
		e := history.Entry{Op: history.TextRecv, Client: "tom", Link: 1, Room: "lobby", Key: key, Body: history.Sum(key), T: h[i].T}
		h = slices.Insert(h, i+1, e)
	}
	for seq := uint64(599); seq <= 620; seq++ {
		text(seq)
	}
	h = slices.Insert(h, 0, history.Entry{Op: history.TextOpen, Client: "tom", Link: 1, Room: "lobby"})
	calm := find(h, 0, func(e history.Entry) bool { return e.Op == history.Calm })
	said := again(history.TextRecv, "tom")
	said.T = h[calm].T
	h = slices.Insert(h, calm, said)
	for _, client := range []string{"ann", "bob", "zoe"} {
		said := again(history.Recv, client)
		said.T = h[calm].T
		h = slices.Insert(h, calm, said)
	}
	for i := range h {
		if h[i].Op == history.Told {
			h[i].Count++ // tom, a text session, is a member too
		}
	}
	h = append(h, again(history.Log, ""))
	for _, v := range run(t, h).Violations {
		t.Error(v)
	}
}

// TestGatewayMayAnswerAJoinWithAnOldEpoch lets a gateway that lags behind answer a join with an
// epoch that has ended. The connection ends before the client has received a reset, so the client
// keeps its epoch.
func TestGatewayMayAnswerAJoinWithAnOldEpoch(t *testing.T) {
	h := lossyRun()
	i := find(h, 0, func(e history.Entry) bool {
		return e.Op == history.Recv && e.Client == "ann" && e.Seq == 900 && e.Epoch == "e2"
	})
	from := uint64(900)
	at := func(e history.Entry) history.Entry {
		e.Client, e.Room, e.T = "ann", "lobby", h[i].T
		return e
	}
	join := []history.Entry{
		at(history.Entry{Op: history.Hello, Sender: "ann"}),
		at(history.Entry{Op: history.Join, From: &from}),
	}
	stale := at(history.Entry{Op: history.Joined, Seq: 620, Epoch: "e1"})
	good := at(history.Entry{Op: history.Joined, Seq: 900, Epoch: "e2"})
	ended := at(history.Entry{Op: history.Ended})
	again := slices.Concat([]history.Entry{ended}, join, []history.Entry{stale, ended}, join, []history.Entry{good})
	for _, v := range run(t, slices.Insert(slices.Clone(h), i+1, again...)).Violations {
		t.Error(v)
	}
	// If events follow without a reset, the client takes them for events of the old epoch. This is
	// a violation.
	deceived := slices.Concat([]history.Entry{ended}, join, []history.Entry{stale})
	if r := run(t, slices.Insert(slices.Clone(h), i+1, deceived...)); r.Broken[Epoch] == 0 {
		t.Errorf("got %v, want %q among them", r.Broken, Epoch)
	}
}

// TestTwoGatewaysMayAnnounceTheSameLoss moves a member to another gateway, which notices the loss
// later. That gateway may announce the loss again. One gateway must not announce the same loss
// twice.
func TestTwoGatewaysMayAnnounceTheSameLoss(t *testing.T) {
	h := lossyRun()
	i := find(h, 0, func(e history.Entry) bool { return e.Op == history.Recv && e.Client == "ann" && e.Key == "new601" })
	from, next := uint64(601), uint64(602)
	at := func(e history.Entry) history.Entry {
		e.Client, e.Room, e.T = "ann", "lobby", h[i].T
		return e
	}
	reset := []history.Entry{at(history.Entry{Op: history.Gap, From: &next, Why: "reset", Epoch: "e2"})}
	for seq := uint64(1); seq <= 601; seq++ {
		key := fmt.Sprint("old", seq)
		if seq == 601 {
			key = "new601"
		}
		reset = append(reset, at(history.Entry{Op: history.Recv, Seq: seq, Key: key, Epoch: "e2", Body: history.Sum(key), At: 1}))
	}
	move := []history.Entry{
		at(history.Entry{Op: history.Ended}),
		at(history.Entry{Op: history.Hello, Sender: "ann"}),
		at(history.Entry{Op: history.Join, From: &from}),
		at(history.Entry{Op: history.Joined, Seq: 601, Epoch: "e2"}),
	}
	for _, v := range run(t, slices.Insert(slices.Clone(h), i+1, slices.Concat(move, reset)...)).Violations {
		t.Error(v)
	}
	if r := run(t, slices.Insert(slices.Clone(h), i+1, reset...)); r.Broken[Epoch] == 0 {
		t.Errorf("got %v, want %q among them", r.Broken, Epoch)
	}
}

// TestLossOfAnUnknownEpochIsNotAnnounced lets a fault destroy the log of a room before any client
// has received its epoch. The next epoch is the first that clients receive, so no new epoch
// announces the loss.
func TestLossOfAnUnknownEpochIsNotAnnounced(t *testing.T) {
	h := lossyRun()
	fault := find(h, 0, func(e history.Entry) bool { return e.Op == history.Fault && e.Key == "f1" })
	again := find(h, 0, func(e history.Entry) bool { return e.Op == history.Invoke && e.Key == "new601" })
	say := func(at int64, key string, seq uint64) []history.Entry {
		return []history.Entry{
			{T: at, Op: history.Invoke, Client: "sam", Room: "hall", Key: key, Body: history.Sum(key)},
			{T: at, Op: history.OK, Client: "sam", Room: "hall", Key: key, Seq: seq},
		}
	}
	stored := history.Entry{T: h[len(h)-1].T, Op: history.Log, Room: "hall", Seq: 1, Key: "after", Epoch: "e9", Body: history.Sum("after"), At: 1}
	before, after := h[fault].T, h[again].T
	h = slices.Concat(h[:fault], say(before, "before", 1), h[fault:again], say(after, "after", 1), h[again:], []history.Entry{stored})
	for _, v := range run(t, h).Violations {
		t.Error(v)
	}
	// If a client knew the epoch of the present log before the fault, nothing has announced the
	// loss. This is a violation.
	known := history.Entry{T: before, Op: history.Joined, Client: "ann", Room: "hall", Epoch: "e9"}
	if r := run(t, slices.Insert(slices.Clone(h), fault, known)); r.Broken[Lost] == 0 {
		t.Errorf("got %v, want %q among them", r.Broken, Lost)
	}
}

// TestMutantsOfLoss changes the announcements in a correct history with losses, one at a time. The
// check must find each violation.
func TestMutantsOfLoss(t *testing.T) {
	isReset := func(client string) func(history.Entry) bool {
		return func(e history.Entry) bool { return e.Op == history.Gap && e.Client == client && e.Why == "reset" }
	}
	logAt := func(seq uint64) func(history.Entry) bool {
		return func(e history.Entry) bool { return e.Op == history.Log && e.Seq == seq }
	}
	recvAt := func(client string, seq uint64) func(history.Entry) bool {
		return func(e history.Entry) bool { return e.Op == history.Recv && e.Client == client && e.Seq == seq }
	}
	sameEpoch := func(h []history.Entry) []history.Entry {
		for i := range h {
			if h[i].Epoch == "e2" {
				h[i].Epoch = "e1"
			}
		}
		return h
	}
	tests := []struct {
		name   string
		want   Rule
		mutate func(h []history.Entry) []history.Entry
	}{
		{"the log continues in the same epoch", Lost, sameEpoch},
		{"the fault permits no loss", Lost, func(h []history.Entry) []history.Entry {
			for i := range h {
				h[i].Loss = ""
			}
			return h
		}},
		{"an acked message is lost after the fault", Lost, func(h []history.Entry) []history.Entry {
			i := find(h, 0, logAt(1200))
			return slices.Delete(h, i, i+1)
		}},
		{"an acked message from before the fork is lost", Lost, func(h []history.Entry) []history.Entry {
			h[find(h, 0, logAt(500))].Key = "mallory-1"
			return h
		}},
		{"a connected member receives no reset", Epoch, func(h []history.Entry) []history.Entry {
			i := find(h, 0, isReset("ann"))
			h = slices.Delete(h, i, i+602)
			for i := range h {
				if h[i].Client == "ann" && h[i].Epoch == "e2" {
					h[i].Epoch = "e1"
				}
			}
			return h
		}},
		{"a member that returns receives no reset", Epoch, func(h []history.Entry) []history.Entry {
			i := find(h, 0, isReset("bob"))
			return slices.Delete(h, i, i+611)
		}},
		{"a member receives two resets to the same epoch", Epoch, func(h []history.Entry) []history.Entry {
			i := find(h, 0, recvAt("ann", 900))
			again := h[find(h, 0, isReset("ann"))]
			again.T = h[i].T
			return slices.Insert(h, i, again)
		}},
		{"a reset does not name the epoch", Epoch, func(h []history.Entry) []history.Entry {
			h[find(h, 0, isReset("ann"))].Epoch = ""
			h[find(h, 0, isReset("ann"))].T += 2 * lossSlack
			return h
		}},
		{"a member stays in the old epoch", Stuck, func(h []history.Entry) []history.Entry {
			i := find(h, 0, isReset("ann"))
			return slices.DeleteFunc(h, func(e history.Entry) bool {
				return e.Client == "ann" && e.T >= h[i].T
			})
		}},
		{"members of the old epoch disagree", Reorder, func(h []history.Entry) []history.Entry {
			h[find(h, 0, recvAt("bob", 605))].Key = "old606"
			return h
		}},
		{"the replay after a reset has a hole", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 1, recvAt("ann", 300))
			return slices.Delete(h, i, i+1)
		}},
		{"the replay after a reset begins late", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 1, recvAt("ann", 1))
			return slices.Delete(h, i, i+1)
		}},
		{"a hole is not announced", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Client == "zoe" && e.Op == history.Gap })
			return slices.Delete(h, i, i+1)
		}},
		{"a gap names a record that the log has", Skip, func(h []history.Entry) []history.Entry {
			i := find(h, 0, func(e history.Entry) bool { return e.Client == "zoe" && e.Op == history.Gap })
			h[i].Seq = 701
			return slices.Delete(h, i+1, i+2)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := run(t, test.mutate(lossyRun()))
			if r.Broken[test.want] == 0 {
				t.Errorf("got %v, want %q among them", r.Broken, test.want)
			}
		})
	}
}

// TestRoomMayBeOpenAfterTheLossOfItsReopening lets a fault destroy the newest record of a room,
// which reopened it. The room stays open, because the snapshot shows the reopening. Its next record
// begins a new epoch.
func TestRoomMayBeOpenAfterTheLossOfItsReopening(t *testing.T) {
	for epoch, want := range map[string]int{"e2": 0, "e1": 1} {
		r := run(t, []history.Entry{
			{Op: history.Fault, Why: "flip nats", Key: "f1", Loss: history.LossEnd},
			{Op: history.Over, Key: "f1", T: 1},
			{Op: history.End, T: 2},
			{Op: history.Log, Room: "gavel", Seq: 1, Key: "close", Kind: "closed", Epoch: "e1"},
			{Op: history.Log, Room: "gavel", Seq: 2, Key: "hello", Epoch: epoch},
		})
		if got := r.Broken[AfterClose]; got != want {
			t.Errorf("a message of epoch %s after a close in e1: got %d violations, want %d", epoch, got, want)
		}
	}
}
