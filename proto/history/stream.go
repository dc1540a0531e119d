package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// Stream reads the messages of any stream. The answer comes from any replica, which may lack the
// newest messages. A Stream is safe for concurrent use.
type Stream struct {
	source
	name string
}

// Entry is one message in a stream.
type Entry struct {
	Subject string
	Seq     uint64 // sequence in the stream
	Header  nats.Header
	Data    []byte
}

// NewStream returns a Stream that reads the stream with the given name over nc.
func NewStream(nc *nats.Conn, name string) *Stream {
	s := &Stream{name: name}
	s.nc = nc
	s.UseAPI(proto.DirectAPI)
	return s
}

// Next returns messages in order. The parameter from is the sequence of the first message. Next
// returns at most n messages, with roughly the given number of bytes. 0 bytes mean that there is no
// limit. The subject may contain wildcards.
func (s *Stream) Next(ctx context.Context, subject string, from uint64, n, bytes int) ([]Entry, error) {
	return s.list(ctx, request{Seq: from, NextBy: subject, Batch: n, MaxBytes: bytes})
}

// Newest returns the newest message of each subject that has one. It returns [ErrDamaged] if the
// replica cannot read one of them.
func (s *Stream) Newest(ctx context.Context, subjects []string) ([]Entry, error) {
	return s.list(ctx, request{MultiLast: subjects})
}

func (s *Stream) list(ctx context.Context, r request) ([]Entry, error) {
	got, _, err := s.directOf(ctx, s.name, r)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", s.name, err)
	}
	list := make([]Entry, len(got))
	for i := range got {
		list[i] = got[i].entry()
	}
	return list, nil
}

// Last returns the newest message on a subject. It returns false if there is none.
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
