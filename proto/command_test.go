package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseCommandReadsEachVerb(t *testing.T) {
	longID, escapedID := strings.Repeat("x", maxIDBytes), strings.Repeat(`\u4f60`, maxIDBytes/3)
	lobby := MustRoom("lobby")
	for frame, check := range map[string]func(Command) bool{
		`{"id":1,"say":{"room":"lobby","text":"hi","key":"3f9c"}}`: func(c Command) bool {
			return c.Verb == VerbSay && string(c.ID) == "1" && c.Room == lobby && string(c.Content.Body) == "hi" && c.Content.Kind == Text && c.Key == "3f9c"
		},
		`{"say":{"text":"a\n\"\u4f60\ud83d\ude00"},"id":"x"}`: func(c Command) bool {
			return string(c.Content.Body) == "a\n\"你😀" && string(c.ID) == `"x"` && c.Room.IsZero()
		},
		`{"say":{"data":{"a":[1,2.5e3,null,true]},"type":"xx.oo"}}`: func(c Command) bool {
			return c.Content.Kind == Data && c.Content.Type == "xx.oo" && string(c.Content.Body) == `{"a":[1,2.5e3,null,true]}`
		},
		`{"say":{"bin":"AAH/"}}`:                                   func(c Command) bool { return string(c.Content.Body) == "\x00\x01\xff" },
		`{"join":{"room":"lobby","since":0}}`:                      func(c Command) bool { return c.From.HasSince && c.From.Since == 0 && !c.From.None() },
		`{"join":{"room":"lobby","last":5000}}`:                    func(c Command) bool { return c.From.Last == MaxReplay },
		`{"join":{"room":"lobby","after":"2026-11-22T10:53:07Z"}}`: func(c Command) bool { return c.From.After.Equal(time.Date(2026, 11, 22, 10, 53, 7, 0, time.UTC)) },
		`{"join":{"room":"lobby"}}`:                                func(c Command) bool { return c.From.None() },
		`{"history":{"before":43,"limit":50}}`:                     func(c Command) bool { return c.Before == 43 && c.Limit == 50 },
		`{"history":{"limit":100000}}`:                             func(c Command) bool { return c.Before == 0 && c.Limit == MaxHistory },
		`{"id":"` + longID + `","leave":{}}`:                       func(c Command) bool { return string(c.ID) == `"`+longID+`"` },
		`{"id":"` + escapedID + `","leave":{}}`:                    func(c Command) bool { return string(c.ID) == `"`+escapedID+`"` },
		`{"signal":{"type":"typing","data":{}}}`:                   func(c Command) bool { return c.Content.Type == "typing" && string(c.Content.Body) == "{}" },
		`{"moderate":{"room":"lobby","act":"close","why":"done"}}`: func(c Command) bool { return c.Act == ActClose && c.Why == "done" },
		` { "leave" : { } } `:                                      func(c Command) bool { return c.Verb == VerbLeave },
	} {
		c, err := ParseCommand([]byte(frame))
		if err != nil || !check(c) {
			t.Errorf("ParseCommand(%s) = %+v, %v", frame, c, err)
		}
	}
}

// A person who presses Enter sends an empty line.
func TestParseCommandReadsEmptyContent(t *testing.T) {
	for _, frame := range []string{`{"say":{"text":""}}`, `{"say":{"bin":""}}`, `{"edit":{"seq":1,"text":""}}`} {
		if c, err := ParseCommand([]byte(frame)); err != nil || c.Content.Kind == "" || len(c.Content.Body) != 0 {
			t.Errorf("ParseCommand(%s) = %+v, %v, want empty content", frame, c, err)
		}
	}
}

