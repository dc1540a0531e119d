package proto

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEventIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 53, 7, 123e6, time.UTC)
	for _, e := range []Event{
		{Room: MustRoom("lobby"), Seq: 58, At: at, From: Identity{"u1", "安娜"}, Content: Content{Kind: Text, Body: []byte("a\"\\\n\u2028\x01😀")}},
		{Room: MustRoom("聊天室1"), Seq: 1, At: at, From: Identity{ID: "nats"}, Content: Content{Kind: Data, Type: "xx.oo", Body: []byte(`{"a":[1]}`)}},
		{Room: MustRoom("lobby"), Seq: 2, At: at, From: Identity{ID: "b"}, Content: Content{Kind: Bin, Body: []byte{0, 255}}},
		{Room: MustRoom("lobby"), Seq: 3, At: at, Kind: Closed, From: Identity{ID: "api"}, Why: "done for today"},
	} {
		b := e.AppendJSON(nil)
		if !json.Valid(b) {
			t.Errorf("not JSON: %s", b)
		}
		got, err := ParseEvent(b)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v\nwant %+v\nfrom %s", got, err, e, b)
		}
	}
}

func TestParseEventIgnoresUnknownNames(t *testing.T) {
	e, err := ParseEvent([]byte(`{"room":"lobby","seq":1,"at":"2026-11-22T10:53:07.123Z","from":{"id":"a","badge":3},"text":"x","reactions":{"👍":2}}`))
	if err != nil || string(e.Content.Body) != "x" || e.From.ID != "a" {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestRecordIsReadAsItWasWritten(t *testing.T) {
	at := time.UnixMilli(1795345987123).UTC()
	payload, text := (&Event{Room: MustRoom("lobby"), Seq: 7, At: at, Content: Content{Kind: Text, Body: []byte("hi")}}).AppendRecord(nil)
	for _, r := range []Record{
		{Seq: 7, From: "u1", Key: "k -x", Digest: Digest{1, 2, 255}, Stamp: "2026-11-22 18:53:07", Text: text},
		{Seq: 8, From: "auth0|5f – é", Key: "-", Stamp: "", Text: text, State: State{Page: 1 << 40, Start: 1<<40 + 77, Act: 5}},
		{Seq: 9, Kind: Closed, From: "", State: State{Closed: true, Act: 9}, Text: Span{Form: SpanNone}, Stamp: "  two  spaces "},
		{Seq: 10, From: "a", Text: text, Sealed: true},
		{Seq: 11, From: "mod", Kind: Deleted, State: State{Act: 11}, Text: Span{Form: SpanNone}, Once: "HV1lgorwqn07XSEmyMmyzD"},
		{Seq: 12, From: "mod", Kind: Deleted, State: State{Act: 12}, Text: Span{Form: SpanNone}, Stamp: "2026-11-22 18:53:07"},
	} {
		r.Room, r.Payload, r.State.Epoch, r.State.At = MustRoom("user.42"), payload, "k3f9", at
		r.Key = strings.ReplaceAll(r.Key, " ", "_") // a key must not contain a space, see CheckKey
		h := get{HeaderRecord: {r.Header()}}
		if got, err := ParseRecord(r.Room.LogSubject(), h, r.Payload); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, %v\nwant %+v\nfrom %s", got, err, r, r.Header())
		}
		if _, err := ParseRecord("room.own.3", h, nil); err == nil {
			t.Error("ParseRecord accepts a subject that belongs to no room")
		}
	}
}

func TestParseRecordRefusesMalformedHeaders(t *testing.T) {
	subject := MustRoom("lobby").LogSubject()
	good := "2 58 mf3k2a 1764234787123 os 1200 1340 0 t61,5 - ann 8c7dd922ad47494f3f9c 2026-11-22 18:53:07"
	if _, err := ParseRecord(subject, get{HeaderRecord: {good}}, nil); err != nil {
		t.Fatal(err)
	}
	fields := strings.SplitN(good, " ", 13)
	with := func(i int, value string) string {
		changed := slices.Clone(fields)
		changed[i] = value
		return strings.Join(changed, " ")
	}
	for name, header := range map[string]string{
		"nothing": "", "another header": "hello", "an older schema": with(0, "1"), "no seq": with(1, "0"), "a negative seq": with(1, "-1"),
		"no epoch": with(2, ""), "no time": with(3, "now"), "another state": with(4, "x"), "no page": with(5, ""),
		"an unknown form": with(8, "q1,2"), "half a span": with(8, "t61"), "a lower-case escape": with(10, "a%2f"),
		"an escape of a plain byte": with(10, "%41"), "a raw space": with(10, "a b"), "a key without a digest": with(11, "8c7dd922ad47494f"),
		"a digest that is not hex": with(11, "8c7dd922ad47494gk"), "no stamp field": strings.Join(fields[:12], " "),
	} {
		if r, err := ParseRecord(subject, get{HeaderRecord: {header}}, nil); err == nil {
			t.Errorf("%s: ParseRecord accepts %q as %+v", name, header, r)
		}
	}
	if _, err := ParseRecord(subject, get{HeaderRecord: {with(0, "3")}}, nil); !errors.Is(err, ErrNewerSchema) {
		t.Errorf("a newer schema: %v", err)
	}
	for _, text := range []string{"t3,9", "t99999999999999999999,1", "e0,1", "t-1,2"} {
		header := strings.Replace(with(8, text), " os ", " o ", 1)
		if r, err := ParseRecord(subject, get{HeaderRecord: {header}}, []byte("{}")); err == nil && text != "e0,1" {
			t.Errorf("ParseRecord accepts a span outside of the payload: %+v", r.Text)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("2 58 mf3k2a 1764234787123 os 1200 1340 0 t61,5 - ann 8c7dd922ad47494f3f9c 2026-11-22 18:53:07", []byte("{}"))
	f.Add("2 1 e 1 o 0 1 0 e1,0 - a - x", []byte(`"\u0041"`))
	f.Fuzz(func(t *testing.T, header string, payload []byte) {
		r, err := ParseRecord(MustRoom("lobby").LogSubject(), get{HeaderRecord: {header}}, payload)
		if err != nil {
			return
		}
		r.Text.Text(payload)
		again, err := ParseRecord(MustRoom("lobby").LogSubject(), get{HeaderRecord: {r.Header()}}, payload)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%q: read %+v, then %+v, %v", header, r, again, err)
		}
	})
}

func TestSpanFindsTheContent(t *testing.T) {
	for _, c := range []Content{
		{Kind: Text, Body: []byte("hi")}, {Kind: Text, Body: []byte("")}, {Kind: Text, Body: []byte("\"a\\\n\u2028<b>&😀")},
		{Kind: Data, Body: []byte(`{"a":[1]}`)}, {Kind: Bin, Body: []byte{0, 1, 255}},
	} {
		payload, span := (&Event{Room: MustRoom("lobby"), Seq: 1, Epoch: "e1", Key: "k", Content: c}).AppendRecord(nil)
		body, binary, err := span.Text(payload)
		if err != nil || string(body) != string(c.Body) || binary != (c.Kind == Bin) {
			t.Errorf("%s %q: got %q, %v, %v", c.Kind, c.Body, body, binary, err)
		}
	}
}

func TestHeaderValuesHaveOneSpelling(t *testing.T) {
	for text, want := range map[string]string{"": "", "ann": "ann", "a b": "a%20b", "auth0|5f": "auth0%7C5f", "é%": "%C3%A9%25", "a@b.c:d-e_f": "a@b.c:d-e_f"} {
		if got := EscapeHeader(text); got != want {
			t.Errorf("EscapeHeader(%q) = %q, want %q", text, got, want)
		}
		if got, err := UnescapeHeader(want); err != nil || got != text {
			t.Errorf("UnescapeHeader(%q) = %q, %v", want, got, err)
		}
	}
	for _, bad := range []string{"a b", "%", "%2", "%2f", "%41", "a%zz", "é", "a|b"} {
		if got, err := UnescapeHeader(bad); err == nil {
			t.Errorf("UnescapeHeader(%q) = %q, want an error", bad, got)
		}
	}
}

func TestSnapshotKeepsUnknownFields(t *testing.T) {
	s, err := ParseSnapshot([]byte(`{"version":1,"epoch":"e1","seq":9,"closed":true,"why":"done","at":"2026-11-22T10:53:07.123Z","bans":{"x":1}}`))
	if err != nil || !s.Closed || s.Seq != 9 || s.Why != "done" {
		t.Fatalf("got %+v, %v", s, err)
	}
	s.Closed, s.Why = false, ""
	b, err := s.AppendJSON(nil)
	if err != nil || !strings.Contains(string(b), `"bans":{"x":1}`) || strings.Contains(string(b), "done") {
		t.Errorf("wrote %s, %v", b, err)
	}
	if _, err := ParseSnapshot([]byte(`{"version":2}`)); !errors.Is(err, ErrNewerSchema) {
		t.Errorf("a newer version: %v", err)
	}
}

// get is a Header whose names are case-sensitive, as in nats.Header.
type get map[string][]string

func (g get) Get(name string) string {
	if v := g[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func TestReplyIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 53, 7, 123e6, time.UTC)
	for _, r := range []Reply{
		{Seq: 58, At: at},
		{Seq: 58, At: at, Duplicate: true},
		{Refusal: Refuse(RateLimited, "wait").After(500 * time.Millisecond)},
		{Close: CloseNormal},
	} {
		b := r.AppendJSON(nil)
		if got, err := ParseReply(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, %v; want %+v from %s", got, err, r, b)
		}
	}
	for _, bad := range []string{``, `{}`, `{"ok":{}}`, `{"ok":{"seq":1}`, `[]`} {
		if r, err := ParseReply([]byte(bad)); err == nil {
			t.Errorf("ParseReply(%s) = %+v, want an error", bad, r)
		}
	}
}

func TestRangeOfCloseCodeDecidesReconnect(t *testing.T) {
	seen := map[CloseCode]bool{}
	for _, m := range CloseCodes {
		if seen[m.Code] {
			t.Errorf("%d is in the table twice", m.Code)
		}
		seen[m.Code] = true
		if m.Code >= 4000 && m.Reconnect != (m.Code < 4100) {
			t.Errorf("%d %s: reconnect is %v, its range says otherwise", m.Code, m.Name, m.Reconnect)
		}
		if len(m.Meaning) == 0 || len(m.Meaning) > 123 {
			t.Errorf("%d: the meaning has %d bytes, a close frame takes 1 to 123", m.Code, len(m.Meaning))
		}
	}
}

func TestAppendTimeMatchesPackageTime(t *testing.T) {
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.UnixMilli(1_795_677_581_447), time.Unix(253402300799, 999_999_999), time.Unix(253402300800, 0),
		time.Date(2024, 2, 29, 23, 59, 59, 1_999_999, time.FixedZone("", 5*3600+1800)), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, want := string(AppendTime([]byte("at "), at)), "at "+at.UTC().Format(timeLayout); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func BenchmarkAppendTime(b *testing.B) {
	at, buf := time.UnixMilli(1_795_677_581_447), make([]byte, 0, 64)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			buf = AppendTime(buf[:0], at)
		}
	})
	b.Run("package time", func(b *testing.B) {
		for b.Loop() {
			buf = at.UTC().AppendFormat(buf[:0], timeLayout)
		}
	})
}

func TestEventSubjectsAreReadBack(t *testing.T) {
	for _, name := range []string{"lobby", "user.42"} {
		room := MustRoom(name)
		for _, kind := range Occurrences {
			if k, r, ok := ParseEventSubject(room.EventSubject(kind)); k != kind || r != room || !ok {
				t.Errorf("%s: got %q, %v, %v", room.EventSubject(kind), k, r, ok)
			}
		}
	}
	for _, subject := range []string{"", "room.evt", "room.evt.joined", "room.evt.joined.1", "room.evt.joined.1.a.b", "room.evt.joined.1.",
		"room.evt.log.1.lobby", "room.evt.erased.7", "room.out.joined.1.lobby", "other.evt.joined.1.lobby"} {
		if k, r, ok := ParseEventSubject(subject); ok {
			t.Errorf("%q: got %q, %v, want no room", subject, k, r)
		}
	}
}
