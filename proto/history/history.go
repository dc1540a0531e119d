// Package history reads the logs of rooms from the stream. It is the only package that knows how
// a log is laid out. Each room has a subject in the stream. The seqs of a room's records have no
// holes, and each record points to the previous page of its room (see [proto.State]). So a read
// finds its page among the logs of a million rooms without a consumer and without a scan.
//
// [Log.Read] returns a page to readers. [Log.Newest] returns the newest record to an owner. The
// requests to NATS are in direct.go. The files read.go and backward.go search for a page. The
// file damage.go reads a damaged log, snapshot.go reads the stream ROOMSTATE, and empty.go asks owners.
package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Limits for one page.
const (
	DefaultLimit = 64               // records
	MaxLimit     = proto.MaxHistory // records
	MaxPageBytes = 1 << 20          // bytes of payloads; a page ends before the record that would exceed this limit
	maxHeads     = 256              // rooms in one request for heads; the server accepts up to 1024
	staleRetries = 3                // how often Read asks again after an answer that lacks existing records
	staleWait    = 10 * time.Millisecond
)

// Log reads the logs of all rooms over one connection. It is safe for concurrent use. It repeats
// failed requests until the context ends. If the context has no deadline, a call may wait until
// NATS is back.
type Log struct {
	source
	snapshots
	keys *seal.Keys

	// Owners says that reads ask the owner for the state of a room without records. Otherwise they
	// read the room's snapshot from a replica, which may be behind. Set it before the first read.
	Owners bool

	// Damaged is called if the newest record of a room cannot be read, at most once a minute.
	// Set it before the first read. Nil means that there is nothing to call.
	Damaged func(proto.Room)
	told    atomic.Int64 // the minute in which Damaged was last called
}

// Query describes one page of a room's log. If Since, Last or After is set, the page is read
// forward from that position. Otherwise it contains the newest records. If Before is set, these
// are the newest records with a seq below Before.
type Query struct {
	Room     proto.Room
	Since    uint64 // return records with a seq above this one; used only with HasSince
	HasSince bool
	Stream   uint64 // stream sequence of the record with the seq Since, which saves a search; 0 = unknown
	Before   uint64 // return records with a seq below this one; 0 = no bound
	Last     int    // return this many of the newest records
	After    time.Time
	Epoch    string              // epoch of Since; "" = unknown
	At       time.Time           // time of the record with the seq Since, as the reader received it; zero = unknown
	Limit    int                 // the most records in the page; 0 = DefaultLimit; never more than MaxLimit
	Bytes    int                 // the most payload bytes in the page; a longer first record is returned alone; 0 = MaxPageBytes, the maximum
	Reach    uint64              // a seq that the room has reached; an answer that ends before it is outdated
	own      bool                // for this package: keep the epochs of older records, and do not apply edits
	limits   *proto.Restrictions // only with own: return stubs for deleted records
}

// Head describes the newest record of a room. The zero Head stands for a room without records.
type Head struct {
	Seq    uint64
	Epoch  string
	At     time.Time // time of the record, in milliseconds; zero = unknown
	Stream uint64    // stream sequence of the record; 0 = unknown
	Closed bool
	Why    string // the reason for the close, if the newest record is the close
	Act    uint64 // seq of the newest act in this epoch; the first record of an epoch that began with restrictions counts as an act; 0 = none

	// Limits are the bans, the mutes and the slow mode after the newest record, or after a later
	// record. Only [Log.Complete] and reads of a room without records set this field. Nil means
	// that there are none.
	Limits *proto.Restrictions

	Err error // from Heads: the newest record exists but cannot be read; see [Unreadable]
}

// Differs reports whether two heads with the same seq and epoch describe different records. It
// compares At and Stream, each only if it is set in both heads.
func (h Head) Differs(other Head) bool {
	return !h.At.IsZero() && !other.At.IsZero() && !h.At.Equal(other.At) ||
		h.Stream > 0 && other.Stream > 0 && h.Stream != other.Stream
}

// New returns a Log that reads over nc. It opens sealed records with keys.
func New(nc *nats.Conn, keys *seal.Keys) *Log {
	l := &Log{keys: keys}
	l.nc, l.snapshots.source = nc, &l.source
	l.UseAPI(proto.DirectAPI)
	return l
}

