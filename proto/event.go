package proto

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
)

// EventKind is the kind of an event.
type EventKind string

// Message is the kind of a message. The other kinds of stored events belong to the acts; see [Acts].
const Message EventKind = ""

// Event is a stored message or act of a room, as every member receives it.
type Event struct {
	Room    Room
	Seq     uint64 // 1, 2, 3, ... without holes in an epoch
	At      time.Time
	Epoch   string // set only in the first event of an epoch
	Kind    EventKind
	From    Identity
	Key     string  // the sender's key; "" = the sender gave none
	Content Content // content of a message, or the new content of an edit
	Why     string  // reason of an act

	// Fields of an act; its kind decides which are set. See [Terms].
	Member string
	Until  time.Time // end of a ban or mute; zero = it lasts until it is undone
	Every  time.Duration
	Of     uint64 // seq of the message that was deleted or edited
	Author Author // author of the message that was deleted

	Changed time.Time // time of the newest edit of this message; zero = it was not edited
	Removed bool      // the message was deleted, so only Room, Seq, At and From are known; At may be zero (from servers before version 0.2.0)
}

// Author is the sender, key and time of a deleted message. With them the owner still recognises
// the message if it is sent again.
type Author struct {
	ID  string
	Key string    // "" = the sender gave none; then [Record.Once] may have the key of a gateway
	At  time.Time // time of the message
}

// timeLayout is the form of all times that Roomcast sends: RFC 3339 in UTC with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// AppendTime appends t in the form of timeLayout, without quotes. [time.Time.AppendFormat] would
// be slower, because it interprets a layout. The speed matters, because every event and every
// ack contains a time.
func AppendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, timeLayout)
	}
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond()/1e6, 3)
	return append(b, 'Z')
}

// appendDigits appends the last n decimal digits of v.
func appendDigits(b []byte, v, n int) []byte {
	at := len(b) + n
	b = append(b, "0000"[:n]...)
	for i := 1; i <= n; i++ {
		b[at-i] = byte('0' + v%10)
		v /= 10
	}
	return b
}

// AppendJSON appends the event in the form that JSON clients receive and that the log stores.
func (e *Event) AppendJSON(b []byte) []byte {
	b, _ = e.AppendRecord(b)
	return b
}

// AppendRecord appends the same bytes as [Event.AppendJSON]. It also returns where the content
// is in b.
func (e *Event) AppendRecord(b []byte) ([]byte, Span) {
	span := Span{Form: SpanNone}
	b = appendString(append(b, `{"room":`...), e.Room.String())
	b = strconv.AppendUint(append(b, `,"seq":`...), e.Seq, 10)
	if !e.Removed || !e.At.IsZero() {
		b = append(AppendTime(append(b, `,"at":"`...), e.At), '"')
	}
	if e.Epoch != "" {
		b = appendString(append(b, `,"epoch":`...), e.Epoch)
	}
	if e.Kind != Message {
		b = appendString(append(b, `,"kind":`...), string(e.Kind))
	}
	b = e.From.AppendJSON(append(b, `,"from":`...))
	if e.Key != "" {
		b = appendString(append(b, `,"key":`...), e.Key)
	}
	if e.Content.Type != "" {
		b = appendString(append(b, `,"type":`...), e.Content.Type)
	}
	switch e.Content.Kind {
	case Text:
		b = append(b, `,"text":`...)
		at := len(b) + 1 // after the quote
		b = appendString(b, string(e.Content.Body))
		span = Span{Form: SpanPlain, At: at, Len: len(b) - 1 - at}
		if span.Len != len(e.Content.Body) {
			span.Form = SpanEscaped
		}
	case Data:
		b = append(b, `,"data":`...)
		span = Span{Form: SpanPlain, At: len(b), Len: len(e.Content.Body)}
		b = append(b, e.Content.Body...)
	case Bin:
		b = append(b, `,"bin":"`...)
		at := len(b)
		b = base64.StdEncoding.AppendEncode(b, e.Content.Body)
		span = Span{Form: SpanBase64, At: at, Len: len(b) - at}
		b = append(b, '"')
	}
	if e.Kind != Message {
		b = e.appendTerms(b)
	}
	if !e.Changed.IsZero() {
		b = append(AppendTime(append(b, `,"edited":"`...), e.Changed), '"')
	}
	if e.Why != "" {
		b = appendString(append(b, `,"why":`...), e.Why)
	}
	if e.Removed {
		b = append(b, `,"deleted":true`...)
	}
	if e.Kind != Message {
		span = Span{Form: SpanNone}
	}
	return append(b, '}'), span
}