func TestRefusalsNameWhatIsAllowed(t *testing.T) {
	for frame, part := range map[string]string{
		`{"moderate":{"room":"lobby"}}`:                            "moderate needs act; the acts are close, ",
		`{"moderate":{"act":""}}`:                                  "moderate needs act",
		`{"moderate":{"act":"explode"}}`:                           `unknown act "explode"`,
		`{"history":{"before":0}}`:                                 "before must be a whole number from 1 to",
		`{"history":{"before":"x"}}`:                               "before must be a whole number from 1 to",
		`{"history":{"limit":0}}`:                                  "limit must be a whole number from 1 to",
		`{"history":{"since":-1}}`:                                 "since must be a whole number from 0 to",
		`{"edit":{"seq":0,"text":"x"}}`:                            "seq must be a whole number from 1 to",
		`{"moderate":{"act":"ban","member":"a","for":"87840h1s"}}`: "from 1s to 87840h (10 years)",
		`{"moderate":{"act":"mute","member":"a","for":"999ms"}}`:   "from 1s to 87840h (10 years)",
	} {
		if _, err := ParseCommand([]byte(frame)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("ParseCommand(%s): got %v, want a refusal with %s", frame, err, part)
		}
	}
	if c, err := ParseCommand([]byte(`{"moderate":{"act":"ban","member":"a","for":"87840h"}}`)); err != nil || c.Terms.For != maxFor {
		t.Errorf("the longest ban: got %+v, %v", c, err)
	}
}

func TestParseCommandRefusesMalformedFrames(t *testing.T) {
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	wide := make([]string, 5_000)
	for i := range wide {
		wide[i] = fmt.Sprintf(`"k%d":0`, i)
	}
	for _, x := range []struct {
		frame string
		code  Code
		id    string // the id that the refusal must contain
	}{
		{``, BadRequest, ""},
		{`hello`, BadRequest, ""},
		{`[]`, BadRequest, ""},
		{`{}`, BadRequest, ""},
		{`{"id":7}`, BadRequest, "7"},
		{`{"id":7,"shout":{}}`, BadRequest, "7"},
		{`{"shout":{},"id":7}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a"},"join":{}}`, BadRequest, "7"},
		{`{"id":7,"say":"a"}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":1}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","data":1}}`, BadRequest, "7"},
		{`{"id":7,"say":{}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","text":"b"}}`, BadRequest, "7"},
		{`{"id":7,"id":8,"leave":{}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","extra":1}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"\ud800"}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"\ud800\u0041"}}`, BadRequest, "7"},
		{"{\"id\":7,\"say\":{\"text\":\"\xff\"}}", BadRequest, "7"},
		{"{\"id\":7,\"say\":{\"text\":\"\x01\"}}", BadRequest, "7"},
		{`{"id":7,"say":{"text":"a"}} x`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a"}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a",}}`, BadRequest, "7"},
		{`{"id":7,"say":{"data":` + deep + `}}`, BadRequest, "7"},
		{`{"id":7,"say":{"data":{"a":1,"a":2}}}`, BadRequest, "7"},
		{`{"id":7,"say":{"data":{` + strings.Join(wide, ",") + `,"k1":0}}}`, BadRequest, "7"},
		{`{"id":7,"say":{"data":NaN}}`, BadRequest, "7"},
		{`{"id":7,"say":{"data":1e999}}`, BadRequest, "7"},
		{`{"id":7,"say":{"data":01}}`, BadRequest, "7"},
		{`{"id":7,"say":{"bin":"%%%"}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","type":"a b"}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","key":"a b"}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","key":""}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","type":""}}`, BadRequest, "7"},
		{`{"id":7,"edit":{"seq":1,"text":"a","key":""}}`, BadRequest, "7"},
		{`{"id":7,"moderate":{"act":"close","key":""}}`, BadRequest, "7"},
		{`{"id":7,"say":{"text":"a","key":"` + strings.Repeat("k", MaxKeyBytes+1) + `"}}`, TooLarge, "7"},
		{`{"id":7,"say":{"room":"a..b","text":"a"}}`, BadRoom, "7"},
		{`{"id":7,"join":{"room":"*"}}`, BadRoom, "7"},
		{`{"id":7,"join":{"since":9007199254740992}}`, BadRequest, "7"},
		{`{"id":7,"join":{"since":-1}}`, BadRequest, "7"},
		{`{"id":7,"join":{"since":1.5}}`, BadRequest, "7"},
		{`{"id":7,"join":{"since":1,"last":2}}`, BadRequest, "7"},
		{`{"id":7,"join":{"after":"yesterday"}}`, BadRequest, "7"},
		{`{"id":7,"history":{"since":1,"before":2}}`, BadRequest, "7"},
		{`{"id":7,"history":{"before":0}}`, BadRequest, "7"},
		{`{"id":7,"history":{"limit":0}}`, BadRequest, "7"},
		{`{"id":7,"signal":{"type":""}}`, BadRequest, "7"},
		{`{"id":7,"signal":{}}`, BadRequest, "7"},
		{`{"id":7,"moderate":{"act":"explode"}}`, BadRequest, "7"},
		{`{"id":7,"auth":{}}`, BadRequest, "7"},
		{`{"id":9007199254740993,"leave":{}}`, BadRequest, ""},
		{`{"id":1.5,"leave":{}}`, BadRequest, ""},
		{`{"id":{},"leave":{}}`, BadRequest, ""},
		{`{"id":"` + strings.Repeat("x", maxIDBytes+1) + `","leave":{}}`, TooLarge, ""},
		{`{"id":"` + strings.Repeat(`\u0041`, maxIDBytes+1) + `","leave":{}}`, TooLarge, ""},
	} {
		c, err := ParseCommand([]byte(x.frame))
		r, ok := err.(*Refusal)
		if !ok {
			t.Errorf("ParseCommand(%.60s): got %v, want a refusal", x.frame, err)
			continue
		}
		if r.Code != x.code || string(c.ID) != x.id || r.Message == "" || len(r.Message) > 300 {
			t.Errorf("ParseCommand(%.60s): got %v for id %q, want %s for id %q", x.frame, r, c.ID, x.code, x.id)
		}
	}
}

// The members of a JSON object may come in any order, so the id may be the last one.
func TestRefusalHasTheIDOfTheCommandWhereverItIs(t *testing.T) {
	for _, verb := range []string{
		`"join":{"room":".a"}`,
		`"say":{"room":"x","txt":1}`,
		`"say":{"text":"a","type":"a b"}`,
		`"say":{"text":"\ud800"}`,
		`"say":{"text":"a",}`,
		`"say":{"data":{"a":1,"a":2}}`,
		`"say":{"data":{"id":8},"text":"a"}`,
		`"say":{"data":["id",8,{"id":9}],"x":"\\\",\"id\":8"}`,
		`"say":{"data":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		"\"say\":{\"text\":\"\xff\"}",
		`"join":{"since":1,"last":0}`,
		`"join":{"since":-1}`,
		`"say":1e999`,
		`"shout":{}`,
		`"leave":{},"members":{}`,
		`"auth":{}`,
	} {
		for _, id := range []string{`7`, `"a\"b"`} {
			for _, frame := range []string{
				`{"id":` + id + `,` + verb + `}`,
				`{` + verb + `,"id":` + id + `}`,
				`{ ` + verb + ` , "\u0069d" : ` + id + ` } `,
			} {
				c, err := ParseCommand([]byte(frame))
				if _, refused := err.(*Refusal); !refused || string(c.ID) != id {
					t.Errorf("ParseCommand(%.80s): got id %q with %v, want %s with a refusal", frame, c.ID, err, id)
				}
			}
		}
	}
}

