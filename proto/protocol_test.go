package proto

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The test looks for the entries of all tables in this package: codes, headers, verbs and acts.
func TestProtocolDocumentNamesEveryTableRow(t *testing.T) {
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, m := range CloseCodes {
		reconnect := "no"
		if m.Reconnect {
			reconnect = "yes"
		}
		if row := fmt.Sprintf("| %d | %s | %s |", m.Code, m.Name, reconnect); !strings.Contains(doc, row) {
			t.Errorf("no row %q", row)
		}
	}
	for _, c := range []Code{BadRequest, BadRoom, TooLarge, NotJoined, TooMany, RateLimited, RoomClosed, CodeBanned, CodeMuted, Unauthorized,
		Forbidden, NotFound, Unsupported, Overloaded, Unavailable, Internal, ClosedByWord} {
		if row := fmt.Sprintf("| `%s` |", c); !strings.Contains(doc, row) {
			t.Errorf("no row %q", row)
		}
		if c.Status() == 500 && c != Internal {
			t.Errorf("%s has no HTTP status of its own", c)
		}
	}
	for _, h := range []string{HeaderKind, HeaderFrom, HeaderName, HeaderKey, HeaderOnce, HeaderType, HeaderSent, HeaderEnc, HeaderRecord,
		HeaderRights, HeaderMember, HeaderFor, HeaderEvery, HeaderSeq, HeaderEpoch} {
		if !strings.Contains(doc, "`"+h+"`") {
			t.Errorf("header %s is not described", h)
		}
	}
	for _, rule := range Verbs {
		row := ""
		for line := range strings.Lines(doc) {
			if strings.HasPrefix(line, "| `"+string(rule.Verb)+"` |") {
				row = line
			}
		}
		if row == "" {
			t.Errorf("verb %s is not described", rule.Verb)
		}
		for _, name := range append(slices.Clone(rule.Fields), rule.Answer...) {
			if !strings.Contains(row, "`"+name+"`") && !strings.Contains(row, `"`+name+`"`) {
				t.Errorf("the row of %s does not name %s: %q", rule.Verb, name, row)
			}
		}
	}
	for _, act := range Acts {
		if !strings.Contains(doc, "`"+string(act.Act)+"`") || !strings.Contains(doc, "`"+string(act.Kind)+"`") {
			t.Errorf("act %s is not described", act.Act)
		}
	}
}
