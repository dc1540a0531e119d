package history

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"roomcast/proto"
)

// errForeign is the error for a message on a room's log subject that is not a record. If NATS does
// not restrict publishing on this subject, any client can publish such a message.
var errForeign = errors.New("not a record")

// record parses a message of the stream as a record. It does not open a sealed payload.
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

// HeadOf returns the head of a room whose newest record is r. The payload of r must not be
// sealed.
func HeadOf(r proto.Record) Head {
	h := headOf(r)
	if r.Kind == proto.Closed {
		if e, err := proto.ParseEvent(r.Payload); err == nil {
			h.Why = e.Why
		}
	}
	return h
}

// headOf is HeadOf for a record whose payload may be sealed. It leaves Why empty.
func headOf(r proto.Record) Head {
	return Head{Seq: r.Seq, Epoch: r.State.Epoch, At: r.State.At, Stream: r.Stream, Closed: r.State.Closed, Act: r.State.Act}
}

// adopt makes r a record of the room's present epoch. After the log has lost its end, the remaining
// records are a part of the present epoch's history. But they still name an older epoch. If r is
// the first record of the older epoch, its payload contains the name of that epoch. Then adopt
// replaces that name by the name of the present epoch.
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
