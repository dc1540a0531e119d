package console

import (
	"strings"
	"testing"
	"time"

	"roomcast/proto"
)

func TestActsAndDeletedMessagesAreShownAsSuch(t *testing.T) {
	for _, c := range []struct{ fields, text string }{
		{`"deleted":true`, "[message deleted]"},
		{`"kind":"deleted","of":42,"author":{"id":"ann","at":"2026-11-22T10:53:07.123Z"},"why":"spam"`, "[deleted 42: spam]"},
		{`"kind":"edited","text":"hello","of":42`, "[edited 42: hello]"},
		{`"kind":"slowed","every":"10s"`, "[slowed to one message in 10s]"},
		{`"kind":"slowed","every":"0s"`, "[slow mode ended]"},
		{`"kind":"kicked","member":"bob","why":"spam"`, "[kicked bob: spam]"},
	} {
		for _, at := range []string{`"at":"2026-11-22T10:53:07.123Z",`, ""} {
			frame := `{"room":"lobby","seq":7,` + at + `"from":{"id":"ann"},` + c.fields + `}`
			e, err := proto.ParseEvent([]byte(frame))
			if err != nil {
				t.Fatal(err)
			}
			want := "7 - ann: " + c.text + "\n"
			if at != "" {
				want = "7 " + e.At.Local().Format(time.DateTime) + " ann: " + c.text + "\n"
			}
			var text, json strings.Builder
			if err := (&printer{out: &text}).event(&e); err != nil || text.String() != want {
				t.Errorf("%s is shown as %q, want %q (%v)", frame, text.String(), want, err)
			}
			if err := (&printer{out: &json, json: true}).event(&e); err != nil || e.Removed != strings.Contains(json.String(), `,"deleted":true}`) {
				t.Errorf("%s becomes %s (%v)", frame, json.String(), err)
			}
		}
	}
}
