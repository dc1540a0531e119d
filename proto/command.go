package proto

import (
	"bytes"
	"encoding/base64"
)

// Kind is the form of a message's body.
type Kind string

// The kinds of message bodies.
const (
	Text Kind = "text" // UTF-8 text
	Data Kind = "data" // exactly one JSON value
	Bin  Kind = "bin"  // bytes; encoded as base64 in JSON, and sent as a binary frame in a text session
)

// Content is the content of a message.
type Content struct {
	Kind Kind
	Type string // type of an application event, such as "xx.oo"; "" for chat
	Body []byte // the text, the JSON value or the bytes, depending on Kind
}

// Limits for one command.
const (
	MaxReplay  = 1000 // the most events that the parameter last can replay
	MaxHistory = 256  // the most events in one answer to history
	maxIDBytes = 64   // the most bytes of a command's id, without quotes and escapes
)

// CommandBytes returns the most bytes that a command may have if its message may have the given
// number of bytes. JSON may write each byte of the message as six, such as \u000a. The other
// fields need up to 4096 bytes.
func CommandBytes(message int) int { return 6*message + 4096 }

// UsualBytes is like [CommandBytes], for a command with few escapes. Base64 makes a message longer
// by a third.
func UsualBytes(message int) int { return 2*message + 4096 }

// Command is one frame of a JSON session that [ParseCommand] has checked. The verb decides which
// fields are set; see [Verbs]. The byte slices point into the frame.
type Command struct {
	ID   []byte // a JSON string or number, which the answer repeats; nil = the command has none
	Verb Verb
	Room Room // zero = not given

	Content Content // for say; for signal: only Type, and Body, which is JSON or nil
	Line    bool    // for say; see [Request]
	Key     string  // for say, moderate and edit; "" = none

	From   From   // for join; for history: only Since, Epoch and At
	begins bool   // the frame contains since, last or after
	act    bool   // the caller has set Act, so the frame must not contain an act
	Before uint64 // for history: return events with a seq below this one; 0 = return the newest page
	Limit  int    // for history: the most events to return; 0 = the default

	Act   Act    // for moderate and edit
	Why   string // for moderate: the reason of the act
	Terms Terms  // for moderate and edit

	Token  string // for auth; "" if there is a ticket
	Ticket string // for auth; "" if there is a token
	Resume string // for auth; "" = none
}

// ParseCommand reads one JSON text frame. Its error is always a [*Refusal]. If it returns an
// error, the returned command still contains the frame's id, which the answer must repeat.
func ParseCommand(frame []byte) (Command, error) {
	var c Command
	err := c.read(frame)
	if err == nil {
		return c, nil
	}
	if c.ID == nil {
		c.ID = findID(frame)
	}
	return c, malformed(err, "the frame")
}

// malformed turns an error of a [jsonReader] into a refusal. The parameter text names what the
// reader was reading, such as "the frame". If err is a refusal already, malformed returns it.
func malformed(err error, text string) error {
	if want, ok := err.(typeError); ok {
		return Refuse(BadRequest, "%s must be %s", text, string(want))
	}
	if err == nil || asRefusal(err) {
		return err
	}
	return Refuse(BadRequest, "%s is %v", text, err)
}