// Last returns the newest readable record of the room. It returns false if there is none. It asks
// the stream's leader, because a follower may lack the newest records. An owner must use
// [Log.Newest] instead.
func (l *Log) Last(ctx context.Context, room proto.Room) (proto.Record, bool, error) {
	s, err := l.leader(ctx, request{LastBy: room.LogSubject()})
	if errors.Is(err, errNone) {
		// The leader gives the same answer if the room has no records and if it cannot read the newest
		// record. So ask a replica with another kind of request, whose answer distinguishes the two
		// cases.
		return l.lastOfAny(ctx, room)
	}
	if err != nil {
		return proto.Record{}, false, fmt.Errorf("read last record: %w", err)
	}
	return l.newest(ctx, room, s)
}

// lastForCertain is like Last for a room that has had records. If the leader finds none, the leader
// may be a server that is stopping. So lastForCertain asks again when the leader can read the log.
func lastForCertain(ctx context.Context, l *Log, room proto.Room) (proto.Record, bool, error) {
	r, found, err := l.Last(ctx, room)
	if err != nil || found {
		return r, found, err
	}
	if err := l.confirmReadable(ctx); err != nil {
		return proto.Record{}, false, err
	}
	return l.Last(ctx, room)
}

// lastOfAny returns the newest readable record of the room, from any replica.
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

// Readable returns an error if this process cannot read the newest record of the log. The record
// may be sealed with another key or written by a newer version. A process calls Readable when it
// starts, because a process that cannot read the log would have to refuse every client.
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

// newest returns the room's newest message s as a record. If s is not a record, it returns the
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

// lastBelow reads the whole log of a room to find the newest readable record. All messages after
// that record are damaged or are not records.
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

// head returns the newest record of the room, from any replica. If q knows of a later record, or
// if the record contradicts q, it asks the stream's leader too.
func (l *Log) head(ctx context.Context, q Query) (proto.Record, bool, error) {
	r, found, err := l.lastOfAny(ctx, q.Room)
	if err != nil {
		return proto.Record{}, false, err
	}
	if r.Seq < q.Reach || q.contradicts(r) {
		r, found, err = lastForCertain(ctx, l, q.Room)
	}
	if err == nil && q.contradicts(r) {
		err = l.confirmLeader(ctx)
	}
	return r, found, err
}

// contradicts reports whether the newest record r shows that the reader's position belongs to
// another history of the room.
func (q Query) contradicts(r proto.Record) bool {
	return q.HasSince && q.Since > 0 &&
		(q.Since > r.Seq || q.Epoch != "" && q.Epoch != r.State.Epoch || q.Since == r.Seq && q.differs(r))
}

// differs reports whether the reader received another record than r with the seq Since.
func (q Query) differs(r proto.Record) bool {
	return headOf(r).Differs(Head{At: q.At, Stream: q.Stream})
}

// Heads returns the heads of many rooms, from any replica. It omits rooms without records, see
// [Empty]. It does not open payloads, so Why is empty.
func (l *Log) Heads(ctx context.Context, rooms []proto.Room) (map[proto.Room]Head, error) {
	heads := make(map[proto.Room]Head, len(rooms))
	for some := range slices.Chunk(rooms, maxHeads) {
		err := l.addHeads(ctx, some, heads)
		switch {
		case errors.Is(err, errDamaged):
			// The answer ends at a damaged record, so ask for each room separately.
			for _, room := range some {
				if err := l.addHead(ctx, room, heads); err != nil {
					return nil, err
				}
			}
		case err != nil:
			return nil, fmt.Errorf("read heads: %w", err)
		}
	}
	return heads, nil
}

// addHeads adds the heads of the rooms that have records. The NATS server ends its answer when
// the answer has the size of a page. Then addHeads asks for the remaining rooms.
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

// Rooms returns the rooms that have a log in l, each with the number of messages and acts that the
// log still contains. The NATS server lists at most 100,000 rooms.
func Rooms(ctx context.Context, l *Log) (map[proto.Room]uint64, error) {
	js, err := jetstream.NewWithAPIPrefix(l.nc, l.API())
	if err != nil {
		return nil, fmt.Errorf("list rooms: %w", err)
	}
	stream, err := js.Stream(ctx, proto.StreamName)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", proto.StreamName, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(proto.SubjectAnyLog))
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", proto.StreamName, err)
	}
	rooms := make(map[proto.Room]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		if room, err := proto.RoomOfSubject(subject); err == nil {
			rooms[room] = n
		}
	}
	return rooms, nil
}
