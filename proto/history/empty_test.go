package history_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/history/historytest"
)

// owner answers questions for the states of rooms on a connection. The function tell returns the
// answer to one question.
func owner(t *testing.T, nc *nats.Conn, tell func(proto.AskStates) any) {
	t.Helper()
	_, err := nc.Subscribe(proto.SubjectAskStates, func(m *nats.Msg) {
		var ask proto.AskStates
		partition, _ := proto.AskedPartition(m.Subject)
		if err := json.Unmarshal(m.Data, &ask); err != nil {
			t.Error(err)
		}
		if _, err := proto.ParseAskStates(m.Data, partition); err != nil {
			t.Error(err)
		}
		answer, err := json.Marshal(tell(ask))
		if err == nil {
			err = m.Respond(answer)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func stateOf(t *testing.T, seq uint64, s proto.Snapshot) proto.OwnerState {
	t.Helper()
	b, err := s.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	return proto.OwnerState{Seq: seq, Snapshot: b}
}

// A room has no records on the replica that answers. Only its owner knows its
// state: the close, the bans, and whether there are records.
func TestOwnerIsAskedAboutAnEmptyRoom(t *testing.T) {
	leader, follower := historytest.Start(t, 1000), historytest.Start(t, 1000)
	full := leader.Room("full", "e1")
	full.Append(3)
	front := inFrontOf(t, leader, follower)
	limits := &proto.Restrictions{Bans: map[string]int64{"ann": 0}}
	known := proto.States{
		"new":     stateOf(t, 0, proto.Snapshot{}),
		"closed":  stateOf(t, 0, proto.Snapshot{Closed: true, Why: "done", Limits: limits}),
		"trimmed": stateOf(t, 7, proto.Snapshot{Limits: limits}), // a limit has removed all of its 7 records
		"full":    stateOf(t, 3, proto.Snapshot{}),               // the follower is behind
	}
	owner(t, front, func(proto.AskStates) any { return known })
	log := history.New(front, nil)
	log.Owners = true

	var rooms []proto.Room
	for _, name := range []string{"new", "closed", "trimmed", "full"} {
		rooms = append(rooms, proto.MustRoom(name))
	}
	heads := history.Empty(t.Context(), log, rooms)
	for _, room := range rooms {
		p, err := log.Read(t.Context(), history.Query{Room: room, HasSince: true})
		head := heads[room]
		if err != nil || head.Err != nil {
			t.Errorf("%s: %v, %v", room, err, head.Err)
		}
		for how, head := range map[string]history.Head{"head": head, "page": p.Head} {
			if banned := head.Limits.Banned("ann", time.Now()); banned != (room.String() == "closed" || room.String() == "trimmed") {
				t.Errorf("%s of %s: ann is banned: %v", how, room, banned)
			}
			if closed := room.String() == "closed"; head.Closed != closed || closed && head.Why != "done" {
				t.Errorf("%s of %s: %+v", how, room, head)
			}
			if want := map[string]uint64{"full": 3}[room.String()]; head.Seq != want {
				t.Errorf("%s of %s: seq %d, want %d", how, room, head.Seq, want)
			}
		}
		if want := int(p.Head.Seq); len(p.Records) != want {
			t.Errorf("page of %s: %d records, want %d", room, len(p.Records), want)
		}
		p, err = log.Read(t.Context(), history.Query{Room: room, HasSince: true, Since: 2381, Epoch: "e0"})
		if err != nil || p.Gap == nil || p.Gap.Reason != proto.GapReset || p.Gap.From != 2382 {
			t.Errorf("page of %s for a reader of another epoch: got the gap %+v, %v, want a reset", room, p.Gap, err)
		}
	}
}

// The owner may leave out rooms, for example because the answer would be too long.
func TestOwnerIsAskedAgainForRoomsThatItLeftOut(t *testing.T) {
	front := bare(t)
	var rooms []proto.Room
	partition := proto.MustRoom("a").Partition()
	for n := 0; len(rooms) < 3*proto.MaxStates; n++ {
		if room := proto.MustRoom("a_" + string(rune('a'+n%26)) + time.Unix(int64(n), 0).UTC().Format("150405")); room.Partition() == partition {
			rooms = append(rooms, room)
		}
	}
	asked := map[string]int{}
	owner(t, front, func(ask proto.AskStates) any {
		states := proto.States{}
		for i, room := range ask.Rooms {
			if asked[room]++; i < proto.MaxStates/2 {
				states[room] = stateOf(t, 0, proto.Snapshot{Closed: true})
			}
		}
		return states
	})
	log := history.New(front, nil)
	heads := history.Empty(t.Context(), log, rooms)
	if len(heads) != len(rooms) {
		t.Errorf("got %d heads, want %d", len(heads), len(rooms))
	}
	for room, head := range heads {
		if head.Err != nil || !head.Closed {
			t.Errorf("%s: %+v", room, head)
		}
	}
	again := slices.ContainsFunc(rooms, func(room proto.Room) bool { return asked[room.String()] == 2 })
	if !again {
		t.Error("no room was asked for again")
	}
}

// Without a valid answer, nobody is told that a room is open and without restrictions.
func TestEmptyRoomIsUnavailableWithoutItsOwner(t *testing.T) {
	s := historytest.Start(t, 10)
	for name, tell := range map[string]func(proto.AskStates) any{
		"no owner":     nil,
		"not JSON":     func(proto.AskStates) any { return json.RawMessage(`"yes"`) },
		"another room": func(proto.AskStates) any { return proto.States{"other": stateOf(t, 0, proto.Snapshot{})} },
		"no states":    func(proto.AskStates) any { return proto.States{} },
	} {
		front := bare(t)
		forward(t, front, s.Conn(), "$JS.API.STREAM.MSG.GET."+proto.StreamName)
		forward(t, front, s.Conn(), "$JS.API.DIRECT.GET."+proto.StreamName)
		if tell != nil {
			owner(t, front, tell)
		}
		log := history.New(front, nil)
		log.Owners = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := log.Read(ctx, history.Query{Room: proto.MustRoom("lobby")})
		cancel()
		if why, ok := errors.AsType[*proto.Refusal](err); !ok || why.Code != proto.Unavailable || why.Retry == 0 {
			t.Errorf("%s: got %v, want a refusal as unavailable with a time to wait", name, err)
		}
	}
}
