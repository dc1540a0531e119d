package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// witness remembers how far the log has come. NATS does not report a log that has lost
// its end: after a power loss with a sync interval, a restored backup or a damaged block
// the stream just continues at a lower sequence. The witness notices that, because a new
// ownership marker then gets a sequence that was given before. It is safe for concurrent
// use.
//
// Three memories are compared, and the most recent one counts: that of this process, that
// of all instances on [proto.SubjectWitness], and, in the standalone form, a file beside
// the log.
type witness struct {
	lost func(Loss)

	checking sync.Mutex // one check at a time

	mu     sync.Mutex // guards what follows
	known  proto.Witness
	stored proto.Witness // on the subject, as far as this instance knows
}

// Loss is the end that the log has lost.
type Loss struct {
	Created bool   // the stream was made again
	Missing uint64 // stream sequences
	Cut     uint64 // the last stream sequence that is left
}

// Recall adds what an earlier process knew.
func (c *Committer) Recall(w proto.Witness) { c.witness.merge(w) }

// Witness returns how far the log has come.
func (c *Committer) Witness() proto.Witness {
	return c.witness.view()
}

// Cut returns the stream sequence at or before which a room's newest record must stand
// for the room to begin a new epoch; 0 = the log has lost nothing.
func (f *Fence) Cut() uint64 { return f.cut }

func (w *witness) merge(other proto.Witness) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = newer(w.known, other)
}

// saw raises what is known by a sequence that the stream has acknowledged.
func (w *witness) saw(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known.Last = max(w.known.Last, seq)
}

// newer returns which of two memories to believe. The one that knows of more losses does,
// and otherwise the one that saw the log longer.
func newer(a, b proto.Witness) proto.Witness {
	if a.Losses != b.Losses {
		if b.Losses > a.Losses {
			return b
		}
		return a
	}
	a.Last = max(a.Last, b.Last)
	if a.Created.IsZero() {
		a.Created = b.Created
	}
	return a
}

// judge compares a new marker, in a stream made at created, with the witness. It returns the
// witness from now on, and the loss or nil.
func judge(known proto.Witness, created time.Time, marker uint64) (proto.Witness, *Loss) {
	anew := !known.Created.IsZero() && !known.Created.Equal(created)
	if !anew && marker > known.Last {
		known.Created, known.Last = created, marker
		return known, nil
	}
	loss := Loss{Created: anew, Cut: marker - 1}
	if known.Last >= marker {
		loss.Missing = known.Last - marker + 1
	}
	return proto.Witness{Created: created, Last: marker, Cut: marker - 1, Losses: known.Losses + 1}, &loss
}

// view returns what is known now.
func (w *witness) view() proto.Witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known
}

// check judges a marker that was just acknowledged, by the witness of the time before it was
// sent. Nothing is appended behind the marker until then. A loss is stored for all instances first.
func (w *witness) check(ctx context.Context, nc *nats.Conn, before proto.Witness, created time.Time, marker uint64) (cut uint64, err error) {
	w.checking.Lock()
	defer w.checking.Unlock()
	known, loss := judge(before, created, marker)
	for {
		stored, seq, err := readWitness(ctx, nc)
		if err != nil {
			return 0, err
		}
		if stored.Losses > before.Losses {
			// Another instance has noticed the loss, and has stored it before it appended anything.
			w.merge(stored)
			return stored.Cut, nil
		}
		if loss != nil || seq == 0 {
			_, err := writeWitness(ctx, nc, known, seq)
			if errors.Is(err, ErrLost) {
				continue // another instance has just written
			}
			if err != nil {
				return 0, err
			}
		}
		w.merge(known)
		if loss != nil {
			w.lost(*loss)
		}
		return known.Cut, nil
	}
}

// KeepWitness stores how far the log has come, if that has changed since the last time.
func (c *Committer) KeepWitness(ctx context.Context, nc *nats.Conn) error {
	w := &c.witness
	w.mu.Lock()
	known, same := w.known, w.known == w.stored
	w.mu.Unlock()
	if same || known.Created.IsZero() {
		return nil
	}
	stored, seq, err := readWitness(ctx, nc)
	if err != nil {
		return err
	}
	if known = newer(known, stored); known != stored {
		if seq, err = writeWitness(ctx, nc, known, seq); err != nil {
			return err
		}
	}
	if err := (sweep{proto.SubjectWitness, seq}).do(ctx, nc); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known, w.stored = newer(w.known, known), known
	return nil
}

