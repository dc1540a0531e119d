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

// The event of each act has its own kind. A client sends an act either with the verb moderate, or with
// the verb of its name and a text. Only in the second form does the event have content.
func TestTheTableOfActsAgreesWithTheTableOfVerbs(t *testing.T) {
	kinds := map[EventKind]bool{Message: true}
	for _, act := range Acts {
		if kinds[act.Kind] || act.Does == "" {
			t.Errorf("%s: its kind %s is not unique, or no help text says what the act does", act.Act, act.Kind)
		}
		kinds[act.Kind] = true
		verb := act.Act.Verb().Rule()
		if verb == nil || !verb.takes("text") == act.Text || verb.Verb == VerbModerate == act.Text || act.Kind.HasContent() != act.Text {
			t.Errorf("%s: its verb is %+v, and its events have content: %v", act.Act, verb, act.Kind.HasContent())
			continue
		}
		for _, name := range []string{act.Needs, act.Takes} {
			if name != "" && !verb.takes(name) {
				t.Errorf("%s has no field %s, which %s may have", verb.Verb, name, act.Act)
			}
		}
	}
}
