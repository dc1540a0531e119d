// Package history reads a room's log from the stream. It is the only code that knows
// how the log is laid out there: one subject per room, records numbered without holes,
// each pointing at the page before its own (see [proto.State]), so that any part of one
// room among a million is found without a consumer and without a scan.
package history

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Log reads the logs of all rooms over one connection. It is safe for concurrent use.
type Log struct {
	nc   *nats.Conn
	keys *seal.Keys
}

// Query asks for one page of a room's log. With Since, Last or After it reads forward
// from there; otherwise it reads the newest page, below Before if that is set.
type Query struct {
	Room     proto.Room
	Since    uint64 // records after this seq; only with HasSince
	HasSince bool
	Before   uint64 // records below this seq; 0 = no bound
	Last     int    // the newest so many
	After    time.Time
	Epoch    string // the epoch Since was counted in; "" = not known
	Limit    int    // of records in the page; 0 = 64, at most 256
	Reach    uint64 // the room is known to have come this far: an answer that knows less is stale
}

// Head is the newest record of a room, in short. The zero Head is a room without any.
type Head struct {
	Seq    uint64
	Epoch  string
	Closed bool
	Why    string // of the closing
}

// Page is a contiguous part of a room's log, oldest first.
type Page struct {
	Records []proto.Record
	Head    Head
	Gap     *proto.Gap // before the first record: what was asked for and is not there
	More    bool       // there is more in the direction of reading: newer, or for a page that ends below Before or at the head, older
}

// New returns a log that reads over nc and opens sealed records with keys.
func New(nc *nats.Conn, keys *seal.Keys) *Log { return &Log{nc: nc, keys: keys} }

// Last returns the newest record of the room and whether there is any. It asks the
// stream's leader: what it returns is the truth, not a follower's.
func (l *Log) Last(ctx context.Context, room proto.Room) (proto.Record, bool, error) {
	return proto.Record{}, false, errors.ErrUnsupported
}

// Read returns the page that q asks for.
func (l *Log) Read(ctx context.Context, q Query) (Page, error) {
	return Page{}, errors.ErrUnsupported
}
