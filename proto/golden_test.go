package proto

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// golden reads the rows of testdata/golden/name. The tests of room.js read the same
// files, so that both sides of the wire are held to one set of examples.
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

func TestGoldenCommands(t *testing.T) {
	type want struct {
		ID, Verb, Room, Kind, Type, Body, Key string
		Since                                 *uint64
		Epoch, At, After                      string
		Last, Limit                           int
		Before                                uint64
		Act, Why, Token                       string
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
				Act: string(c.Act), Why: c.Why, Token: c.Token, Line: c.Line,
			}
			if c.Verb == VerbSignal {
				got.Kind = "" // a signal's data is JSON, never anything else
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

func TestGoldenEvents(t *testing.T) {
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

// TestGoldenFrames takes each frame apart with encoding/json and puts it together
// again with our own encoders, where proto has one.
func TestGoldenFrames(t *testing.T) {
	type presence struct {
		Identity
		Count  int
		Reason LeaveReason
	}
	for _, row := range golden[struct{ Name, Is, Frame string }](t, "frames.json") {
		var f struct {
			Room string
			OK   *struct {
				Room      string
				Seq       uint64
				At        time.Time
				Duplicate bool
			}
			Error *struct {
				Code    Code
				Message string
				RetryMS int64 `json:"retry_ms"`
			}
			Signal *struct {
				Type string
				From Identity
				Data json.RawMessage
			}
			Joined, Left *presence
			Gap          *struct {
				From, To uint64
				Reason   GapReason
				Epoch    string
				Seq      uint64
			}
		}
		if err := json.Unmarshal([]byte(row.Frame), &f); err != nil {
			t.Errorf("%s: %v", row.Name, err)
			continue
		}
		if err := ValidJSON([]byte(row.Frame)); err != nil {
			t.Errorf("%s: %v", row.Name, err)
		}
		var room Room
		if f.Room != "" {
			room = MustRoom(f.Room)
		}
		got, want := "", row.Frame
		switch row.Is {
		case "ok":
			if f.OK.Room != "" {
				continue // of another verb than say
			}
			got = string((&Reply{Seq: f.OK.Seq, At: f.OK.At, Duplicate: f.OK.Duplicate}).AppendJSON(nil))
			want = strings.Replace(row.Frame, `"id":1,`, "", 1)
		case "error":
			r := Refuse(f.Error.Code, "%s", f.Error.Message).After(time.Duration(f.Error.RetryMS) * time.Millisecond)
			got = `{"id":1,"error":` + string(r.AppendJSON(nil)) + `}`
		case "signal":
			got = string(AppendSignal(nil, room, f.Signal.Type, f.Signal.From, f.Signal.Data))
		case "joined":
			got = string(AppendJoined(nil, room, f.Joined.Identity, f.Joined.Count))
		case "left":
			got = string(AppendLeft(nil, room, f.Left.Identity, f.Left.Count, f.Left.Reason))
		case "gap":
			got = string(Gap{Room: room, From: f.Gap.From, To: f.Gap.To, Reason: f.Gap.Reason, Epoch: f.Gap.Epoch, Seq: f.Gap.Seq}.AppendJSON(nil))
		default:
			continue // hello is the session's own
		}
		if got != want {
			t.Errorf("%s: got %s\nwant %s", row.Name, got, want)
		}
	}
}

func TestGoldenCloses(t *testing.T) {
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
		t.Errorf("%d codes of the table are here, want all %d", named, len(CloseCodes))
	}
}
