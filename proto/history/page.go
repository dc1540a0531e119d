package history

import (
	"encoding/json"

	"roomcast/proto"
)

// Page is a contiguous part of a room's log, the oldest record first.
type Page struct {
	Records []proto.Record
	Head    Head

	// Gap announces records that are missing between Since and the first record. Nil means that
	// none are missing.
	Gap *proto.Gap

	// More reports whether there are more records: after the last record of a forward read, or
	// before the first record of a backward read.
	More bool
}

// recordBytes is roughly the memory of a record without its payload.
const recordBytes = 512

// Bytes returns roughly how much memory the page takes.
func (p *Page) Bytes() (n int) {
	for i := range p.Records {
		n += len(p.Records[i].Payload) + recordBytes
	}
	return n
}

// Answer returns the page in the form that readers of the room receive. Its events share memory
// with the records.
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
