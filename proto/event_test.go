package proto

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
	"time"
)

func TestEventRoundTrip(t *testing.T) {
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

func TestParseEventPassesOverNewNames(t *testing.T) {
	e, err := ParseEvent([]byte(`{"room":"lobby","seq":1,"at":"2026-11-22T10:53:07.123Z","from":{"id":"a","badge":3},"text":"x","reactions":{"👍":2}}`))
	if err != nil || string(e.Content.Body) != "x" || e.From.ID != "a" {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestStateRoundTrip(t *testing.T) {
	s := State{Epoch: "k3f9", At: time.UnixMilli(1795345987123).UTC(), Closed: true, Page: 1 << 40, Start: 1<<40 + 77}
	if got, err := ParseState(s.String()); err != nil || got != s {
		t.Errorf("got %+v, %v; want %+v", got, err, s)
	}
	if _, err := ParseState("2 x y z"); err != ErrNewerSchema {
		t.Errorf("got %v, want ErrNewerSchema", err)
	}
	for _, bad := range []string{"", "1", "1 e o 5", "1 e o 5 6", "1 e x 5 6 7", "1 e o five 6 7", "1  o 5 6 7", "x e o 5 6 7"} {
		if s, err := ParseState(bad); err == nil {
			t.Errorf("ParseState(%q) = %+v, want an error", bad, s)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	r := Record{Room: MustRoom("lobby"), Seq: 7, Kind: Closed, From: "u1", Key: "k", Stamp: "2026-11-22 18:53:07",
		State: State{Epoch: "e", At: time.UnixMilli(5).UTC(), Closed: true}, Payload: []byte("{}")}
	h := http.Header{}
	r.EachHeader(func(name, value string) { h[name] = []string{value} })
	if got, err := ParseRecord(r.Room.LogSubject(), get(h), r.Payload); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v; want %+v", got, err, r)
	}
	if _, err := ParseRecord("room.own.3", get(h), nil); err == nil {
		t.Error("took a record from a subject that is no room's")
	}
}

// get looks headers up as nats.Header does: by the exact name.
type get map[string][]string

func (g get) Get(name string) string {
	if v := g[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func TestReplyRoundTrip(t *testing.T) {
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

func TestCloseCodesSayReconnectByTheirRange(t *testing.T) {
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

func TestAppendTime(t *testing.T) {
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