func (c *Command) read(frame []byte) error {
	r := jsonReader{b: frame}
	var rule *VerbRule
	err := r.object(func(name string) error {
		if name == "id" {
			return c.readID(&r)
		}
		if c.Verb != "" {
			return Refuse(BadRequest, "a frame contains one command, but this one contains %s and %s", clip(string(c.Verb)), clip(name))
		}
		c.Verb = Verb(name)
		if rule = c.Verb.Rule(); rule == nil {
			return Refuse(BadRequest, "unknown command %s; the commands are %s", clip(name), listVerbs())
		}
		return malformedField(c.readFields(&r, rule), name)
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return err
	}
	if c.Verb == "" {
		return Refuse(BadRequest, `the frame holds no command; send for example {"id":1,"say":{"text":"hi"}}`)
	}
	return c.check(rule)
}

// readFields reads the object with the fields of a command.
func (c *Command) readFields(r *jsonReader, rule *VerbRule) error {
	return r.object(func(name string) error {
		if !rule.takes(name) {
			return Refuse(BadRequest, "%s has no field %s", c.Verb, clip(name))
		}
		return malformedField(readers[name](c, r), name)
	})
}

// malformedField returns the refusal for a field whose value has the wrong type. It returns any
// other error unchanged.
func malformedField(err error, name string) error {
	if _, ok := err.(typeError); ok {
		return malformed(err, name)
	}
	return err
}

func (c *Command) check(rule *VerbRule) error {
	if rule.check == nil {
		return nil
	}
	return orNil(rule.check(c))
}

// ParseBody reads the fields of a command from the body of an HTTP request. The path of the
// request says what the verb and the room are. The error is always a [*Refusal].
func ParseBody(verb Verb, body []byte) (Command, error) {
	c := Command{Verb: verb}
	err := c.readBody(body)
	return c, err
}

// ParseAct reads the fields of a moderate or edit command from a JSON object. It is for callers
// that get the act and the room from elsewhere, such as the path of a URL. Empty input means an
// empty object. The error is always a [*Refusal].
func ParseAct(act Act, body []byte) (Command, error) {
	if body = bytes.TrimSpace(body); len(body) == 0 {
		body = []byte("{}")
	}
	c := Command{Verb: act.Verb(), Act: act, act: true}
	err := c.readBody(body)
	return c, err
}

func (c *Command) readBody(body []byte) error {
	r := jsonReader{b: body, depth: 1} // the same depth as in a frame
	if r.peek() == 0 {
		return Refuse(BadRequest, "the body is empty; send an object with the fields of %s", c.Verb)
	}
	rule := c.Verb.Rule()
	err := c.readFields(&r, rule)
	if err == nil {
		err = r.end()
	}
	if err == nil {
		return c.check(rule)
	}
	return malformed(err, "the body")
}

// findID returns the id of a frame that was refused before its id was read. It returns nil if
// the frame has no id. It does not parse the frame, but looks only at strings and brackets.
func findID(frame []byte) []byte {
	depth, name := 0, false // name means that the next string at depth 1 is the name of a field
	for i := 0; i < len(frame); i++ {
		switch frame[i] {
		case '{', '[':
			depth++
			name = depth == 1 && frame[i] == '{'
		case '}', ']':
			depth--
		case ',':
			name = depth == 1
		case '"':
			start := i
			for i++; i < len(frame) && frame[i] != '"'; i++ {
				if frame[i] == '\\' {
					i++
				}
			}
			if i >= len(frame) {
				return nil
			}
			if !name {
				continue
			}
			name = false
			r := jsonReader{b: frame, i: start}
			if s, err := r.str(); err != nil || s != "id" || r.expect(':') != nil {
				continue
			}
			var c Command
			if c.readID(&r) != nil {
				return nil
			}
			return c.ID
		}
	}
	return nil
}

func asRefusal(err error) bool {
	_, ok := err.(*Refusal)
	return ok
}

func (c *Command) readID(r *jsonReader) error {
	raw, err := r.value()
	if err != nil {
		return err
	}
	again := jsonReader{b: raw}
	if raw[0] != '"' {
		if _, err := again.integer(); err != nil {
			return Refuse(BadRequest, "an id is a string or a whole number from 0 to 2^53-1")
		}
	} else if id, _ := again.str(); len(id) > maxIDBytes { // no error, because value has read the same string
		return Refuse(TooLarge, "an id has at most %d bytes, this one has %d", maxIDBytes, len(id))
	}
	c.ID = raw
	return nil
}

// body reads the body of a message of the given kind.
func (r *jsonReader) body(kind Kind) ([]byte, error) {
	if kind == Data {
		return r.value()
	}
	raw, plain, err := r.rawString()
	if err != nil {
		return nil, err
	}
	if !plain {
		again := jsonReader{b: r.b, i: r.i - len(raw) - 2}
		s, err := again.str()
		if err != nil {
			return nil, err
		}
		raw = []byte(s)
	}
	if kind == Bin {
		out := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
		n, err := base64.StdEncoding.Strict().Decode(out, raw)
		if err != nil {
			return nil, Refuse(BadRequest, "bin is not standard base64 with padding")
		}
		return out[:n], nil
	}
	return raw, nil
}