// appendTerms appends all fields of an act except its reason.
func (e *Event) appendTerms(b []byte) []byte {
	if e.Member != "" {
		b = appendString(append(b, `,"member":`...), e.Member)
	}
	if !e.Until.IsZero() {
		b = append(AppendTime(append(b, `,"until":"`...), e.Until), '"')
	}
	if e.Of != 0 {
		b = strconv.AppendUint(append(b, `,"of":`...), e.Of, 10)
	}
	if a := &e.Author; a.ID != "" {
		b = appendString(append(b, `,"author":{"id":`...), a.ID)
		if a.Key != "" {
			b = appendString(append(b, `,"key":`...), a.Key)
		}
		b = append(AppendTime(append(b, `,"at":"`...), a.At), `"}`...)
	}
	if e.Kind == Slowed {
		b = appendString(append(b, `,"every":`...), formatSpan(e.Every))
	}
	return b
}

// Text returns the content in the form for text sessions, and whether it is binary. It returns
// an error if the payload does not have the form that [Event.AppendRecord] writes.
func (s Span) Text(payload []byte) (body []byte, binary bool, err error) {
	raw, ok := s.Content(payload)
	if !ok {
		return nil, false, fmt.Errorf("read content: it lies outside of the payload")
	}
	switch s.Form {
	case SpanPlain:
		return raw, false, nil
	case SpanBase64:
		body, err = base64.StdEncoding.AppendDecode(nil, raw)
		if err != nil {
			return nil, true, fmt.Errorf("read content: %w", err)
		}
		return body, true, nil
	case SpanEscaped:
		if s.At == 0 {
			return nil, false, fmt.Errorf("read content: no string begins at byte 0")
		}
		r := jsonReader{b: payload, i: s.At - 1}
		text, err := r.str()
		if err != nil {
			return nil, false, fmt.Errorf("read content: %w", err)
		}
		return []byte(text), false, nil
	}
	return nil, false, fmt.Errorf("read content: the record is no message")
}

// ParseEvent reads an event that [Event.AppendJSON] has written. It ignores unknown names, so
// that an older gateway can deliver the events of a newer roomsvc. If the content is data, its
// body points into b.
func ParseEvent(b []byte) (Event, error) {
	var e Event
	r := jsonReader{b: b}
	err := r.object(func(name string) (err error) {
		var s string
		switch name {
		case "room":
			if s, err = r.str(); err == nil {
				e.Room, err = ParseRoom(s)
			}
		case "seq":
			e.Seq, err = r.integer()
		case "at":
			e.At, err = r.time()
		case "epoch":
			e.Epoch, err = r.str()
		case "kind":
			s, err = r.str()
			e.Kind = EventKind(s)
		case "key":
			e.Key, err = r.str()
		case "from":
			e.From, err = r.identity()
		case "type":
			e.Content.Type, err = r.str()
		case "text", "data", "bin":
			e.Content.Kind = Kind(name)
			e.Content.Body, err = r.body(e.Content.Kind)
		case "why":
			e.Why, err = r.str()
		case "member":
			e.Member, err = r.str()
		case "of":
			e.Of, err = r.integer()
		case "author":
			err = e.Author.read(&r)
		case "deleted":
			e.Removed, err = r.boolean()
		case "edited":
			e.Changed, err = r.time()
		case "until":
			e.Until, err = r.time()
		case "every":
			if s, err = r.str(); err == nil {
				e.Every, err = time.ParseDuration(s)
			}
		default:
			_, err = r.value()
		}
		return err
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && (e.Room.IsZero() || e.Seq == 0) {
		err = fmt.Errorf("it has no room or no seq")
	}
	if err != nil {
		return e, fmt.Errorf("parse event: %w", err)
	}
	return e, nil
}

func (a *Author) read(r *jsonReader) error {
	return r.object(func(name string) (err error) {
		switch name {
		case "id":
			a.ID, err = r.str()
		case "key":
			a.Key, err = r.str()
		case "at":
			a.At, err = r.time()
		default:
			_, err = r.value()
		}
		return err
	})
}

// AppendStub appends {"room":…,"seq":…,"at":…,"from":{"id":…},"deleted":true}. Readers receive
// this in place of a deleted record. The caller must set the time.
func (s Stub) AppendStub(b []byte, room Room, seq uint64) []byte {
	e := Event{Room: room, Seq: seq, At: time.UnixMilli(s.At), From: Identity{ID: s.Author}, Removed: true}
	return e.AppendJSON(b)
}

func (r *jsonReader) identity() (w Identity, err error) {
	err = r.object(func(name string) (err error) {
		switch name {
		case "id":
			w.ID, err = r.str()
		case "name":
			w.Name, err = r.str()
		default:
			_, err = r.value()
		}
		return err
	})
	return w, err
}
