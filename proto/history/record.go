package history

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"roomcast/proto"
)

// errForeign marks a message on a room's log subject that is not a record. Without permissions in
// NATS, any client can publish there.
var errForeign = errors.New("not a record")

// record parses a message of the stream as a record. It does not open the payload.
func record(s stored) (proto.Record, error) {
	r, err := proto.ParseRecord(s.subject, s.header, s.data)
	if errors.Is(err, proto.ErrNewerSchema) {
		return r, fmt.Errorf("stream sequence %d: %w", s.seq, err)
	}
	if err != nil {
		return r, fmt.Errorf("stream sequence %d: %w: %w", s.seq, errForeign, err)
	}
	r.Stream, r.Stored = s.seq, s.time()
	return r, nil
}

// open opens the payload of a sealed record.
func (l *Log) open(s stored, r *proto.Record) error {
	if err := l.keys.OpenRecord(r, s.header.Get(proto.HeaderRecord)); err != nil {
		return fmt.Errorf("stream sequence %d: %w", s.seq, err)
	}
	return nil
}

// HeadOf returns the head of a room whose newest record is r. The payload of r is open.
func HeadOf(r proto.Record) Head {
	h := headOf(r)
	if r.Kind == proto.Closed {
		if e, err := proto.ParseEvent(r.Payload); err == nil {
			h.Why = e.Why
		}
	}
	return h
}

// headOf is HeadOf for a record that may be sealed. Why is empty.
func headOf(r proto.Record) Head {
	return Head{Seq: r.Seq, Epoch: r.State.Epoch, At: r.State.At, Stream: r.Stream, Closed: r.State.Closed, Act: r.State.Act}
}

// adopt makes r a record of the room's current epoch. After a loss of the log's end, the remaining
// records have an older epoch, but belong to the history of the current one. The first event of
// the older epoch contains the name of that epoch, and adopt replaces it.
func adopt(r *proto.Record, epoch string) {
	if r.State.Epoch == epoch {
		return
	}
	old := []byte(`,"epoch":"` + r.State.Epoch + `"`)
	at := bytes.Index(r.Payload, old)
	if from := bytes.Index(r.Payload, []byte(`,"from":`)); at >= 0 && at < from {
		r.Payload = slices.Concat(r.Payload[:at], []byte(`,"epoch":"`+epoch+`"`), r.Payload[at+len(old):])
		r.Text.At += len(epoch) - len(r.State.Epoch)
	}
	r.State.Epoch = epoch
}
