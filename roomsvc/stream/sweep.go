package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// The stream of snapshots keeps one message of each subject. NATS could do that by a limit of the
// stream, but nats-server 2.15.2 hangs when a limit removes a damaged message. So the writer of a
// message deletes the older messages of the same subject. A crash may leave some older messages.
// They cost only space. Readers take the newest message, and the next writer or the next owner
// deletes the older messages.

// sweep is a task: delete all messages of a subject that are older than the message with sequence
// seq.
type sweep struct {
	subject string
	seq     uint64 // sequence of the message that stays; 0 = the newest message that a replica knows
}

// maxSweeps is how many sweeps may wait on one connection. More are dropped.
const maxSweeps = 256

// sweepLater queues a sweep, which a goroutine of the connection then does.
func (l *commitConn) sweepLater(s sweep) {
	select {
	case l.sweeps <- s:
	default:
	}
}

func (l *commitConn) runSweeps() {
	for {
		select {
		case <-l.broke:
			return
		case s := <-l.sweeps:
			ctx, cancel := context.WithTimeout(context.Background(), l.c.attempt())
			if err := s.run(ctx, l.nc); err != nil {
				l.c.cfg.Log.Debug("delete replaced messages", "subject", s.subject, "error", err)
			}
			cancel()
		}
	}
}

// run does the task. It fails if one of the messages is damaged, because the server cannot delete a
// damaged message.
func (s sweep) run(ctx context.Context, nc *nats.Conn) error {
	if s.seq == 0 {
		newest, err := getMessage(ctx, nc, map[string]any{"last_by_subj": s.subject})
		if err != nil {
			return err
		}
		s.seq = newest
	}
	for from := uint64(1); ; {
		old, err := getMessage(ctx, nc, map[string]any{"seq": from, "next_by_subj": s.subject})
		if err != nil || old == 0 || old >= s.seq {
			return err
		}
		if err := deleteMessage(ctx, nc, proto.StateStream, old, false); err != nil {
			return err
		}
		from = old + 1
	}
}

// getMessage asks any replica for a message in the stream of snapshots, and returns its sequence,
// or 0 if there is no such message.
func getMessage(ctx context.Context, nc *nats.Conn, query map[string]any) (uint64, error) {
	ask, err := json.Marshal(query)
	if err != nil {
		return 0, err
	}
	_, seq, err := direct(ctx, nc, proto.StateStream, ask)
	return seq, err
}

// nats-server 2.15 answers with this error if the message to delete does not exist.
const (
	codeNoSequence = 10043
	noMessage      = "no message found"
)

// Erase removes a record from the log and overwrites its bytes. It succeeds if the record does
// not exist any more.
func (f *Fence) Erase(ctx context.Context, seq uint64) error {
	return Erase(ctx, f.conn.nc, proto.StreamName, seq)
}

// Erase removes a message from a stream and overwrites its bytes. It succeeds if the message does
// not exist any more.
func Erase(ctx context.Context, nc *nats.Conn, name string, seq uint64) error {
	err := deleteMessage(ctx, nc, name, seq, true)
	if api, ok := errors.AsType[*apiError](err); ok && (api.ErrCode == codeNoSequence || api.Description == noMessage) {
		return nil
	}
	return err
}

// deleteMessage deletes a message of a stream. With erase the server overwrites its bytes.
func deleteMessage(ctx context.Context, nc *nats.Conn, name string, seq uint64, erase bool) error {
	err := api(ctx, nc, "STREAM.MSG.DELETE."+name, map[string]any{"seq": seq, "no_erase": !erase}, nil)
	if err != nil {
		return fmt.Errorf("delete message %d: %w", seq, err)
	}
	return nil
}