// A client that is told "the acts are …" can send each act of the list.
func TestEachListedActIsAnActOfModerate(t *testing.T) {
	_, err := ParseCommand([]byte(`{"moderate":{"act":"explode"}}`))
	_, list, _ := strings.Cut(AsRefusal(err).Message, "the acts are ")
	acts := strings.FieldsFunc(strings.ReplaceAll(list, " and ", ", "), func(r rune) bool { return r == ',' || r == ' ' })
	for _, rule := range Acts {
		if slices.Contains(acts, string(rule.Act)) == rule.Text {
			t.Errorf("got the acts %q; an act with a text is a command of its own: %s", acts, rule.Act)
		}
	}
	for _, act := range acts {
		fields := map[string]string{"": "", "member": `,"member":"u"`, "every": `,"every":"1s"`, "seq": `,"seq":1`}[Act(act).Rule().Needs]
		if _, err := ParseCommand([]byte(`{"moderate":{"act":"` + act + `"` + fields + `}}`)); err != nil {
			t.Errorf("%s is listed, but got %v", act, err)
		}
	}
}

// If "after" is a time before 1970, the whole log is replayed. As with every value of "after",
// the command must not contain "since" or "last" too.
func TestTimesBefore1970CountAs1970(t *testing.T) {
	for _, after := range []string{"0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "1969-12-31T23:59:59Z"} {
		c, err := ParseCommand([]byte(`{"join":{"room":"lobby","after":"` + after + `"}}`))
		if err != nil || c.From.None() || c.From.After.After(time.Unix(0, 0)) {
			t.Errorf("after %s: got %+v, %v, want a replay from the beginning", after, c.From, err)
		}
	}
	for _, frame := range []string{
		`{"join":{"room":"lobby","since":1,"after":"0001-01-01T00:00:00Z"}}`,
		`{"join":{"room":"lobby","after":"0001-01-01T00:00:00Z","last":1}}`,
		`{"join":{"room":"lobby","since":1,"last":0}}`,
	} {
		if c, err := ParseCommand([]byte(frame)); err == nil {
			t.Errorf("ParseCommand(%s): got %+v, want a refusal", frame, c.From)
		}
	}
}

