package proto

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestProtocolDocument holds PROTOCOL.md against the tables in code.
func TestProtocolDocument(t *testing.T) {
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
	for _, c := range []Code{BadRequest, BadRoom, TooLarge, NotJoined, TooMany, RateLimited, RoomClosed, Unauthorized,
		Forbidden, NotFound, Unsupported, Overloaded, Unavailable, Internal, ClosedByWord} {
		if row := fmt.Sprintf("| `%s` |", c); !strings.Contains(doc, row) {
			t.Errorf("no row %q", row)
		}
		if c.Status() == 500 && c != Internal {
			t.Errorf("%s has no HTTP status of its own", c)
		}
	}
	for _, h := range []string{HeaderKind, HeaderFrom, HeaderName, HeaderKey, HeaderOnce, HeaderType, HeaderEnc, HeaderRecord} {
		if !strings.Contains(doc, "`"+h+"`") {
			t.Errorf("header %s is not described", h)
		}
	}
	for verb := range readers {
		if !strings.Contains(doc, "| `"+string(verb)+"` |") {
			t.Errorf("verb %s is not described", verb)
		}
	}
}
