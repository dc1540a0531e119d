package proto

import (
	"encoding/base64"
	"fmt"
)

// Verb is what a command asks for.
type Verb string

// The verbs of a JSON session.
const (
	VerbSay      Verb = "say"
	VerbJoin     Verb = "join"
	VerbLeave    Verb = "leave"
	VerbHistory  Verb = "history"
	VerbMembers  Verb = "members"
	VerbSignal   Verb = "signal"
	VerbModerate Verb = "moderate"
	VerbAuth     Verb = "auth"
)

// Kind says what a message's body is.
type Kind string

// The kinds of message bodies.
const (
	Text Kind = "text" // UTF-8 text
	Data Kind = "data" // one JSON value
	Bin  Kind = "bin"  // bytes; base64 in JSON, a binary frame in a text session
)

// Content is what a message says.
type Content struct {
	Kind Kind
	Type string // of an application event, such as "xx.oo"; "" for chat
	Body []byte // by Kind: the text, the JSON value, the bytes
}

// Bounds of what one command may ask for.
const (
	MaxReplay  = 1000 // of last
	MaxHistory = 256  // events of one history answer
	maxIDRaw   = 64   // bytes of a command's id, as JSON
)

// Command is one frame of a JSON session, checked. Which fields are set depends on
// Verb. Byte slices alias the parsed frame.
type Command struct {
	ID   []byte // as given, a JSON string or number, to be echoed; nil if none
	Verb Verb
	Room Room // zero where it was left out

	Content Content // say; for a signal, Type and Body (JSON, may be nil)
	Line    bool    // say: see [Request]
	Key     string  // say; "" if none

	From   From   // join; history uses Since, Epoch and At
	begins bool   // join: since, last or after was given
	Before uint64 // history: events below this seq; 0 = the newest page
	Limit  int    // history; 0 = the default

	Act    Act    // moderate
	Why    string // moderate
	Target string // moderate: the member's id, for kick, mute, ban
	Seq    uint64 // moderate: the message, for delete

	Token string // auth
}

// ParseCommand reads one JSON text frame. Its error is always a [*Refusal] that tells
// what is wrong. The returned command carries the id wherever it stands in the frame, so
// that the refusal can be addressed.
func ParseCommand(frame []byte) (Command, error) {
	var c Command
	err := c.read(frame)
	if err == nil {
		return c, nil
	}
	if c.ID == nil {
		c.ID = findID(frame)
	}
	if asRefusal(err) {
		return c, err
	}
	return c, Refuse(BadRequest, "the frame is %v", err)
}

