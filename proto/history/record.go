package history

import (
	"errors"
	"fmt"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// errForeign marks a message under a room's log subject that is no record. Only owners
// may publish there, but where nobody has set permissions anybody can.
var errForeign = errors.New("not a record")

// record reads what the stream holds as a record, without opening it.
func record(s stored) (proto.Record, error) {
	r, err := proto.ParseRecord(s.subject, s.header, s.data)
	if errors.Is(err, proto.ErrNewerSchema) {
		return r, fmt.Errorf("stream sequence %d: %w", s.seq, err)
	}
	if err != nil {
		return r, fmt.Errorf("stream sequence %d: %w: %w", s.seq, errForeign, err)
	}
	r.Stream = s.seq
	return r, nil
}

// open makes the payload of a sealed record plain.
func (l *Log) open(s stored, r *proto.Record) error {
	if s.header.Get(proto.HeaderEnc) == "" {
		return nil
	}
	plain, err := l.keys.Open(r.Room, seal.Log, s.data)
	if err != nil {
		return fmt.Errorf("stream sequence %d: %w", s.seq, err)
	}
	r.Payload = plain
	return nil
}

// HeadOf returns the head that a room has with r, opened, as its newest record.
func HeadOf(r proto.Record) Head {
	h := Head{Seq: r.Seq, Epoch: r.State.Epoch, Closed: r.State.Closed}
	if r.Kind == proto.Closed {
		if e, err := proto.ParseEvent(r.Payload); err == nil {
			h.Why = e.Why
		}
	}
	return h
}
