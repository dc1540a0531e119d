package proto

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Request asks the owner of a room to store a message or to carry out an act. On NATS, a request
// is a message on the subject [Room.Subject]. [Request.Header] and [Request.Payload] write it,
// and [ParseRequest] reads it.
type Request struct {
	From    Identity
	Key     string  // "" = the owner cannot recognise the request if it is sent again
	Hidden  bool    // a gateway has made the key, because the sender gave none; members do not see such a key
	Content Content // content of a message, or the new content of an edit
	Sent    string  // hash of the sender's content, if a backend has replaced this content; "" = no backend has replaced it
	Line    bool    // the content is a line that a person has typed, so it may be a close word
	Act     Act     // "" = a message
	Why     string  // reason of an act
	Terms   Terms   // fields of an act
	Absent  bool    // a gateway says that the member of a kick is not in the room
	Rights  Rights  // the sender's rights in the room
}

// NATSSender is the sender's id if a NATS client names no sender in its request. It is also the id
// if the client names a sender but may not do so.
const NATSSender = "nats"

// Kind returns the name of the act. For a message it returns the kind of the content.
func (r *Request) Kind() string {
	if r.Act != "" {
		return string(r.Act)
	}
	return string(r.Content.Kind)
}

// Payload returns the payload of the request, not sealed.
func (r *Request) Payload() []byte {
	if r.Act.HasContent() {
		return r.Content.Body
	}
	return []byte(r.Why)
}

// Header returns the NATS headers of the request. A caller that seals the payload adds
// [HeaderEnc].
func (r *Request) Header() map[string][]string {
	h := make(map[string][]string, 8)
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	if !r.Line {
		set(HeaderKind, r.Kind())
	}
	set(HeaderFrom, EscapeHeader(r.From.ID))
	set(HeaderName, EscapeHeader(r.From.Name))
	if r.Hidden {
		set(HeaderOnce, r.Key)
	} else {
		set(HeaderKey, r.Key)
	}
	set(HeaderType, r.Content.Type)
	set(HeaderSent, r.Sent)
	if r.Absent {
		set(HeaderAbsent, absentMark)
	}
	h[HeaderRights] = rightsHeaders[r.Rights&AllRights]
	if r.Act != "" {
		for name, value := range r.Terms.headers(r.Act) {
			set(name, value)
		}
	}
	return h
}

// ParseRequest reads a request that any NATS client may have sent. Each header may be missing or
// forged. The payload must not be sealed. The returned request points into it. The parameter
// limit is the most bytes that a message may have.
func ParseRequest(header map[string][]string, payload []byte, limit int) (Request, *Refusal) {
	r := Request{From: Identity{ID: NATSSender}, Rights: AllRights}
	kind, once := "", ""
	for name, values := range header {
		if !strings.HasPrefix(name, "Rc-") {
			continue
		}
		if len(values) != 1 {
			return r, Refuse(BadRequest, "the header %s is given %d times; give it once", clip(name), len(values))
		}
		value, bad := values[0], (*Refusal)(nil)
		if value == "" {
			continue
		}
		switch name {
		case HeaderFrom:
			if r.From.ID, bad = unescape(name, value); bad == nil {
				bad = CheckID(r.From.ID)
			}
		case HeaderName:
			if r.From.Name, bad = unescape(name, value); bad == nil {
				bad = CheckName(r.From.Name)
			}
		case HeaderKey:
			r.Key, bad = value, CheckKey(value)
		case HeaderOnce:
			once, bad = value, CheckKey(value)
		case HeaderType:
			r.Content.Type, bad = value, CheckType(value)
		case HeaderSent:
			r.Sent, bad = value, checkToken("hash", value, 64)
		case HeaderKind:
			kind = value
		case HeaderRights:
			r.Rights, bad = parseRightsHeader(value)
		case HeaderMember:
			var member string
			if member, bad = unescape(name, value); bad == nil {
				bad = r.Terms.read("member", member)
			}
		case HeaderFor:
			bad = r.Terms.read("for", value)
		case HeaderEvery:
			bad = r.Terms.read("every", value)
		case HeaderSeq:
			bad = r.Terms.read("seq", value)
		case HeaderEpoch:
			bad = r.Terms.read("epoch", value)
		case HeaderAbsent:
			r.Absent = value == absentMark
		}
		if bad != nil {
			return r, bad
		}
	}
	if r.Key == "" {
		r.Key, r.Hidden = once, true
	}
	return r, r.read(kind, payload, limit)
}

