package proto

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRequestOfAnyClientIsChecked(t *testing.T) {
	long := strings.Repeat("x", 1000)
	type headers map[string]string
	for name, c := range map[string]struct {
		headers headers
		body    string
		want    Code // "" = the request is accepted
	}{
		"bare":             {nil, "hi", ""},
		"empty":            {nil, "", ""},
		"not UTF-8":        {nil, "\xff\xfe", BadRequest},
		"bytes":            {headers{HeaderKind: "bin"}, "\xff\xfe", ""},
		"data":             {headers{HeaderKind: "data", HeaderType: "xx.oo"}, `{"a":[1]}`, ""},
		"broken data":      {headers{HeaderKind: "data"}, `{"a":`, BadRequest},
		"data twice":       {headers{HeaderKind: "data"}, `{"a":1,"a":2}`, BadRequest},
		"deep data":        {headers{HeaderKind: "data"}, strings.Repeat("[", 10_000), BadRequest},
		"no data":          {headers{HeaderKind: "data"}, ``, BadRequest},
		"unknown kind":     {headers{HeaderKind: "song"}, "la", BadRequest},
		"forged id":        {headers{HeaderFrom: "a b"}, "hi", BadRequest},
		"id with newline":  {headers{HeaderFrom: "a\x01b"}, "hi", BadRequest},
		"huge id":          {headers{HeaderFrom: long}, "hi", TooLarge},
		"huge key":         {headers{HeaderKey: long}, "hi", TooLarge},
		"key with space":   {headers{HeaderKey: "a b"}, "hi", BadRequest},
		"key not ASCII":    {headers{HeaderKey: "ключ"}, "hi", BadRequest},
		"huge name":        {headers{HeaderName: long}, "hi", TooLarge},
		"turning name":     {headers{HeaderName: EscapeHeader("a\u202eb")}, "hi", BadRequest},
		"name":             {headers{HeaderName: EscapeHeader("小明")}, "hi", ""},
		"another spelling": {headers{HeaderName: "小明"}, "hi", BadRequest},
		"bad type":         {headers{HeaderType: "<b>"}, "hi", BadRequest},
		"huge message":     {nil, strings.Repeat("x", 65<<10), TooLarge},
		"act":              {headers{HeaderKind: "close"}, "why", ""},
		"act with a novel": {headers{HeaderKind: "close"}, long, TooLarge},
		"foreign headers":  {headers{"Nats-Rollup": "all", "X-Y": "z"}, "hi", ""},
	} {
		h := make(map[string][]string)
		for k, v := range c.headers {
			h[k] = []string{v}
		}
		if _, r := ParseRequest(h, []byte(c.body), 64<<10); code(r) != c.want {
			t.Errorf("%s: got %q, want %q", name, code(r), c.want)
		}
	}
	if _, r := ParseRequest(map[string][]string{HeaderFrom: {"a", "b"}}, nil, 64<<10); code(r) != BadRequest {
		t.Errorf("a header twice: got %v, want %s", r, BadRequest)
	}
}

func code(r *Refusal) Code {
	if r == nil {
		return ""
	}
	return r.Code
}

func TestRequestIsReadAsItWasWritten(t *testing.T) {
	for _, r := range []Request{
		{From: Identity{ID: "ann", Name: "Ann Ø"}, Content: Content{Kind: Text, Body: []byte("hi")}},
		{From: Identity{ID: "ann"}, Key: "k", Line: true, Content: Content{Kind: Text, Body: []byte("hi")}},
		{From: Identity{ID: "ann"}, Key: "made", Hidden: true, Content: Content{Kind: Data, Type: "xx.oo", Body: []byte(`{"a":1}`)}},
		{From: Identity{ID: "ann"}, Key: "k", Content: Content{Kind: Bin, Body: []byte{0xff}}},
		{From: Identity{ID: "api"}, Key: "k", Act: ActClose, Why: "done for today"},
		{From: Identity{ID: "api"}, Key: "k", Act: ActReopen},
	} {
		if r.Key == "" {
			r.Hidden = true // ParseRequest sets Hidden if there is no key
		}
		got, refusal := ParseRequest(r.Header(), r.Payload(), 1<<10)
		if refusal != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, %v\nwant %+v", got, refusal, r)
		}
	}
}

// Only a request that names no kind is a line. Only a line can be a close word.
func TestOnlyTextWithoutAKindIsALine(t *testing.T) {
	for _, c := range []struct {
		header map[string][]string
		line   bool
	}{
		{nil, true},
		{map[string][]string{HeaderKind: {"text"}}, false},
		{map[string][]string{HeaderType: {"note"}}, false},
	} {
		r, refusal := ParseRequest(c.header, []byte("hi"), 1<<10)
		if refusal != nil || r.Line != c.line || r.Content.Kind != Text {
			t.Errorf("%v: got %+v, %v, want line %v", c.header, r, refusal, c.line)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add("text", "u", "n", "k", "t", "hi")
	f.Add("close", "", "", "", "", "why")
	f.Fuzz(func(t *testing.T, kind, from, name, key, typ, body string) {
		r, refusal := ParseRequest(map[string][]string{HeaderKind: {kind}, HeaderFrom: {from}, HeaderName: {name},
			HeaderKey: {key}, HeaderType: {typ}}, []byte(body), 1<<10)
		if refusal != nil {
			return
		}
		e := Event{Room: MustRoom("lobby"), Seq: 1, At: time.UnixMilli(0), From: r.From, Content: r.Content, Why: r.Why}
		if _, err := ParseEvent(e.AppendJSON(nil)); err != nil {
			t.Errorf("the event of an accepted request cannot be read: %v", err)
		}
		again, refusal := ParseRequest(r.Header(), r.Payload(), 1<<10)
		if refusal != nil || again.Kind() != r.Kind() || again.From != r.From || again.Key != r.Key || again.Line != r.Line {
			t.Errorf("got %+v, %v, want %+v", again, refusal, r)
		}
	})
}
