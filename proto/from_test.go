package proto

import (
	"errors"
	"net/url"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParseFromReadsQueries(t *testing.T) {
	at := time.UnixMilli(1_795_341_187_123).UTC()
	for query, want := range map[string]From{
		"":                                    {},
		"since=0":                             {HasSince: true},
		"since=42&epoch=k3f9":                 {Since: 42, HasSince: true, Epoch: "k3f9"},
		"at=2026-11-22T09:53:07.123Z&since=1": {Since: 1, HasSince: true, At: at},
		"since=1&at=2026-11-22T10:53:07.1239%2B01:00": {Since: 1, HasSince: true, At: at},
		"since=1&epoch=&at=":                          {Since: 1, HasSince: true},
		"last=5000":                                   {Last: MaxReplay},
		"after=1960-01-01T00:00:00Z":                  {After: time.Unix(0, 0).UTC()},
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseFrom(values.Get)
		if err != nil || got.Since != want.Since || got.HasSince != want.HasSince || got.Epoch != want.Epoch ||
			got.Last != want.Last || !got.At.Equal(want.At) || !got.After.Equal(want.After) {
			t.Errorf("%s: got %+v, %v, want %+v", query, got, err, want)
		}
	}
	for _, query := range []string{
		"since=-1", "since=1.5", "since=9007199254740992", "last=x", "after=noon", "at=noon&since=1",
		"since=1&last=2", "last=1&after=2026-11-22T10:53:07Z",
		"since=1&epoch=eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
	} {
		values, _ := url.ParseQuery(query)
		_, err := ParseFrom(values.Get)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Code != BadRequest {
			t.Errorf("%s: got %v, want bad_request", query, err)
		}
	}
}

// FuzzParseFrom checks that ParseFrom either refuses a query, or reads it like a join command
// with the same parameters.
func FuzzParseFrom(f *testing.F) {
	f.Add("since=42&epoch=k3f9&at=2026-11-22T10:53:07.123Z")
	f.Add("last=50")
	f.Add("after=2026-11-22T10:53:07Z&since=")
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil || !utf8.ValidString(values.Get("epoch")) { // JSON cannot contain an epoch that is not UTF-8
			return
		}
		from, err := ParseFrom(values.Get)
		if err != nil {
			if _, ok := errors.AsType[*Refusal](err); !ok {
				t.Fatalf("%q: got %v, want a refusal", query, err)
			}
			return
		}
		b := []byte(`{"join":{"room":"lobby"`)
		for _, name := range []string{"since", "last"} {
			if v := values.Get(name); v != "" {
				for len(v) > 1 && v[0] == '0' { // a number in JSON cannot begin with a zero
					v = v[1:]
				}
				b = append(append(b, `,"`+name+`":`...), v...)
			}
		}
		for _, name := range []string{"after", "epoch", "at"} {
			if v := values.Get(name); v != "" {
				b = appendString(append(b, `,"`+name+`":`...), v)
			}
		}
		c, err := ParseCommand(append(b, "}}"...))
		if err != nil || c.From != from {
			t.Fatalf("%q: got %+v; as a command %+v, %v", query, from, c.From, err)
		}
	})
}
