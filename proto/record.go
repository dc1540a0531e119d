package proto

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Header names of what travels to roomsvc on room.<g>. All are optional: a payload
// without any is a text message from whoever holds the NATS connection.
const (
	HeaderKind = "Rc-Kind" // text, data, bin, or an act; on records the event's kind
	HeaderFrom = "Rc-From" // the sender's id
	HeaderName = "Rc-Name" // the sender's name
	HeaderKey  = "Rc-Key"  // the sender's key for this message
	HeaderType = "Rc-Type" // of an application event
	HeaderEnc  = "Rc-Enc"  // the payload is sealed; the value is the envelope's version
)

// Header names of records, beside From, Key, Kind and Enc.
const (
	HeaderSeq   = "Rc-Seq"   // the event's seq
	HeaderStamp = "Rc-Stamp" // the time text for text sessions
	HeaderState = "Rc-State" // what an owner needs to go on from this record; see State
)

// SchemaVersion is the version of records and of the stream's metadata.
const SchemaVersion = 1

// PageSize is the number of seqs that share one page: records with equal
// (seq-1)/PageSize. A record points at the page before its own.
const PageSize = 64

// State is a room's state after a record, carried by the record itself, so that an
// owner that takes a room over reads one record and goes on.
type State struct {
	Epoch  string    // of [a-z0-9]; made when the room's numbering begins
	At     time.Time // of the record, in milliseconds; the next one is not before it
	Closed bool
	Page   uint64 // stream sequence at or before the first record of the page before; 0 = none
	Start  uint64 // stream sequence at or before the first record of this record's page
}

// String returns the header's value: version, epoch, o(pen) or c(losed), milliseconds
// since 1970, page, start.
func (s State) String() string {
	open := "o"
	if s.Closed {
		open = "c"
	}
	b := make([]byte, 0, 64)
	b = append(b, '1', ' ')
	b = append(b, s.Epoch...)
	b = append(b, ' ')
	b = append(b, open...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, s.At.UnixMilli(), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, s.Page, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, s.Start, 10)
	return string(b)
}

// ErrNewerSchema is returned for what a newer version wrote.
var ErrNewerSchema = errors.New("written by a newer version of roomcast; upgrade this one")

// ParseState reads what [State.String] wrote.
func ParseState(v string) (State, error) {
	f := strings.Split(v, " ")
	version, err := strconv.Atoi(f[0])
	if err == nil && version > SchemaVersion {
		return State{}, ErrNewerSchema
	}
	if err != nil || len(f) < 6 || (f[2] != "o" && f[2] != "c") || f[1] == "" {
		return State{}, fmt.Errorf("parse state %s: not a room state", clip(v))
	}
	ms, err := strconv.ParseInt(f[3], 10, 64)
	if err != nil {
		return State{}, fmt.Errorf("parse state %s: %w", clip(v), err)
	}
	page, err := strconv.ParseUint(f[4], 10, 64)
	if err != nil {
		return State{}, fmt.Errorf("parse state %s: %w", clip(v), err)
	}
	start, err := strconv.ParseUint(f[5], 10, 64)
	if err != nil {
		return State{}, fmt.Errorf("parse state %s: %w", clip(v), err)
	}
	return State{Epoch: f[1], At: time.UnixMilli(ms).UTC(), Closed: f[2] == "c", Page: page, Start: start}, nil
}

// Header is how records read message headers; nats.Header fits.
type Header interface{ Get(name string) string }

// Record is one entry of a room's log. Payload is the event as JSON clients receive
// it, opened if it was sealed.
type Record struct {
	Room    Room
	Seq     uint64
	Kind    EventKind
	From    string // the sender's id
	Key     string // the sender's key; "" if none
	Stamp   string
	State   State
	Stream  uint64 // stream sequence; 0 while unknown
	Payload []byte
}

// ParseRecord reads a record's headers; subject is its log or republished subject.
// Payload is taken as it is, for opening is not this package's business.
func ParseRecord(subject string, h Header, payload []byte) (Record, error) {
	room, err := RoomOfSubject(subject)
	if err != nil {
		return Record{}, fmt.Errorf("parse record: %w", err)
	}
	seq, err := strconv.ParseUint(h.Get(HeaderSeq), 10, 64)
	if err != nil || seq == 0 {
		return Record{}, fmt.Errorf("parse record: seq %s is none", clip(h.Get(HeaderSeq)))
	}
	state, err := ParseState(h.Get(HeaderState))
	if err != nil {
		return Record{}, fmt.Errorf("parse record: %w", err)
	}
	return Record{
		Room: room, Seq: seq, Kind: EventKind(h.Get(HeaderKind)),
		From: h.Get(HeaderFrom), Key: h.Get(HeaderKey), Stamp: h.Get(HeaderStamp),
		State: state, Payload: payload,
	}, nil
}

// EachHeader calls set for every header of the record that has a value.
func (r *Record) EachHeader(set func(name, value string)) {
	set(HeaderSeq, strconv.FormatUint(r.Seq, 10))
	set(HeaderState, r.State.String())
	set(HeaderStamp, r.Stamp)
	if r.Kind != Message {
		set(HeaderKind, string(r.Kind))
	}
	if r.From != "" {
		set(HeaderFrom, r.From)
	}
	if r.Key != "" {
		set(HeaderKey, r.Key)
	}
}
