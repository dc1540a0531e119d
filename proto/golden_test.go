package proto

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// golden reads the rows of testdata/golden/name. The tests of room.js read the same files. So
// both sides of the protocol are tested with the same examples.
func golden[Row any](t *testing.T, name string) []Row {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Rows []Row }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(file.Rows) == 0 {
		t.Fatalf("%s has no rows", name)
	}
	return file.Rows
}

func TestCommandsMatchGoldenFile(t *testing.T) {
	type want struct {
		ID, Verb, Room, Kind, Type, Body, Key string
		Since                                 *uint64
		Epoch, At, After                      string
		Last, Limit                           int
		Before                                uint64
		Act, Why, Token, Ticket, Resume       string
		Line                                  bool
	}
	for _, row := range golden[struct {
		Name, Frame, Error, ID string
		Want                   want
	}](t, "commands.json") {
		t.Run(row.Name, func(t *testing.T) {
			c, err := ParseCommand([]byte(row.Frame))
			if row.Error != "" {
				if got := AsRefusal(err); err == nil || string(got.Code) != row.Error {
					t.Fatalf("got %v, want %s", err, row.Error)
				}
				if got := string(c.ID); got != row.ID {
					t.Errorf("got id %s, want %s", got, row.ID)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := want{
				ID: string(c.ID), Verb: string(c.Verb), Room: c.Room.String(),
				Kind: string(c.Content.Kind), Type: c.Content.Type, Body: string(c.Content.Body), Key: c.Key,
				Epoch: c.From.Epoch, Last: c.From.Last, Before: c.Before, Limit: c.Limit,
				Act: string(c.Act), Why: c.Why, Token: c.Token, Ticket: c.Ticket, Resume: c.Resume, Line: c.Line,
			}
			if c.Verb == VerbSignal {
				got.Kind = "" // the golden file omits the kind, because a signal's data is always JSON
			}
			if c.From.HasSince != (row.Want.Since != nil) || c.From.HasSince && c.From.Since != *row.Want.Since {
				t.Errorf("got since %d %v, want %v", c.From.Since, c.From.HasSince, row.Want.Since)
			}
			if !c.From.After.IsZero() {
				got.After = string(AppendTime(nil, c.From.After))
			}
			if !c.From.At.IsZero() {
				got.At = string(AppendTime(nil, c.From.At))
			}
			row.Want.Since = nil
			if got != row.Want {
				t.Errorf("got %+v\nwant %+v", got, row.Want)
			}
		})
	}
}

func TestEventsMatchGoldenFile(t *testing.T) {
	for _, row := range golden[struct{ Name, Frame string }](t, "events.json") {
		e, err := ParseEvent([]byte(row.Frame))
		if err != nil {
			t.Errorf("%s: %v", row.Name, err)
			continue
		}
		if got := string(e.AppendJSON(nil)); got != row.Frame {
			t.Errorf("%s: got %s\nwant %s", row.Name, got, row.Frame)
		}
	}
}

// The test reads each frame with encoding/json, as a client would. Then it writes the frame with
// the functions of this package. The result must be the same.
func TestFramesMatchGoldenFile(t *testing.T) {
	type presence struct {
		Identity
		Count  int
		Reason LeaveReason
	}
	for _, row := range golden[struct{ Name, Is, Frame string }](t, "frames.json") {
		var f struct {
			ID     json.RawMessage
			Room   Room
			Hello  *Hello
			OK     json.RawMessage
			Error  *Refusal
			Signal *struct {
				Type string
				From Identity
				Data json.RawMessage
			}
			Joined, Left *presence
			Gap          *Gap
			Drain        struct{ In string }
			Ended        *struct {
				Code   CloseCode
				Reason string
			}
		}
		if err := json.Unmarshal([]byte(row.Frame), &f); err != nil {
			t.Errorf("%s: %v", row.Name, err)
			continue
		}
		if err := ValidJSON([]byte(row.Frame)); err != nil {
			t.Errorf("%s: %v", row.Name, err)
		}
		ok := func(into interface{ AppendJSON([]byte) []byte }) []byte {
			if err := json.Unmarshal(f.OK, into); err != nil {
				t.Errorf("%s: %v", row.Name, err)
			}
			return append(into.AppendJSON(AppendOK(nil, f.ID)), '}')
		}
		var got []byte
		switch row.Is {
		case "hello":
			got = f.Hello.AppendJSON(nil)
		case "ok of say":
			reply, err := ParseReply([]byte(`{"ok":` + string(f.OK) + `}`))
			if err != nil {
				t.Errorf("%s: %v", row.Name, err)
			}
			got = append(reply.AppendAck(AppendOK(nil, f.ID)), '}')
		case "ok of join":
			got = ok(new(Joined))
		case "ok of auth":
			var auth struct {
				You     Identity
				Expires time.Time
			}
			if err := json.Unmarshal(f.OK, &auth); err != nil {
				t.Errorf("%s: %v", row.Name, err)
			}
			got = append(AppendAuth(AppendOK(nil, f.ID), auth.You, auth.Expires), '}')
		case "ended":
			got = AppendEnded(nil, f.Room, f.Ended.Code, f.Ended.Reason)
		case "drain":
			in, err := time.ParseDuration(f.Drain.In)
			if err != nil {
				t.Errorf("%s: %v", row.Name, err)
			}
			got = AppendDrain(nil, in)
		case "ok of leave":
			var left Joined
			ok(&left)
			got = append(AppendLeave(AppendOK(nil, f.ID), left.Room), '}')
		case "ok of history":
			got = ok(new(Page))
		case "ok of members":
			got = ok(new(Members))
		case "error":
			got = AppendError(nil, f.ID, f.Error)
		case "signal":
			got = AppendSignal(nil, f.Room, f.Signal.Type, f.Signal.From, f.Signal.Data)
		case "joined":
			got = AppendJoined(nil, f.Room, f.Joined.Identity, f.Joined.Count)
		case "left":
			got = AppendLeft(nil, f.Room, f.Left.Identity, f.Left.Count, f.Left.Reason)
		case "gap":
			f.Gap.Room = f.Room
			got = f.Gap.AppendJSON(nil)
		default:
			t.Errorf("%s: nothing writes %q", row.Name, row.Is)
		}
		if string(got) != row.Frame {
			t.Errorf("%s: got %s\nwant %s", row.Name, got, row.Frame)
		}
	}
}

func TestCloseCodesMatchGoldenFile(t *testing.T) {
	named := 0
	for _, row := range golden[struct {
		Code      CloseCode
		Name      string
		Reconnect bool
	}](t, "closes.json") {
		if got := row.Code.String(); got != row.Name {
			t.Errorf("%d: got %s, want %s", row.Code, got, row.Name)
		}
		if got := row.Code.Reconnect(); got != row.Reconnect {
			t.Errorf("%d: got reconnect %v, want %v", row.Code, got, row.Reconnect)
		}
		if row.Name != "unknown" {
			named++
		}
	}
	if named != len(CloseCodes) {
		t.Errorf("the golden file has %d codes of the table, want all %d", named, len(CloseCodes))
	}
}
