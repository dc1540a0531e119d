package proto

import (
	"fmt"
	"testing"
)

func TestEveryFieldOfAVerbHasAReader(t *testing.T) {
	used := map[string]bool{"room": true}
	for _, rule := range Verbs {
		for _, name := range rule.Fields {
			used[name] = true
			if readers[name] == nil {
				t.Errorf("%s: nothing reads %s", rule.Verb, name)
			}
		}
	}
	for name := range readers {
		if !used[name] {
			t.Errorf("no verb has the field %s", name)
		}
	}
}

// A right and a membership always belong to a room.
func TestVerbsWithoutARoomNeedNoRightAndNoMembership(t *testing.T) {
	for _, rule := range Verbs {
		if !rule.Room && (rule.Right != "" || rule.Member || rule.takes("room")) {
			t.Errorf("%s has no room: %+v", rule.Verb, rule)
		}
		frame := fmt.Sprintf(`{"%s":{"nonsense":1}}`, rule.Verb)
		if _, err := ParseCommand([]byte(frame)); AsRefusal(err).Code != BadRequest {
			t.Errorf("%s: got %v, want %s", frame, err, BadRequest)
		}
	}
}
