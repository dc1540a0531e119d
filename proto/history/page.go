package history

import (
	"encoding/json"
	"strconv"

	"roomcast/proto"
)

// Page is a contiguous part of a room's log, oldest first.
type Page struct {
	Records []proto.Record
	Head    Head

	// Gap says what Since asked for and is not there; it comes before the first record.
	Gap *proto.Gap

	// More says that there is more in the direction of reading: after the last record
	// when reading forward, before the first one otherwise.
	More bool
}

// recordBytes is about what a record costs in memory beside its payload.
const recordBytes = 512

// Bytes returns about how much memory the page holds.
func (p *Page) Bytes() (n int) {
	for i := range p.Records {
		n += len(p.Records[i].Payload) + recordBytes
	}
	return n
}

// AppendJSON appends {"room":…,"events":[…],"more":…,"seq":…,"epoch":…}, with "gap" where
// the log does not hold what Since asked for, and with "closed" and "why" of a closed room.
func (p *Page) AppendJSON(b []byte, room proto.Room) []byte {
	b = append(b, `{"room":`...)
	b = appendString(b, room.String())
	b = append(b, `,"events":[`...)
	for i := range p.Records {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, p.Records[i].Payload...)
	}
	b = append(b, `],"more":`...)
	b = strconv.AppendBool(b, p.More)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, p.Head.Seq, 10)
	b = append(b, `,"epoch":`...)
	b = appendString(b, p.Head.Epoch)
	if p.Gap != nil {
		b = p.Gap.AppendExtent(append(b, `,"gap":`...))
	}
	if p.Head.Closed {
		b = append(b, `,"closed":true,"why":`...)
		b = appendString(b, p.Head.Why)
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	j, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string cannot fail
	}
	return append(b, j...)
}
