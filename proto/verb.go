package proto

import (
	"slices"
	"strconv"
	"strings"
)

// Verb is the kind of a command.
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
	VerbEdit     Verb = "edit"
	VerbAuth     Verb = "auth"
	VerbPing     Verb = "ping"
)

// Right is the permission to do something in a room.
type Right string

// The rights.
const (
	RightRead     Right = "read"     // allows join, history and members
	RightSay      Right = "say"      // allows say and signal
	RightModerate Right = "moderate" // allows the acts
)

// VerbRule describes a verb, for the parser and for the gateway's dispatcher.
type VerbRule struct {
	Verb   Verb
	Room   bool     // the command concerns a room, which its field room names
	Member bool     // the session must be a member of that room
	Right  Right    // the right that the command needs in that room; "" = none
	Fields []string // fields that the command may have, other than room
	Answer []string // fields of the object ok in the answer; some of them are optional

	check func(*Command) *Refusal // checks the whole command; nil = there is nothing to check
}

// Verbs describes all verbs.
var Verbs = []VerbRule{
	{Verb: VerbSay, Room: true, Right: RightSay, check: checkSay,
		Fields: []string{"text", "data", "bin", "line", "type", "key"}, Answer: []string{"seq", "at", "duplicate"}},
	{Verb: VerbJoin, Room: true, Right: RightRead,
		Fields: []string{"since", "last", "after", "epoch", "at"}, Answer: []string{"room", "seq", "epoch", "at", "resume"}},
	{Verb: VerbLeave, Room: true, Member: true, Answer: []string{"room"}},
	{Verb: VerbHistory, Room: true, Member: true, Right: RightRead, check: checkHistory,
		Fields: []string{"before", "since", "epoch", "at", "limit"},
		Answer: []string{"room", "events", "more", "seq", "epoch", "gap", "closed", "why"}},
	{Verb: VerbMembers, Room: true, Member: true, Right: RightRead, Answer: []string{"room", "count", "members", "more"}},
	{Verb: VerbSignal, Room: true, Member: true, Right: RightSay, check: checkSignal, Fields: []string{"type", "data"}},
	{Verb: VerbEdit, Room: true, Right: RightSay, check: checkText,
		Fields: []string{"seq", "text", "epoch", "key"}, Answer: []string{"seq", "at", "duplicate"}},
	{Verb: VerbModerate, Room: true, Right: RightModerate, check: checkModerate,
		Fields: []string{"act", "member", "for", "every", "seq", "epoch", "why", "key"}, Answer: []string{"seq", "at", "duplicate"}},
	{Verb: VerbAuth, check: checkAuth, Fields: []string{"token", "ticket", "resume"}, Answer: []string{"you", "expires"}},
	{Verb: VerbPing},
}

// Rule returns the description of v. It returns nil if v is unknown.
func (v Verb) Rule() *VerbRule {
	for i := range Verbs {
		if Verbs[i].Verb == v {
			return &Verbs[i]
		}
	}
	return nil
}

func listVerbs() string {
	names := make([]string, len(Verbs))
	for i := range Verbs {
		names[i] = string(Verbs[i].Verb)
	}
	return enumerate(names)
}