// plainID matches ids that all JSON encoders write in the same way.
var plainID = regexp.MustCompile(`^(0|[1-9][0-9]{0,14}|"[ -~]{0,40}")$`)

// FuzzParseCommand compares ParseCommand with encoding/json. Both must read the same values from
// an accepted frame. A refusal must contain the id of its command.
func FuzzParseCommand(f *testing.F) {
	f.Add([]byte(`{"id":1,"say":{"room":"lobby","text":"h\u00e9\ud83d\ude00","key":"3f9c","type":"a.b"}}`))
	f.Add([]byte(`{"join":{"room":"聊天室1","last":5}}`))
	f.Add([]byte(`{"id":"a","say":{"data":{"a":[1e3,-0.5,null,true,{}]}}}`))
	f.Add([]byte(`{"history":{"before":1,"limit":2}}`))
	f.Add([]byte(`{"join":{"room":".a"},"id":1}`))
	f.Add([]byte(`{"say":{"data":{"id":[1,{"x":"\\\""}]}},"id":"z"}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, err := ParseCommand(frame)
		if err != nil {
			if _, ok := err.(*Refusal); !ok {
				t.Fatalf("got %T, want a refusal", err)
			}
			var m map[string]json.RawMessage
			if json.Unmarshal(frame, &m) == nil && bytes.Count(frame, []byte(`"id"`)) == 1 && bytes.IndexByte(frame, '\\') < 0 {
				if id := string(m["id"]); plainID.MatchString(id) && string(c.ID) != id {
					t.Fatalf("got id %q, want %s", c.ID, id)
				}
			}
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(frame, &m); err != nil {
			t.Fatalf("ParseCommand accepts a frame that encoding/json refuses: %v", err)
		}
		if c.Verb == VerbSay && c.Content.Kind == Text {
			var say map[string]json.RawMessage
			var text string
			if err := errors.Join(json.Unmarshal(m["say"], &say), json.Unmarshal(say["text"], &text)); err != nil || text != string(c.Content.Body) {
				t.Fatalf("got text %q, encoding/json says %q, %v", c.Content.Body, text, err)
			}
		}
	})
}

func TestRefusalsNameTheMistake(t *testing.T) {
	frame := func(text string) error { _, err := ParseCommand([]byte(text)); return err }
	body := func(text string) error { _, err := ParseBody(VerbSay, []byte(text)); return err }
	act := func(text string) error { _, err := ParseAct(ActMute, []byte(text)); return err }
	for _, tt := range []struct {
		parse      func(string) error
		text, want string
	}{
		{frame, `{"id":7,"say":{"text":5}}`, "text must be a string"},
		{frame, `{"id":7,"say":5}`, "say must be an object"},
		{frame, `{"say":{"text":"a","line":"yes"}}`, "line must be true or false"},
		{frame, `{"join":{"since":"4"}}`, "since must be a whole number from 0 to 2^53-1"},
		{frame, `[]`, "the frame must be an object"},
		{frame, `{"say":{"text":x}}`, "the frame is not valid JSON: expected a string at byte 15"},
		{frame, `{"auth":{}}`, "auth needs a token or a ticket"},
		{frame, `{"auth":{"token":"a","ticket":"b"}}`, "auth takes only one of token and ticket"},
		{body, ``, "the body is empty; send an object with the fields of say"},
		{body, `{"text":`, "the body is not valid JSON: expected a string at byte 8"},
		{body, `{"text":"x"},"leave":{}`, "the body is not valid JSON: something follows the JSON text at byte 12"},
		{act, `[]`, "the body must be an object"},
		{act, `{"member":7}`, "member must be a string"},
	} {
		if r := AsRefusal(tt.parse(tt.text)); r.Code != BadRequest || r.Message != tt.want {
			t.Errorf("%s: got %v, want %s", tt.text, r, tt.want)
		}
	}
}
