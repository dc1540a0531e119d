package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// Stream reads the stored messages of any stream. Any replica answers, so the newest messages may
// be missing. It is safe for concurrent use.
type Stream struct {
	source
	name string
}

// Entry is one message of a stream.
type Entry struct {
	Subject string
	Seq     uint64 // in the stream
	Header  nats.Header
	Data    []byte
}

// NewStream returns a reader over nc.
func NewStream(nc *nats.Conn, name string) *Stream {
	s := &Stream{name: name}
	s.nc = nc
	s.UseAPI(proto.DirectAPI)
	return s
}

// Next returns messages from a sequence on, in their order: at most n of them, and about the given
// number of bytes; 0 = no limit. Subject may have wildcards.
func (s *Stream) Next(ctx context.Context, subject string, from uint64, n, bytes int) ([]Entry, error) {
	got, _, err := s.directOf(ctx, s.name, request{Seq: from, NextBy: subject, Batch: n, MaxBytes: bytes})
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", s.name, err)
	}
	list := make([]Entry, len(got))
	for i := range got {
		list[i] = got[i].entry()
	}
	return list, nil
}

// Last returns the newest message of a subject, and whether there is one.
func (s *Stream) Last(ctx context.Context, subject string) (Entry, bool, error) {
	got, _, err := s.directOf(ctx, s.name, request{LastBy: subject})
	if errors.Is(err, errNone) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("read stream %s: %w", s.name, err)
	}
	return got[0].entry(), true, nil
}

func (s *stored) entry() Entry {
	return Entry{Subject: s.subject, Seq: s.seq, Header: s.header, Data: s.data}
}
