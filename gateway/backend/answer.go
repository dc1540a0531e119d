package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"roomcast/proto"
	"roomcast/proto/grant"
)

// Answer is the backend's answer to a question, if the answer is yes.
type Answer struct {
	Unasked bool // the backend did not answer, and --ask-fail=allow is set; all other fields are zero

	Who     proto.Identity  // from connect: replaces the client's id and name where it is not empty
	Rooms   json.RawMessage // from connect: a grant, in the same form as in tokens; nil = none
	Grant   *grant.Grant    // the parsed form of Rooms
	Until   time.Time       // when the answer to connect or join expires; zero = when the session ends
	Content *proto.Content  // from say: replaces the client's content; nil = the content is unchanged
}

// maxAnswer is the length of the longest answer, in bytes.
const maxAnswer = 64 << 10

// parseAnswer reads an answer. If the error is a *proto.Refusal, the backend has refused. Any
// other error means that the answer violates a rule. Such an answer counts as no answer, and the
// error is for the log. Unknown names are ignored, but no name may be repeated.
func parseAnswer(kind Kind, body []byte, maxMessage int, now time.Time) (a Answer, err error) {
	if len(body) > maxAnswer {
		return a, fmt.Errorf("it has more than %d bytes", maxAnswer)
	}
	members, err := grant.ObjectMembers(body)
	if err != nil {
		return a, err
	}
	allow, why := "", ""
	for _, m := range members {
		switch {
		case m.Name == "allow":
			allow = string(m.Value)
		case m.Name == "why":
			why, err = text(m.Value)
		case m.Name == "until" && kind != Say:
			a.Until, err = until(m.Value)
		case m.Name == "id" && kind == Connect:
			a.Who.ID, err = text(m.Value)
		case m.Name == "name" && kind == Connect:
			a.Who.Name, err = text(m.Value)
		case m.Name == "rooms" && kind == Connect:
			if a.Grant, err = grant.Parse(m.Value); err == nil {
				a.Rooms = m.Value
			}
		case m.Name == "content" && kind == Say:
			a.Content, err = parseContent(m.Value)
		}
		if err != nil {
			return Answer{}, fmt.Errorf("%s: %v", m.Name, err) // not %w: a refusal in err is not the backend's
		}
	}
	switch {
	case allow == "false":
		return Answer{}, deny(why)
	case allow != "true":
		return Answer{}, errors.New("allow is neither true nor false")
	case !a.Until.IsZero() && !a.Until.After(now):
		return Answer{}, deny("the application's permission has expired")
	}
	return a, a.check(maxMessage)
}

// checkFor returns an error if the client's command cannot have the content of the answer. For
// example, an edit needs text.
func (a *Answer) checkFor(verb proto.Verb) error {
	if a.Content == nil || slices.Contains(verb.Rule().Fields, string(a.Content.Kind)) {
		return nil
	}
	return fmt.Errorf("content: %s has no field %s", verb, a.Content.Kind)
}

// check checks the identity and the content in the answer.
func (a *Answer) check(maxMessage int) error {
	if a.Content != nil && len(a.Content.Body) > maxMessage {
		return fmt.Errorf("content: it has %d bytes; the limit is %d", len(a.Content.Body), maxMessage)
	}
	if id := a.Who.ID; id != "" {
		if refusal := proto.CheckID(id); refusal != nil {
			return fmt.Errorf("id: %s", refusal.Message)
		}
		if proto.ReservedID(id) {
			return errors.New("id: only Roomcast itself uses it")
		}
	}
	if refusal := proto.CheckName(a.Who.Name); refusal != nil {
		return fmt.Errorf("name: %s", refusal.Message)
	}
	return nil
}

// maxWhy is the length of the longest reason in bytes. Such a reason fits into a close frame.
const maxWhy = 120

// deny returns the refusal for a reason that the backend gives.
func deny(why string) *proto.Refusal {
	if why = strings.ToValidUTF8(why[:min(len(why), maxWhy)], ""); why == "" {
		why = "the application does not allow this"
	}
	return proto.Refuse(proto.Forbidden, "%s", why)
}

func text(value []byte) (string, error) {
	var s *string
	if err := json.Unmarshal(value, &s); err != nil || s == nil || strings.ContainsRune(*s, '\uFFFD') {
		return "", errors.New("not text") // encoding/json turns half a surrogate pair into U+FFFD
	}
	return *s, nil
}

func until(value []byte) (time.Time, error) {
	s, err := text(value)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Year() > 9999 {
		return time.Time{}, errors.New("not a time of RFC 3339")
	}
	return t, nil
}

// parseContent reads content by the rules for the verb say.
func parseContent(value []byte) (*proto.Content, error) {
	frame := append(append([]byte(`{"say":`), value...), '}')
	cmd, err := proto.ParseCommand(frame)
	if err != nil {
		return nil, err
	}
	if !cmd.Room.IsZero() || cmd.Key != "" || cmd.Line {
		return nil, errors.New("it may contain only type and one of text, data and bin")
	}
	return &cmd.Content, nil
}
