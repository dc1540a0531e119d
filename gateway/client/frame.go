package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"roomcast/proto"
)

// frame is a frame that a server sends in a JSON session. A frame with a seq and without an id is
// an event; [proto.ParseEvent] parses it.
type frame struct {
	ID     *uint64         `json:"id"`
	OK     json.RawMessage `json:"ok"`
	Error  *proto.Refusal  `json:"error"`
	Hello  *Hello          `json:"hello"`
	Room   string          `json:"room"`
	Seq    uint64          `json:"seq"`
	Gap    *proto.Gap      `json:"gap"`
	Signal *Signal         `json:"signal"`
	Joined *memberFrame    `json:"joined"`
	Left   *memberFrame    `json:"left"`
	Ended  *struct {
		Code   proto.CloseCode `json:"code"`
		Reason string          `json:"reason"`
	} `json:"ended"` // the server has ended the membership, because of a kick, a ban or a lost right
}

type memberFrame struct {
	proto.Identity
	Count  int               `json:"count"`
	Reason proto.LeaveReason `json:"reason"`
}

func parseFrame(p []byte) (frame, error) {
	var f frame
	if err := json.Unmarshal(p, &f); err != nil {
		return f, fmt.Errorf("parse frame: %w", err)
	}
	return f, nil
}

func (f *frame) answer() answer {
	if f.Error != nil {
		return answer{err: f.Error}
	}
	return answer{ok: f.OK}
}

func (m *memberFrame) presence(left bool) *Presence {
	return &Presence{Who: m.Identity, Count: m.Count, Left: left, Reason: m.Reason}
}

// fields are the fields of a command. The verb decides which of them are set.
type fields struct {
	Room   string          `json:"room,omitempty"`
	Text   *string         `json:"text,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Bin    *string         `json:"bin,omitempty"`
	Type   string          `json:"type,omitempty"`
	Key    string          `json:"key,omitempty"`
	Since  *uint64         `json:"since,omitempty"`
	Last   int             `json:"last,omitempty"`
	After  string          `json:"after,omitempty"`
	Epoch  string          `json:"epoch,omitempty"`
	At     string          `json:"at,omitempty"`
	Before uint64          `json:"before,omitempty"`
	Limit  int             `json:"limit,omitempty"`
	Token  string          `json:"token,omitempty"`
	Ticket string          `json:"ticket,omitempty"`
}

func (f *fields) content(content proto.Content) {
	f.Type = content.Type
	switch body := string(content.Body); content.Kind {
	case proto.Data:
		f.Data = content.Body
	case proto.Bin:
		body = base64.StdEncoding.EncodeToString(content.Body)
		f.Bin = &body
	default:
		f.Text = &body
	}
}

func (f *fields) from(from proto.From) {
	if from.HasSince {
		f.Since, f.Epoch = &from.Since, from.Epoch
		if !from.At.IsZero() {
			f.At = string(proto.AppendTime(nil, from.At))
		}
	}
	f.Last = from.Last
	if !from.After.IsZero() {
		f.After = string(proto.AppendTime(nil, from.After))
	}
}

// command returns the frame of a command, without an id if id is 0.
func command(id uint64, verb proto.Verb, f fields) ([]byte, error) {
	object := map[string]any{string(verb): f}
	if id != 0 {
		object["id"] = id
	}
	p, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", verb, err)
	}
	return p, nil
}
