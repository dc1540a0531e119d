// Package history reads the logs of rooms from the stream. Only this package knows their
// layout. Each room has a subject. Its records have seqs without holes, and each points to the
// previous page (see [proto.State]). So a read finds its page among the logs of a million rooms
// without a consumer and without a scan.
//
// [Log.Read] returns a page to readers, [Log.Newest] the newest record to an owner.
// direct.go has the requests to NATS. read.go and backward.go search for a page. damage.go reads
// a damaged log, and snapshot.go reads the stream ROOMSTATE.
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
	MaxPageBytes = 1 << 20          // of payloads; a page ends before the record that exceeds it
	maxHeads     = 256              // rooms in one request of Heads; the server accepts 1024
	staleRetries = 3                // tries after an answer that lacks existing records
	staleWait    = 10 * time.Millisecond
)

// Log reads the logs of all rooms over one connection. It is safe for concurrent use. It
// repeats requests until the context ends: without a deadline a call may wait until NATS
// returns.
type Log struct {
	source
	snapshots
	keys *seal.Keys

	// The log calls Damaged when it cannot read the newest record of a room, at most once a
	// minute. Nil = no call. Set it before the first read.
	Damaged func(proto.Room)
	told    atomic.Int64 // minute of the last call of Damaged
}

// Query describes one page of a room's log. With Since, Last or After, the page is read
// forward from there. Otherwise it is the newest page, below Before if that is set.
type Query struct {
	Room     proto.Room
	Since    uint64 // records after this seq; only with HasSince
	HasSince bool
	Stream   uint64 // stream sequence of the record numbered Since, which saves a search; 0 = not known
	Before   uint64 // records below this seq; 0 = no bound
	Last     int    // this number of the newest records
	After    time.Time
	Epoch    string              // of Since; "" = not known
	At       time.Time           // of the record numbered Since, as the reader saw it; zero = not known
	Limit    int                 // records in the page; 0 = DefaultLimit, at most MaxLimit
	Bytes    int                 // payload bytes in the page, unless one record has more; 0 = MaxPageBytes, which is the limit
	Reach    uint64              // a seq that the room has reached; an answer that ends before it is outdated
	own      bool                // for this package: keep the epochs of older records, and show no edits
	limits   *proto.Restrictions // only with own: read deleted records as stubs
}

// Head describes the newest record of a room. The zero Head is that of a room without
// records.
type Head struct {
	Seq    uint64
	Epoch  string
	At     time.Time // of the record, in milliseconds; zero if not known
	Stream uint64    // stream sequence of the record; 0 = not known
	Closed bool
	Why    string // of the close, if the close is the newest record
	Act    uint64 // seq of the newest act in this epoch, or of the first record of an epoch that began with restrictions; 0 = none

	// Limits are the bans, mutes and the slow mode after the newest record or a later one.
	// Only [Log.Complete] sets them, and reads of a room without records. Nil = none.
	Limits *proto.Restrictions

	Err error // of Heads: the newest record exists and cannot be read; see [Unreadable]
}

// Differs reports whether two heads with the same seq and epoch are different records. It
// compares only the fields that both have.
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

// Last returns the newest readable record of the room, and whether there is one. It asks
// the stream's leader, which is more recent than a follower. Only [Log.Newest] is safe for
// an owner.
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

// lastOfAny returns the newest readable record that any replica has.
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

// Readable returns an error if this process cannot read the newest record of all rooms:
// another key sealed it, or a newer version wrote it. A process checks this when it starts,
// before it refuses every client.
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

// newest returns s, the room's newest message, as a record. If s is not a record, it returns the
// newest record before s.
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

// lastBelow reads the whole log of a room to find its newest readable record. The messages after
// that one are damaged or are not records.
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

// head returns the newest record of any replica. It asks the leader if q knows of a later
// record, or if the record contradicts q.
func (l *Log) head(ctx context.Context, q Query) (proto.Record, bool, error) {
	r, found, err := l.lastOfAny(ctx, q.Room)
	if err != nil {
		return proto.Record{}, false, err
	}
	if r.Seq < q.Reach || q.contradicts(r) {
		r, found, err = l.Last(ctx, q.Room)
	}
	if err == nil && q.contradicts(r) {
		err = l.confirmLeader(ctx)
	}
	return r, found, err
}

// contradicts reports whether r, the newest record, cannot belong to the log that q continues.
func (q Query) contradicts(r proto.Record) bool {
	return q.HasSince && q.Since > 0 &&
		(q.Since > r.Seq || q.Epoch != "" && q.Epoch != r.State.Epoch || q.Since == r.Seq && q.differs(r))
}

// differs reports whether the reader saw another record than r, numbered Since.
func (q Query) differs(r proto.Record) bool {
	return headOf(r).Differs(Head{At: q.At, Stream: q.Stream})
}

// Heads returns the heads of many rooms that any replica has. It leaves out rooms without
// records and without a snapshot. It does not open payloads, so Why is empty.
func (l *Log) Heads(ctx context.Context, rooms []proto.Room) (map[proto.Room]Head, error) {
	heads := make(map[proto.Room]Head, len(rooms))
	for some := range slices.Chunk(rooms, maxHeads) {
		err := l.addHeads(ctx, some, heads)
		switch {
		case errors.Is(err, errDamaged):
			// The answer ends at a damaged record. Ask for each room separately.
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

// addHeads adds the heads of rooms that have records. The server ends an answer after the bytes
// of a page; then addHeads asks for the rest.
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
