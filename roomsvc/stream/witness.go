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

// witness notices when the log has lost its end, that is, its newest messages. This can happen in a
// power failure if the server syncs only at intervals. It can also happen when a backup is
// restored, or when a block of the file is damaged. NATS does not report the loss.
//
// The witness remembers the newest stream sequence. After a loss, the stream continues at a lower
// sequence. For example, the witness knows sequence 900, but a new ownership marker gets 850. So
// the old messages 850 to 900 are lost. The sequence is kept in three places: in this process,
// under [proto.SubjectWitness] for all instances, and in the standalone form also in a file beside
// the log. The newest of the three counts. A witness is safe for concurrent use.
type witness struct {
	lost func(Loss)

	checking sync.Mutex // held during a check

	mu     sync.Mutex // guards the fields below
	known  proto.Witness
	stored proto.Witness // the message under SubjectWitness, as this instance last read or wrote it
}

// Loss describes the loss of the log's end.
type Loss struct {
	Created bool   // the stream was deleted and made again
	Missing uint64 // number of lost stream sequences
	Cut     uint64 // the last stream sequence that is left
}

// Recall merges w, which an earlier process has stored, into the witness of this process.
func (c *Committer) Recall(w proto.Witness) { c.witness.merge(w) }

// Witness returns the witness of this process.
func (c *Committer) Witness() proto.Witness {
	return c.witness.view()
}

// Cut returns the last stream sequence before a loss of the log's end; 0 = there was no loss. A
// room begins a new epoch if its newest record is at or before the cut.
func (f *Fence) Cut() uint64 { return f.cut }

func (w *witness) merge(other proto.Witness) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = newer(w.known, other)
}

// saw is called when the stream has acknowledged a message with the sequence seq.
func (w *witness) saw(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known.Last = max(w.known.Last, seq)
}

// newer joins two witnesses. If one of them includes more losses, newer returns that witness.
// Otherwise it returns the later sequence of the two.
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

// judge compares the sequence of a new marker with the witness. The parameter created is when the
// stream was made. judge returns the updated witness, and the loss; nil = nothing was lost.
func judge(known proto.Witness, created time.Time, marker uint64) (proto.Witness, *Loss) {
	other := !known.Created.IsZero() && !known.Created.Equal(created)
	if !other && marker > known.Last {
		known.Created, known.Last = created, marker
		return known, nil
	}
	loss := Loss{Created: other, Cut: marker - 1}
	if known.Last >= marker {
		loss.Missing = known.Last - marker + 1
	}
	return proto.Witness{Created: created, Last: marker, Cut: marker - 1, Losses: known.Losses + 1}, &loss
}

// view returns the present witness.
func (w *witness) view() proto.Witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known
}

// check judges a marker that was just acknowledged. The parameter before is the witness as it was
// before the marker was sent. The caller appends no record until check returns. If check finds a
// loss, it first stores the loss for all instances.
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
			// Another instance has noticed the same loss, and has stored it before its first
			// record.
			w.merge(stored)
			return stored.Cut, nil
		}
		if loss != nil || seq == 0 {
			_, err := writeWitness(ctx, nc, known, seq)
			if errors.Is(err, ErrLost) {
				continue // another instance has just written the witness
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

// KeepWitness stores the witness for all instances, if it has changed since the last time.
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
	if err := (sweep{proto.SubjectWitness, seq}).run(ctx, nc); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known, w.stored = newer(w.known, known), known
	return nil
}

// readWitness returns the stored witness and its sequence; 0 = no witness is stored.
func readWitness(ctx context.Context, nc *nats.Conn) (w proto.Witness, seq uint64, err error) {
	brief, cancel := context.WithTimeout(ctx, apiTime(ctx))
	defer cancel()
	data, seq, err := message(brief, nc, proto.StateStream, map[string]any{"last_by_subj": proto.SubjectWitness})
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

// apiTime returns how long to wait for an answer of the JetStream API. A cluster without a leader
// does not answer. After a third of the deadline the caller can still try something else.
func apiTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Second
	}
	return time.Until(deadline) / 3
}

// confirmWitness reads the witness from any replica and stores it again. The write succeeds only if
// no newer witness exists. The write needs a leader of the stream, but no leader of the cluster.
func confirmWitness(ctx context.Context, nc *nats.Conn) (w proto.Witness, seq uint64, err error) {
	data, seq, err := direct(ctx, nc, proto.StateStream+"."+proto.SubjectWitness, nil)
	if err != nil || seq == 0 { // a wrong 0 does no harm: the caller then writes a first witness, and this fails if a witness exists
		return w, 0, err
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return w, 0, fmt.Errorf("%w: read witness: %w", ErrUnavailable, err)
	}
	seq, err = writeWitness(ctx, nc, w, seq)
	if errors.Is(err, ErrLost) {
		err = fmt.Errorf("%w: read witness: the replica that answers is behind", ErrUnavailable)
	}
	return w, seq, err
}

// writeWitness stores w. The parameter after is the sequence of the newest message that the caller
// knows. If the subject has a newer message, writeWitness fails with [ErrLost].
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

// createdAt returns when the stream of the log was made. If the cluster has no leader, nobody can
// make a stream, so createdAt returns its last result again.
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
	var info struct {
		Created time.Time `json:"created"`
	}
	if err := api(ctx, nc, "STREAM.INFO."+proto.StreamName, struct{}{}, &info); err != nil {
		return time.Time{}, fmt.Errorf("read stream info: %w", err)
	}
	return info.Created, nil
}
