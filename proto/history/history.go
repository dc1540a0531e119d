// Package history reads a room's log from the stream. It is the only code that knows
// how the log is laid out there: one subject per room, records numbered without holes,
// each pointing at the page before its own (see [proto.State]), so that any part of one
// room among a million is found without a consumer and without a scan.
package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Limits of one page.
const (
	DefaultLimit = 64               // records
	MaxLimit     = proto.MaxHistory // records
	MaxPageBytes = 1 << 20          // of payloads; a page ends before the record that passes it
	maxHeads     = 256              // rooms of one request of Heads; the server's limit is 1024
	staleRetries = 3                // of an answer that lacks records known to exist
	staleWait    = 10 * time.Millisecond
)

// Log reads the logs of all rooms over one connection. It is safe for concurrent use.
// Requests are repeated until the context ends; a context without a deadline may wait
// for as long as NATS is away.
type Log struct {
	source
	snapshots
	keys *seal.Keys

	// Damaged is called when the newest record of a room cannot be read, at most once a
	// minute; nil = nothing is called. It is set before the log is used.
	Damaged func(proto.Room)
	told    atomic.Int64 // the minute in which Damaged was called last
}

// Query asks for one page of a room's log. With Since, Last or After it reads forward
// from there; otherwise it reads the newest page, below Before if that is set.
type Query struct {
	Room     proto.Room
	Since    uint64 // records after this seq; only with HasSince
	HasSince bool
	Stream   uint64 // stream sequence of the record numbered Since, if known: nothing has to be searched
	Before   uint64 // records below this seq; 0 = no bound
	Last     int    // the newest so many
	After    time.Time
	Epoch    string    // the epoch Since was counted in; "" = not known
	At       time.Time // of the record numbered Since as the reader saw it; zero = not known
	Limit    int       // of records in the page; 0 = DefaultLimit, at most MaxLimit
	Bytes    int       // of payloads in the page, which holds one record in any case; 0 = 1 MiB, which is the most
	Reach    uint64    // the room is known to have come this far: an answer that knows less is stale
}

// Head is the newest record of a room, in short. The zero Head is a room without any.
type Head struct {
	Seq    uint64
	Epoch  string
	At     time.Time // of the record, in milliseconds; zero if not known
	Stream uint64    // stream sequence of the record; 0 = not known
	Closed bool
	Why    string // of the closing, where the closing is the newest record
	Err    error  // of Heads: the newest record is there and cannot be read, see [Unreadable]
}

// Differs reports whether h and other, heads of one seq and epoch, are two records. What
// one of them does not know is not compared.
func (h Head) Differs(other Head) bool {
	return !h.At.IsZero() && !other.At.IsZero() && !h.At.Equal(other.At) ||
		h.Stream > 0 && other.Stream > 0 && h.Stream != other.Stream
}

// New returns a log that reads over nc and opens sealed records with keys.
func New(nc *nats.Conn, keys *seal.Keys) *Log {
	l := &Log{keys: keys}
	l.nc, l.snapshots.source = nc, &l.source
	l.UseAPI(proto.DirectAPI)
	return l
}

// Last returns the newest record of the room that can be read, and whether there is any.
// It asks the stream's leader, which is more recent than a follower. Only [Log.Newest]
// is safe for an owner.
func (l *Log) Last(ctx context.Context, room proto.Room) (proto.Record, bool, error) {
	s, err := l.leader(ctx, request{LastBy: room.LogSubject()})
	if errors.Is(err, errNone) {
		// The leader gives the same answer for a room without records and for a record
		// that it cannot read. A replica tells them apart.
		return l.lastOfAny(ctx, room)
	}
	if err != nil {
		return proto.Record{}, false, fmt.Errorf("read last record: %w", err)
	}
	return l.newest(ctx, room, s)
}

// lastOfAny returns the newest record that can be read as any replica knows it.
func (l *Log) lastOfAny(ctx context.Context, room proto.Room) (proto.Record, bool, error) {
	got, _, err := l.directOf(ctx, proto.StreamName, request{MultiLast: []string{room.LogSubject()}})
	switch {
	case errors.Is(err, errDamaged):
		return l.lastIntact(ctx, room)
	case err != nil:
		return proto.Record{}, false, fmt.Errorf("read last record: %w", err)
	case len(got) == 0:
		return proto.Record{}, false, nil
	}
	return l.newest(ctx, room, got[0])
}

func (l *Log) damaged(room proto.Room) {
	if now := time.Now().Unix() / 60; l.Damaged != nil && l.told.Swap(now) != now {
		l.Damaged(room)
	}
}

