package proto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// HeaderRecord is the only header of a record in the log. [Record.Header] describes its value.
const HeaderRecord = "Rc"

// SchemaVersion is the version of the format of records and of the stream's metadata.
const SchemaVersion = 2

// PageSize is the number of records on a page. Records with the same (seq-1)/PageSize are on the
// same page. For example, record 70 is on the page of the records 65 to 128. Each record contains a
// pointer to its page and a pointer to the previous page.
const PageSize = 64

// State is the state of a room after a record. Each record contains it. So a new owner of the
// room needs to read only one record.
type State struct {
	Epoch  string    // made of letters and digits; names one unbroken history of the room
	At     time.Time // time of the record, in milliseconds; never before the time of the previous record
	Closed bool
	Page   uint64 // stream sequence from which a read finds the previous page; 0 = there is none
	Start  uint64 // stream sequence from which a read finds the page of this record
	Act    uint64 // seq of the newest act in this epoch; 0 = none
}

// Span says where the content of a message is in the payload of its record. With it, a gateway
// can serve text sessions without parsing JSON.
type Span struct {
	Form byte // one of the Span constants
	At   int  // offset in bytes, in the opened payload
	Len  int  // length in bytes
}

// The values of Span.Form, which say how the content is encoded.
const (
	SpanNone    byte = '-' // the record is not a message
	SpanPlain   byte = 't' // the bytes are the content: text without escapes, or data
	SpanEscaped byte = 'e' // a JSON string with escapes
	SpanBase64  byte = 'b' // the content in base64, which text sessions receive as binary
)

// Digest is a hash of a request's content; see [Request.Covered]. Two requests with the same key
// but different digests are different requests.
type Digest [8]byte

// Record is one entry of a room's log. Its payload is the event in the form that JSON clients
// receive.
type Record struct {
	Room    Room
	Seq     uint64
	Kind    EventKind
	From    string // the sender's id
	Key     string // the sender's key; "" = the owner cannot recognise the message if it is sent again
	Digest  Digest // digest of the content for which Key was given
	Stamp   string // the time before a message in text sessions
	Once    string // of kind deleted: the key of the deleted message, if members do not see this key; it takes the place of Stamp
	State   State
	Text    Span
	Sealed  bool      // the payload is sealed, on NATS and on disk
	Stream  uint64    // stream sequence; 0 = unknown
	Stored  time.Time // when the stream stored the record, by the clock of the NATS server; zero = unknown
	Payload []byte
}

// Header returns the value of [HeaderRecord]. It consists of fields, with one space between
// them.
//
//	2 58 mf3k2a 1764234787123 os 1200 1340 0 t61,5 - ann 8c7dd922ad47494f3f9c 2026-11-22 18:53:07
//	|  |    |        |        |    |    |  |   |   |  |          |             stamp, to the end; or once= and Once
//	|  |    |        |        |    |    |  |   |   |  |          digest (16 hex digits) and key; - = no key
//	|  |    |        |        |    |    |  |   |   |  sender's id, see [EscapeHeader]
//	|  |    |        |        |    |    |  |   |   kind; - = message
//	|  |    |        |        |    |    |  |   form, offset and length of the content, see [Span]
//	|  |    |        |        |    |    |  newest act
//	|  |    |        |        |    page before, and start of this page
//	|  |    |        |        o(pen) or c(losed), then s if the payload is sealed
//	|  |    |        milliseconds since 1970
//	|  |    epoch
//	|  seq
//	schema version
func (r *Record) Header() string {
	b := make([]byte, 0, 160)
	b = append(b, '0'+SchemaVersion, ' ')
	b = strconv.AppendUint(b, r.Seq, 10)
	b = append(b, ' ')
	b = append(b, r.State.Epoch...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.State.At.UnixMilli(), 10)
	b = append(b, ' ')
	if r.State.Closed {
		b = append(b, 'c')
	} else {
		b = append(b, 'o')
	}
	if r.Sealed {
		b = append(b, 's')
	}
	b = append(b, ' ')
	for _, n := range [...]uint64{r.State.Page, r.State.Start, r.State.Act} {
		b = strconv.AppendUint(b, n, 10)
		b = append(b, ' ')
	}
	if r.Text.Form == SpanNone || r.Text.Form == 0 {
		b = append(b, SpanNone)
	} else {
		b = append(b, r.Text.Form)
		b = strconv.AppendInt(b, int64(r.Text.At), 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, int64(r.Text.Len), 10)
	}
	b = append(b, ' ')
	if r.Kind == Message {
		b = append(b, '-')
	} else {
		b = append(b, r.Kind...)
	}
	b = append(b, ' ')
	b = AppendEscaped(b, r.From)
	b = append(b, ' ')
	if r.Key == "" {
		b = append(b, '-')
	} else {
		b = hex.AppendEncode(b, r.Digest[:])
		b = append(b, r.Key...)
	}
	b = append(b, ' ')
	if r.Once != "" {
		return string(append(append(b, onceMark...), r.Once...))
	}
	return string(append(b, r.Stamp...))
}

// onceMark begins the last field of a header that has [Record.Once]. Programs of version 0.1.0
// take the field for a stamp, and do not use the stamp of an act.
const onceMark = "once="

