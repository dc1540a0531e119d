package history

import (
	"encoding/json"

	"roomcast/proto"
)

// Page is a contiguous part of a room's log, oldest first.
type Page struct {
	Records []proto.Record
	Head    Head

	// Gap announces missing records behind Since, before the first record; nil = none.
	Gap *proto.Gap

	// More reports further records in the direction of reading: after the last record of a
	// forward read, or before the first record of a backward read.
	More bool
}

// recordBytes is the approximate memory of a record without its payload.
const recordBytes = 512

// Bytes returns the approximate memory of the page.
func (p *Page) Bytes() (n int) {
	for i := range p.Records {
		n += len(p.Records[i].Payload) + recordBytes
	}
	return n
}

// Answer returns the page as readers of the room receive it. Its events alias the records.
func (p *Page) Answer(room proto.Room) *proto.Page {
	a := &proto.Page{
		Room: room, Events: make([]json.RawMessage, len(p.Records)), More: p.More,
		Seq: p.Head.Seq, Epoch: p.Head.Epoch, Gap: p.Gap, Closed: p.Head.Closed, Why: p.Head.Why,
	}
	for i := range p.Records {
		a.Events[i] = p.Records[i].Payload
	}
	return a
}