// enumerate returns "a, b and c".
func enumerate(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// takes reports whether a command with this verb may have the field.
func (v *VerbRule) takes(field string) bool {
	return field == "room" && v.Room || slices.Contains(v.Fields, field)
}

// readers contains the functions that read the value of a command's field, by the field's name.
var readers = map[string]func(c *Command, r *jsonReader) error{
	"room": func(c *Command, r *jsonReader) error {
		s, err := r.str()
		if err != nil {
			return err
		}
		if c.Room, err = ParseRoom(s); err != nil {
			return Refuse(BadRoom, "%v", err)
		}
		return nil
	},
	"text": func(c *Command, r *jsonReader) error { return c.readContent(r, Text) },
	"data": func(c *Command, r *jsonReader) error { return c.readContent(r, Data) },
	"bin":  func(c *Command, r *jsonReader) error { return c.readContent(r, Bin) },
	"line": func(c *Command, r *jsonReader) (err error) { c.Line, err = r.boolean(); return err },
	"type": func(c *Command, r *jsonReader) (err error) {
		if c.Content.Type, err = r.str(); err == nil {
			err = orNil(CheckType(c.Content.Type))
		}
		return err
	},
	"key": func(c *Command, r *jsonReader) (err error) {
		if c.Key, err = r.str(); err == nil {
			err = orNil(CheckKey(c.Key))
		}
		return err
	},
	"since": func(c *Command, r *jsonReader) error { return c.readFrom(r, "since") },
	"last":  func(c *Command, r *jsonReader) error { return c.readFrom(r, "last") },
	"after": func(c *Command, r *jsonReader) error { return c.readFrom(r, "after") },
	"epoch": func(c *Command, r *jsonReader) error {
		if c.Verb.Rule().takes("seq") { // the epoch of that seq
			return c.readTerm(r, "epoch")
		}
		return c.From.read(r, "epoch")
	},
	"seq": func(c *Command, r *jsonReader) error {
		n, err := r.positive()
		if err != nil {
			return err
		}
		return orNil(c.Terms.read("seq", strconv.FormatUint(n, 10)))
	},
	"at":     func(c *Command, r *jsonReader) error { return c.From.read(r, "at") },
	"before": func(c *Command, r *jsonReader) (err error) { c.Before, err = r.positive(); return err },
	"limit": func(c *Command, r *jsonReader) error {
		n, err := r.positive()
		c.Limit = int(min(n, MaxHistory))
		return err
	},
	"act": func(c *Command, r *jsonReader) error {
		if c.act {
			return Refuse(BadRequest, "the path names the act; leave it out of the body")
		}
		s, err := r.str()
		c.Act = Act(s)
		return err
	},
	"member": func(c *Command, r *jsonReader) error { return c.readTerm(r, "member") },
	"for":    func(c *Command, r *jsonReader) error { return c.readTerm(r, "for") },
	"every":  func(c *Command, r *jsonReader) error { return c.readTerm(r, "every") },
	"why":    func(c *Command, r *jsonReader) (err error) { c.Why, err = r.str(); return err },
	"token":  func(c *Command, r *jsonReader) (err error) { c.Token, err = r.str(); return err },
	"ticket": func(c *Command, r *jsonReader) (err error) { c.Ticket, err = r.str(); return err },
	"resume": func(c *Command, r *jsonReader) (err error) { c.Resume, err = r.str(); return err },
}

func (c *Command) readContent(r *jsonReader, kind Kind) (err error) {
	if c.Content.Kind != "" {
		return Refuse(BadRequest, "a message has one of text, data and bin")
	}
	c.Content.Kind = kind
	c.Content.Body, err = r.body(kind)
	return err
}

func (c *Command) readFrom(r *jsonReader, name string) error {
	if c.begins {
		return Refuse(BadRequest, "%s may have only one of since, last and after", c.Verb)
	}
	c.begins = true
	return c.From.read(r, name)
}

func (c *Command) readTerm(r *jsonReader, name string) error {
	s, err := r.str()
	if err != nil {
		return err
	}
	return orNil(c.Terms.read(name, s))
}

// orNil returns r as an error. If r is nil, the error is nil too.
func orNil(r *Refusal) error {
	if r == nil {
		return nil
	}
	return r
}

func checkSay(c *Command) *Refusal {
	switch {
	case c.Content.Kind == "":
		return Refuse(BadRequest, "say needs one of text, data and bin")
	case c.Line && (c.Content.Kind != Text || c.Content.Type != ""):
		return Refuse(BadRequest, "line is for text without a type")
	}
	return nil
}

func checkHistory(c *Command) *Refusal {
	if c.From.HasSince && c.Before != 0 {
		return Refuse(BadRequest, "history may have only one of before and since")
	}
	return nil
}

func checkSignal(c *Command) *Refusal { return CheckType(c.Content.Type) }

// checkText checks an act with a text, whose name is the verb.
func checkText(c *Command) *Refusal {
	if c.Act = Act(c.Verb); c.Content.Kind == "" {
		return Refuse(BadRequest, "%s needs text", c.Act)
	}
	return c.Terms.parsed(c.Act)
}

func checkModerate(c *Command) *Refusal {
	if c.Act == "" {
		return Refuse(BadRequest, "moderate needs act; the acts are %s", listActs())
	}
	if c.Act.HasContent() {
		return Refuse(BadRequest, `%s is a command of its own: {"%[1]s":{"seq":42,"text":"…"}}`, c.Act)
	}
	if !c.Act.Known() {
		return Refuse(BadRequest, "unknown act %s; the acts are %s", clip(string(c.Act)), listActs())
	}
	if refusal := c.Terms.parsed(c.Act); refusal != nil {
		return refusal
	}
	return CheckWhy(c.Why)
}

func checkAuth(c *Command) *Refusal {
	switch {
	case c.Token == "" && c.Ticket == "":
		return Refuse(BadRequest, "auth needs a token or a ticket")
	case c.Token != "" && c.Ticket != "":
		return Refuse(BadRequest, "auth takes only one of token and ticket")
	}
	return nil
}