// HidesKey reports whether the record has a key that a gateway has made. Members do not see such
// a key. The payload must not be sealed.
func (r *Record) HidesKey() bool {
	if r.Key == "" {
		return false
	}
	e, err := ParseEvent(r.Payload)
	return err != nil || e.Key == ""
}

// Header is the part of a nats.Header that [ParseRecord] uses.
type Header interface{ Get(name string) string }

// ErrNewerSchema is the error for a record or a snapshot that a newer version has written.
var ErrNewerSchema = errors.New("written by a newer version of roomcast; upgrade this one")

// ParseRecord reads a record's header. The subject is room.log.<p>.<g>, or room.out.<p>.<g> for a
// republished copy. ParseRecord does not open a sealed payload; that is the task of package seal.
func ParseRecord(subject string, h Header, payload []byte) (Record, error) {
	room, err := RoomOfSubject(subject)
	if err != nil {
		return Record{}, fmt.Errorf("parse record: %w", err)
	}
	r := Record{Room: room, Payload: payload}
	if err := r.parse(h.Get(HeaderRecord)); err != nil {
		return Record{}, fmt.Errorf("parse record: %w", err)
	}
	return r, nil
}

// parse reads the fields that [Record.Header] has written.
func (r *Record) parse(value string) (err error) {
	f := fields{rest: value}
	version, err := strconv.Atoi(f.next())
	switch {
	case err != nil || version < SchemaVersion:
		return fmt.Errorf("header %s is not that of a record", clip(value))
	case version > SchemaVersion:
		return ErrNewerSchema
	}
	r.Seq = f.uint()
	r.State.Epoch = f.next()
	r.State.At = time.UnixMilli(int64(f.uint())).UTC()
	state := f.next()
	r.State.Page, r.State.Start, r.State.Act = f.uint(), f.uint(), f.uint()
	text, kind, from, key := f.next(), f.next(), f.next(), f.next()
	r.Stamp = f.rest
	if f.err != nil {
		return fmt.Errorf("header %s: %w", clip(value), f.err)
	}
	switch state {
	case "o", "os", "c", "cs":
		r.State.Closed, r.Sealed = state[0] == 'c', len(state) == 2
	default:
		return fmt.Errorf("header %s: %s is not a state", clip(value), clip(state))
	}
	if r.Seq == 0 || r.State.Epoch == "" {
		return fmt.Errorf("header %s has no seq or no epoch", clip(value))
	}
	if r.Text, err = parseSpan(text, r.Sealed, len(r.Payload)); err != nil {
		return fmt.Errorf("header %s: %w", clip(value), err)
	}
	if kind != "-" {
		r.Kind = EventKind(kind)
	}
	if once, found := strings.CutPrefix(r.Stamp, onceMark); found && r.Kind == Deleted {
		r.Stamp, r.Once = "", once
	}
	if r.From, err = UnescapeHeader(from); err != nil {
		return fmt.Errorf("header %s: %w", clip(value), err)
	}
	if key != "-" {
		const digits = 2 * len(Digest{})
		if len(key) <= digits {
			return fmt.Errorf("header %s has a key without a digest", clip(value))
		}
		if _, err := hex.Decode(r.Digest[:], []byte(key[:digits])); err != nil {
			return fmt.Errorf("header %s: %w", clip(value), err)
		}
		r.Key = key[digits:]
	}
	return nil
}

// parseSpan reads a span. If the payload is not sealed, it checks that the span is inside the
// payload. Package seal makes this check when it opens a sealed payload.
func parseSpan(s string, sealed bool, size int) (Span, error) {
	if s == "-" {
		return Span{Form: SpanNone}, nil
	}
	at, length, ok := strings.Cut(s[min(1, len(s)):], ",")
	var span Span
	var errAt, errLen error
	span.At, errAt = strconv.Atoi(at)
	span.Len, errLen = strconv.Atoi(length)
	if !ok || errAt != nil || errLen != nil || !strings.Contains("teb", s[:1]) {
		return Span{}, fmt.Errorf("%s is not a span", clip(s))
	}
	span.Form = s[0]
	if !sealed && !span.fits(size) {
		return Span{}, fmt.Errorf("%s lies outside of the payload", clip(s))
	}
	return span, nil
}

func (s Span) fits(size int) bool {
	return s.At >= 0 && s.Len >= 0 && s.At <= size && s.Len <= size-s.At
}

// Content returns the bytes of the span in an open payload. It returns false if the span is not
// inside the payload.
func (s Span) Content(payload []byte) ([]byte, bool) {
	if !s.fits(len(payload)) {
		return nil, false
	}
	return payload[s.At : s.At+s.Len], true
}

// fields splits the value of a header at its spaces.
type fields struct {
	rest string
	err  error
}

func (f *fields) next() string {
	field, rest, ok := strings.Cut(f.rest, " ")
	if !ok && f.err == nil {
		f.err = errors.New("it ends early")
	}
	f.rest = rest
	return field
}

func (f *fields) uint() uint64 {
	n, err := strconv.ParseUint(f.next(), 10, 63)
	if err != nil && f.err == nil {
		f.err = err
	}
	return n
}