func (c *Command) read(frame []byte) error {
	r := jsonReader{b: frame}
	err := r.object(func(name string) error {
		if name == "id" {
			return c.readID(&r)
		}
		if c.Verb != "" {
			return Refuse(BadRequest, "one frame holds one command, this one holds %s and %s", clip(string(c.Verb)), clip(name))
		}
		c.Verb = Verb(name)
		read, ok := readers[c.Verb]
		if !ok {
			return Refuse(BadRequest, "there is no command %s; there are say, join, leave, history, members, signal, moderate and auth", clip(name))
		}
		return r.object(func(name string) error { return read(c, &r, name) })
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
	if r := c.check(); r != nil {
		return r
	}
	return nil
}

// findID returns the id of a frame that is refused for another reason, nil if there is
// none. It follows strings and brackets only, so that it also reaches an id that stands
// behind what the reader refused.
func findID(frame []byte) []byte {
	depth, name := 0, false // name: the next string at depth 1 is a member's name
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
	if len(raw) > maxIDRaw {
		return Refuse(TooLarge, "an id has at most %d bytes, this one has %d", maxIDRaw, len(raw))
	}
	if raw[0] != '"' {
		n := jsonReader{b: raw}
		if _, err := n.integer(); err != nil {
			return Refuse(BadRequest, "an id is a string or a whole number from 0 to 2^53-1")
		}
	}
	c.ID = raw
	return nil
}

// readers reads one field of a verb's object, the reader standing before its value.
var readers = map[Verb]func(c *Command, r *jsonReader, name string) error{
	VerbSay: func(c *Command, r *jsonReader, name string) (err error) {
		switch name {
		case "text", "data", "bin":
			if c.Content.Kind != "" {
				return Refuse(BadRequest, "a message has one of text, data and bin")
			}
			c.Content.Kind = Kind(name)
			c.Content.Body, err = r.body(c.Content.Kind)
			return err
		case "line":
			c.Line, err = r.boolean()
			return err
		case "type":
			c.Content.Type, err = r.str()
			return err
		case "key":
			c.Key, err = r.str()
			return err
		}
		return c.common(r, name)
	},
	VerbJoin: func(c *Command, r *jsonReader, name string) error {
		switch name {
		case "since", "last", "after":
			if c.begins {
				return Refuse(BadRequest, "join takes one of since, last and after")
			}
			c.begins = true
			return c.From.read(r, name)
		case "epoch", "at":
			return c.From.read(r, name)
		}
		return c.common(r, name)
	},
	VerbLeave: func(c *Command, r *jsonReader, name string) error { return c.common(r, name) },
	VerbHistory: func(c *Command, r *jsonReader, name string) (err error) {
		switch name {
		case "before":
			c.Before, err = r.integer()
			return err
		case "since", "epoch", "at":
			return c.From.read(r, name)
		case "limit":
			var n uint64
			n, err = r.integer()
			c.Limit = int(min(n, MaxHistory))
			return err
		}
		return c.common(r, name)
	},
	VerbMembers: func(c *Command, r *jsonReader, name string) error { return c.common(r, name) },
	VerbSignal: func(c *Command, r *jsonReader, name string) (err error) {
		switch name {
		case "type":
			c.Content.Type, err = r.str()
			return err
		case "data":
			c.Content.Kind = Data
			c.Content.Body, err = r.value()
			return err
		}
		return c.common(r, name)
	},
	VerbModerate: func(c *Command, r *jsonReader, name string) (err error) {
		switch name {
		case "act":
			var s string
			s, err = r.str()
			c.Act = Act(s)
			return err
		case "why":
			c.Why, err = r.str()
			return err
		case "member":
			c.Target, err = r.str()
			return err
		case "seq":
			c.Seq, err = r.integer()
			return err
		}
		return c.common(r, name)
	},
	VerbAuth: func(c *Command, r *jsonReader, name string) (err error) {
		if name == "token" {
			c.Token, err = r.str()
			return err
		}
		return fmt.Errorf("%w: auth has no field %s", errJSON, clip(name))
	},
}

// common reads the field every verb about a room shares.
func (c *Command) common(r *jsonReader, name string) error {
	if name != "room" {
		return Refuse(BadRequest, "%s has no field %s", c.Verb, clip(name))
	}
	s, err := r.str()
	if err != nil {
		return err
	}
	if c.Room, err = ParseRoom(s); err != nil {
		return Refuse(BadRoom, "%v", err)
	}
	return nil
}

// check applies the rules that need the whole command.
func (c *Command) check() *Refusal {
	switch c.Verb {
	case VerbSay:
		if c.Content.Kind == "" {
			return Refuse(BadRequest, "say needs one of text, data and bin")
		}
		if c.Line && (c.Content.Kind != Text || c.Content.Type != "") {
			return Refuse(BadRequest, "line is for text without a type")
		}
		if c.Content.Type != "" {
			if r := CheckType(c.Content.Type); r != nil {
				return r
			}
		}
		if c.Key != "" {
			return CheckKey(c.Key)
		}
	case VerbSignal:
		return CheckType(c.Content.Type)
	case VerbHistory:
		if c.From.HasSince && c.Before != 0 {
			return Refuse(BadRequest, "history takes one of before and since")
		}
	case VerbModerate:
		if refusal := CheckWhy(c.Why); refusal != nil {
			return refusal
		}
		if !c.Act.Known() {
			return Refuse(BadRequest, "there is no act %s; there are close, reopen, kick, mute, unmute, ban, unban and delete", clip(string(c.Act)))
		}
	case VerbAuth:
		if c.Token == "" {
			return Refuse(BadRequest, "auth needs a token")
		}
	}
	return nil
}

// body reads a message's body of the given kind.
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
