package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// Marker is the newest ownership marker of a partition: a message in the stream that names the
// owner.
type Marker struct {
	Seq   uint64 `json:"-"` // stream sequence; 0 = there is no marker
	Owner string `json:"owner"`
}

// attempts is how many reads or writes of a marker fit into the deadline. A server that has
// just lost its leader does not answer, and the owner tries again.
const attempts = 4

// attempt returns the time for one read or write of a marker.
func (c *Committer) attempt() time.Duration {
	return max(200*time.Millisecond, c.cfg.Deadline/attempts)
}

// Marker reads a partition's newest marker. If the result is outdated, a call of Fence with this
// result fails.
func (c *Committer) Marker(ctx context.Context, p int) (Marker, error) {
	l, err := c.open()
	if err != nil {
		return Marker{}, err
	}
	begun := time.Now()
	m, err := l.marker(ctx, p)
	if err != nil {
		l.attemptFailed(begun, err)
		return Marker{}, fmt.Errorf("read marker: %w", err)
	}
	return m, nil
}

// marker asks any replica, not only the stream's leader. While the cluster has no leader, the
// stream's leader can still store messages, but answers such requests only with an error (10008).
func (l *commitConn) marker(ctx context.Context, p int) (Marker, error) {
	ctx, cancel := context.WithTimeout(ctx, l.c.attempt())
	defer cancel()
	data, seq, err := direct(ctx, l.nc, proto.StreamName+"."+proto.OwnSubject(p), nil)
	if err != nil || seq == 0 {
		return Marker{}, err
	}
	m := Marker{Seq: seq}
	// A marker that cannot be parsed is valid all the same. Its owner is unknown.
	if json.Unmarshal(data, &m) != nil {
		m.Owner = ""
	}
	return m, nil
}

// Fence takes the partition for owner. It writes a marker. The parameter after is the newest marker
// that the caller knows. If a newer marker exists, Fence fails with [ErrLost]. After a success, no
// record of an older fence can reach the log any more.
func (c *Committer) Fence(ctx context.Context, p int, after Marker, owner string, sink Sink) (*Fence, error) {
	l, err := c.open()
	if err != nil {
		return nil, err
	}
	done, err := l.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	begun := time.Now()
	f, err := l.take(ctx, p, after, owner, sink)
	if err != nil {
		l.attemptFailed(begun, err)
		return nil, fmt.Errorf("take partition %d: %w", p, err)
	}
	l.works()
	return f, nil
}

// enter waits until a marker may be written. The server of a new connection may be cut off from its
// peers and still believe that it leads. Such a server accepts markers, but cannot commit them.
// Later it must remove them, and nats-server 2.15.2 removes only one or two uncommitted writes
// every two seconds. So enter admits only one marker at a time, until the stream has stored a
// message that came over this connection.
func (l *commitConn) enter(ctx context.Context) (done func(), err error) {
	if l.stored.Load() {
		return func() {}, nil
	}
	select {
	case l.first <- struct{}{}:
		return func() { <-l.first }, nil
	case <-l.broke:
		return nil, l.err
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
}

func (l *commitConn) take(ctx context.Context, p int, after Marker, owner string, sink Sink) (*Fence, error) {
	body, err := json.Marshal(Marker{Owner: owner})
	if err != nil {
		return nil, err
	}
	msg := nats.NewMsg(proto.OwnSubject(p))
	msg.Data = body
	msg.Header.Set(headerExpect, strconv.FormatUint(after.Seq, 10))
	ctx, cancel := context.WithTimeout(ctx, l.c.attempt())
	defer cancel()
	known, created, err := l.before(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := l.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return nil, unavailable(err)
	}
	seq, err := parseAck(reply)
	if err != nil {
		return nil, err
	}
	taken := time.Now()
	cut, err := l.c.witness.check(ctx, l.nc, known, created, seq)
	if err != nil {
		return nil, err
	}
	f := &Fence{Partition: p, conn: l, sink: sink, marker: seq, taken: taken, cut: cut, seq: strconv.FormatUint(seq, 10), subject: msg.Subject}
	f.floor.Store(seq)
	f.born = l.worn.wrote(seq, len(body))
	return f, l.admit(f)
}

// attemptFailed is called when a read or write of a marker, begun at the given time, has failed.
// The server may be cut off from its peers, or have no JetStream. An instance that commits no
// records notices this only here. So attemptFailed breaks the connection after two failed attempts
// in a row.
func (l *commitConn) attemptFailed(begun time.Time, err error) {
	if !away(err) {
		return
	}
	l.mu.Lock()
	if l.missing.IsZero() {
		l.missing = begun
	}
	over := time.Since(l.missing) >= 2*l.c.attempt()-l.c.attempt()/4
	l.mu.Unlock()
	if over {
		l.fail(err)
	}
}

// works is called when the stream has stored a message that came over this connection. It forgets
// earlier failed attempts.
func (l *commitConn) works() {
	l.stored.Store(true)
	l.mu.Lock()
	l.missing = time.Time{}
	l.mu.Unlock()
}

// away reports whether err means that this server cannot reach the stream now.
func away(err error) bool {
	var api *apiError
	if errors.As(err, &api) {
		return api.ErrCode == codeNoCluster || api.ErrCode == codeNotLeader || api.ErrCode == codeOffline
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, errSilent)
}