// readWitness returns what is stored on the subject, and its sequence; 0 = nothing.
func readWitness(ctx context.Context, nc *nats.Conn) (w proto.Witness, seq uint64, err error) {
	brief, cancel := context.WithTimeout(ctx, apiTime(ctx))
	defer cancel()
	data, seq, err := lastMessage(brief, nc, proto.StateStream, proto.SubjectWitness)
	if away(err) {
		return confirmWitness(ctx, nc)
	}
	if err != nil || seq == 0 {
		return w, 0, err
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return w, seq, fmt.Errorf("%w: read witness: %w", ErrUnavailable, err)
	}
	return w, seq, nil
}

// apiTime returns how long to wait for an answer of the JetStream API. The servers give none while
// they have no leader in common, and something else must be tried in time.
func apiTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Second
	}
	return time.Until(deadline) / 3
}

// confirmWitness reads the witness from any replica, and then stores it again in its place. That
// succeeds only if no newer one exists. It needs the stream's leader, but not one of JetStream.
func confirmWitness(ctx context.Context, nc *nats.Conn) (w proto.Witness, seq uint64, err error) {
	reply, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+proto.StateStream+"."+proto.SubjectWitness, nil)
	if err != nil {
		return w, 0, unavailable(err)
	}
	switch status := reply.Header.Get("Status"); status {
	case "":
	case "404":
		return w, 0, nil // the first write of a witness fails if there is one
	default:
		return w, 0, fmt.Errorf("%w: read witness: status %s", ErrUnavailable, status)
	}
	seq, err = strconv.ParseUint(reply.Header.Get("Nats-Sequence"), 10, 64)
	if err == nil {
		err = json.Unmarshal(reply.Data, &w)
	}
	if err != nil {
		return w, 0, fmt.Errorf("%w: read witness: %w", ErrUnavailable, err)
	}
	seq, err = writeWitness(ctx, nc, w, seq)
	if errors.Is(err, ErrLost) {
		err = fmt.Errorf("%w: read witness: the replica that answers is behind", ErrUnavailable)
	}
	return w, seq, err
}

// writeWitness stores w behind the message of the sequence after. It fails with [ErrLost]
// if that is not the newest one any more.
func writeWitness(ctx context.Context, nc *nats.Conn, w proto.Witness, after uint64) (seq uint64, err error) {
	body, err := json.Marshal(w)
	if err != nil {
		return 0, fmt.Errorf("write witness: %w", err)
	}
	msg := nats.NewMsg(proto.SubjectWitness)
	msg.Data = body
	msg.Header.Set(headerExpect, strconv.FormatUint(after, 10))
	reply, err := nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return 0, fmt.Errorf("write witness: %w", unavailable(err))
	}
	if seq, err = parseStateAck(reply); err != nil {
		return 0, fmt.Errorf("write witness: %w", err)
	}
	return seq, nil
}

// createdAt returns when the stream of the log was made. While the servers have no leader in
// common, which no stream can be made without, it returns what it has returned last.
func (c *Committer) createdAt(ctx context.Context, nc *nats.Conn) (time.Time, error) {
	brief, cancel := context.WithTimeout(ctx, apiTime(ctx))
	defer cancel()
	created, err := createdAt(brief, nc)
	c.memory.Lock()
	defer c.memory.Unlock()
	if away(err) && !c.created.IsZero() {
		return c.created, nil
	}
	if err == nil {
		c.created = created
	}
	return created, err
}

func createdAt(ctx context.Context, nc *nats.Conn) (time.Time, error) {
	reply, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+proto.StreamName, nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("read stream info: %w", unavailable(err))
	}
	var info struct {
		Created time.Time `json:"created"`
		Error   *apiError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return time.Time{}, fmt.Errorf("read stream info: %w", err)
	}
	if info.Error != nil {
		return time.Time{}, fmt.Errorf("read stream info: %w", info.Error)
	}
	return info.Created, nil
}