// read stores the payload in the field that belongs to the kind.
func (r *Request) read(kind string, payload []byte, limit int) *Refusal {
	switch {
	case kind == "":
		r.Content.Kind, r.Line = Text, r.Content.Type == ""
	case Kind(kind) == Text, Kind(kind) == Data, Kind(kind) == Bin:
		r.Content.Kind = Kind(kind)
	case Act(kind).Known():
		r.Act = Act(kind)
		if refusal := r.Terms.parsed(r.Act); refusal != nil {
			return refusal
		}
		if r.Act.HasContent() {
			r.Content = Content{Kind: Text, Body: payload}
			return r.Content.check(limit)
		}
		r.Why, r.Content = string(payload), Content{}
		return CheckWhy(r.Why)
	default:
		return Refuse(BadRequest, "%s is text, data, bin or an act", HeaderKind)
	}
	r.Content.Body, r.Terms = payload, Terms{}
	return r.Content.check(limit)
}

// Check returns the refusal that [ParseRequest] would return for the same request on NATS.
func (r *Request) Check(limit int) *Refusal {
	for _, refusal := range []*Refusal{CheckID(r.From.ID), CheckName(r.From.Name)} {
		if refusal != nil {
			return refusal
		}
	}
	if r.Key != "" {
		if refusal := CheckKey(r.Key); refusal != nil {
			return refusal
		}
	}
	if r.Act != "" {
		if refusal := r.Terms.check(r.Act); refusal != nil {
			return refusal
		}
		if refusal := CheckWhy(r.Why); refusal != nil || !r.Act.HasContent() {
			return refusal
		}
	}
	if r.Content.Type != "" {
		if refusal := CheckType(r.Content.Type); refusal != nil {
			return refusal
		}
	}
	return r.Content.check(limit)
}

// check returns a refusal if the body of a message is too long or not valid.
func (c *Content) check(limit int) *Refusal {
	if refusal := CheckSize(len(c.Body), limit); refusal != nil {
		return refusal
	}
	switch c.Kind {
	case Text:
		if !utf8.Valid(c.Body) {
			return Refuse(BadRequest, "text is not valid UTF-8; send bytes as bin")
		}
	case Data:
		if err := ValidJSON(c.Body); err != nil {
			return Refuse(BadRequest, "data is %v", err)
		}
	}
	return nil
}

// CheckSize returns a refusal if the body of a message has more than limit bytes.
func CheckSize(size, limit int) *Refusal {
	if size > limit {
		return Refuse(TooLarge, "the message has %d bytes, at most %d are allowed", size, limit)
	}
	return nil
}

// maxWhy is the length of the longest reason that an act may have, in bytes.
const maxWhy = 512

// CheckWhy refuses the reason of an act if it is too long or not valid UTF-8.
func CheckWhy(why string) *Refusal {
	if len(why) > maxWhy {
		return Refuse(TooLarge, "the reason of an act has at most %d bytes, this one has %d", maxWhy, len(why))
	}
	if !utf8.ValidString(why) {
		return Refuse(BadRequest, "the reason of an act is not valid UTF-8")
	}
	return nil
}

// Covered returns the bytes from which the digest of the request is made: kind, type and
// payload, and the terms of an act. If Sent is set, it takes the place of the payload. The owner
// refuses a request with a known key and another digest; see [Digest].
func (r *Request) Covered() []byte {
	if r.Sent != "" {
		return []byte("sent\x00\x00" + r.Sent)
	}
	kind, payload := r.Kind(), r.Payload()
	b := make([]byte, 0, len(kind)+len(r.Content.Type)+len(payload)+2)
	b = append(b, kind...)
	b = append(b, 0)
	b = append(b, r.Content.Type...)
	b = append(b, 0)
	b = append(b, payload...)
	if t := &r.Terms; t.Member != "" || t.For != 0 || t.Every != 0 || t.Seq != 0 {
		b = fmt.Appendf(b, "\x00%s\x00%d\x00%d\x00%d", t.Member, t.For, t.Every, t.Seq)
	}
	return b
}

func unescape(name, value string) (string, *Refusal) {
	text, err := UnescapeHeader(value)
	if err != nil {
		return "", Refuse(BadRequest, "header %s: %v", name, err)
	}
	return text, nil
}
