package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"roomcast/proto"
)

// frame is anything a server may send in a JSON session. Events are told from the rest by
// having a seq and no id, and are read by [proto.ParseEvent].
type frame struct {
	ID    *uint64      `json:"id"`
	OK    *okFrame     `json:"ok"`
	Error *errorFrame  `json:"error"`
	Hello *helloFrame  `json:"hello"`
	Room  string       `json:"room"`
	Seq   uint64       `json:"seq"`
	Gap   *gapFrame    `json:"gap"`
	Sig   *signalFrame `json:"signal"`
	Join  *memberFrame `json:"joined"`
	Left  *memberFrame `json:"left"`
}

// okFrame has the fields of every verb's ok.
type okFrame struct {
	Seq       uint64            `json:"seq"`
	At        time.Time         `json:"at"`
	Duplicate bool              `json:"duplicate"`
	Epoch     string            `json:"epoch"`
	Events    []json.RawMessage `json:"events"`
	More      bool              `json:"more"`
	Gap       *gapFrame         `json:"gap"`
	Count     int               `json:"count"`
	Members   []proto.Identity  `json:"members"`
}

type errorFrame struct {
	Code    proto.Code `json:"code"`
	Message string     `json:"message"`
	RetryMS int64      `json:"retry_ms"`
}

type helloFrame struct {
	Session string         `json:"session"`
	You     proto.Identity `json:"you"`
	Resume  string         `json:"resume"`
	Time    time.Time      `json:"time"`
}

type gapFrame struct {
	From   uint64          `json:"from"`
	To     uint64          `json:"to"`
	Reason proto.GapReason `json:"reason"`
	Epoch  string          `json:"epoch"`
	Seq    uint64          `json:"seq"`
}

type signalFrame struct {
	Type string          `json:"type"`
	From proto.Identity  `json:"from"`
	Data json.RawMessage `json:"data"`
}

type memberFrame struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"`
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

func (g *gapFrame) gap(room proto.Room) *proto.Gap {
	if g == nil {
		return nil
	}
	return &proto.Gap{Room: room, From: g.From, To: g.To, Reason: g.Reason, Epoch: g.Epoch, Seq: g.Seq}
}

func (e *errorFrame) refusal() *proto.Refusal {
	return &proto.Refusal{Code: e.Code, Message: e.Message, Retry: time.Duration(e.RetryMS) * time.Millisecond}
}

func (m *memberFrame) presence(left bool) *Presence {
	return &Presence{Who: proto.Identity{ID: m.ID, Name: m.Name}, Count: m.Count, Left: left, Reason: m.Reason}
}

// fields is the object of one verb. Which are set depends on the verb.
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

// command returns one frame of a command; id 0 is left out.
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