// Readable returns an error if the newest record of all rooms cannot be read: it is sealed
// with a key that is not here, or a newer version wrote it. A process that cannot read the
// log says so better when it starts than to every client.
func (l *Log) Readable(ctx context.Context) error {
	s, err := l.leader(ctx, request{LastBy: proto.SubjectAnyLog})
	if errors.Is(err, errNone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read newest record: %w", err)
	}
	r, err := record(s)
	if err == nil {
		err = l.open(s, &r)
	}
	if err != nil && !errors.Is(err, errForeign) {
		return fmt.Errorf("read newest record: %w", err)
	}
	return nil
}

// newest returns s as the room's newest record or, where s is no record, the newest below.
func (l *Log) newest(ctx context.Context, room proto.Room, s stored) (proto.Record, bool, error) {
	r, err := record(s)
	if err == nil {
		err = l.open(s, &r)
	}
	if errors.Is(err, errForeign) {
		return l.lastBelow(ctx, room, s.seq)
	}
	if err != nil {
		return proto.Record{}, false, fmt.Errorf("read last record: %w", err)
	}
	return r, true, nil
}

// lastBelow reads the whole log of a room for its newest readable record, because what
// lies on top of it is not a record or is damaged.
func (l *Log) lastBelow(ctx context.Context, room proto.Room, top uint64) (last proto.Record, found bool, err error) {
	for from := uint64(1); from < top; {
		records, next, err := l.batch(ctx, room, from, MaxLimit, maxAnswer)
		if err != nil {
			return proto.Record{}, false, fmt.Errorf("read last record: %w", err)
		}
		if n := len(records); n > 0 {
			last, found = records[n-1], true
		}
		if next == from {
			break
		}
		from = next
	}
	return last, found, nil
}

// head returns the newest record as any replica knows it. It asks the leader too when q
// tells that there must be more, and before it contradicts what a client has seen.
func (l *Log) head(ctx context.Context, q Query) (proto.Record, bool, error) {
	r, found, err := l.lastOfAny(ctx, q.Room)
	if err != nil {
		return proto.Record{}, false, err
	}
	if r.Seq < q.Reach || q.contradicts(r) {
		return l.Last(ctx, q.Room)
	}
	return r, found, nil
}

// contradicts reports whether r, the newest record, shows that the log is not the one
// that q continues.
func (q Query) contradicts(r proto.Record) bool {
	return q.HasSince && q.Since > 0 &&
		(q.Since > r.Seq || q.Epoch != "" && q.Epoch != r.State.Epoch || q.Since == r.Seq && q.differs(r))
}

// differs reports whether r, numbered Since, is not the record that the reader saw.
func (q Query) differs(r proto.Record) bool {
	return headOf(r).Differs(Head{At: q.At, Stream: q.Stream})
}

// Heads returns the heads of many rooms as any replica knows them; rooms without records
// and without a snapshot are left out. Payloads are not opened, so that Why is not known.
func (l *Log) Heads(ctx context.Context, rooms []proto.Room) (map[proto.Room]Head, error) {
	heads := make(map[proto.Room]Head, len(rooms))
	for some := range slices.Chunk(rooms, maxHeads) {
		err := l.addHeads(ctx, some, heads)
		switch {
		case errors.Is(err, errDamaged):
			// The answer ends at the damaged record. Each room is asked for alone.
			for _, room := range some {
				if err := l.addHead(ctx, room, heads); err != nil {
					return nil, err
				}
			}
		case err != nil:
			return nil, fmt.Errorf("read heads: %w", err)
		}
		empty := slices.DeleteFunc(slices.Clone(some), func(room proto.Room) bool { return heads[room] != Head{} })
		if err := l.addSnapshots(ctx, empty, heads); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

// addHeads adds the heads of rooms that have records. An answer of the server ends when it
// has as many bytes as a page; what may be missing then is asked for again.
func (l *Log) addHeads(ctx context.Context, rooms []proto.Room, heads map[proto.Room]Head) error {
	subjects := make([]string, len(rooms))
	for i, room := range rooms {
		subjects[i] = room.LogSubject()
	}
	for bytes := MaxPageBytes; bytes >= MaxPageBytes && len(subjects) > 0; {
		got, _, err := l.directOf(ctx, proto.StreamName, request{MultiLast: subjects, MaxBytes: MaxPageBytes})
		if err != nil {
			return err
		}
		bytes = 0
		for _, s := range got {
			bytes += len(s.data) + 2*recordBytes
			if i := slices.Index(subjects, s.subject); i >= 0 {
				subjects = slices.Delete(subjects, i, i+1)
			}
			if r, err := record(s); err == nil {
				heads[r.Room] = headOf(r)
			} else if room, err := proto.RoomOfSubject(s.subject); err == nil {
				if err := l.addHead(ctx, room, heads); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
