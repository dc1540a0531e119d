package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Header names of JetStream.
const (
	headerExpect        = "Nats-Expected-Last-Subject-Sequence"
	headerExpectSubject = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSeq      = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// envelope builds the NATS message of a record. It can be used again for the next record, because
// publishing copies the message. It belongs to one goroutine.
type envelope struct {
	msg    nats.Msg
	values [8]string // the slices of msg.Header point into this array
	used   int
}

// write returns the NATS message of rec, without a fence. The next write overwrites the message.
func (e *envelope) write(rec *proto.Record, keys *seal.Keys) *nats.Msg {
	if e.msg.Header == nil {
		e.msg.Header = make(nats.Header, len(e.values))
	}
	clear(e.msg.Header)
	e.used = 0
	e.msg.Reply = ""
	e.msg.Subject = rec.Room.LogSubject()
	rec.Sealed = keys != nil
	header := rec.Header()
	e.put(proto.HeaderRecord, header)
	e.msg.Data = keys.Seal(rec.Room, seal.Log, header, rec.Payload)
	return &e.msg
}

// fence makes the server refuse the message unless f is the newest fence of its partition.
func (e *envelope) fence(f *Fence) {
	e.put(headerExpect, f.seq)
	e.put(headerExpectSubject, f.subject)
}

func (e *envelope) put(name, value string) {
	e.values[e.used] = value
	e.msg.Header[name] = e.values[e.used : e.used+1 : e.used+1]
	e.used++
}

// Every error of a fence or an append wraps ErrLost or ErrUnavailable.
var (
	// ErrLost says that another instance has taken the partition. Records for which the sink has
	// received no result are not in the log.
	ErrLost = errors.New("another instance has taken the partition")
	// ErrUnavailable says that the stream cannot be reached, or stores nothing now. Records for
	// which the sink has received no result may be in the log.
	ErrUnavailable = errors.New("the log cannot be written")
	errClosed      = fmt.Errorf("%w: closed", ErrUnavailable)
	// errRetry says that the server has not stored the message, because it is storing a marker. The
	// caller may send the same message again.
	errRetry = fmt.Errorf("%w: the fence is being changed", ErrUnavailable)
)

// Error codes of JetStream.
const (
	codeLost     = 10071 // wrong last sequence
	codeRetry    = 10164 // wrong last sequence, because the server is just storing another message on the fence's subject
	codeNotFound = 10037 // no message found

	codeNoCluster = 10008 // the cluster has no leader, or this server does not reach the leader
	codeNotLeader = 10009
	codeOffline   = 10118 // no server that holds the stream can be reached
)

// apiError is the error in an answer of JetStream.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// Unwrap returns the error of this package that corresponds to the code of JetStream.
func (e *apiError) Unwrap() error {
	switch e.ErrCode {
	case codeLost:
		return ErrLost
	case codeRetry:
		return errRetry
	}
	return ErrUnavailable
}

// api sends a request to the JetStream API, and decodes the answer into out. If out is nil, api
// ignores the content of the answer.
func api(ctx context.Context, nc *nats.Conn, subject string, ask, out any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	reply, err := nc.RequestWithContext(ctx, "$JS.API."+subject, body)
	if err != nil {
		return unavailable(err)
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return failed.Error
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(reply.Data, out)
}

// After asks the leader of any stream for the sequence of the first readable message after the
// sequence seq; 0 = there is none. It also returns the last sequence that the stream has given to a
// message. The stream need not have this message any more.
func After(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (next, last uint64, err error) {
	var info struct {
		State struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := api(ctx, nc, "STREAM.INFO."+stream, struct{}{}, &info); err != nil {
		return 0, 0, err
	}
	_, next, err = message(ctx, nc, stream, map[string]any{"seq": seq + 1, "next_by_subj": ">"})
	return next, info.State.Last, err
}

// message asks the stream's leader for the message that the request describes. It also returns the
// sequence of the message; 0 = there is no message.
func message(ctx context.Context, nc *nats.Conn, stream string, request map[string]any) (data []byte, seq uint64, err error) {
	var got struct {
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	err = api(ctx, nc, "STREAM.MSG.GET."+stream, request, &got)
	if refused, ok := errors.AsType[*apiError](err); ok && refused.ErrCode == codeNotFound {
		return nil, 0, nil
	}
	return got.Message.Data, got.Message.Seq, err
}

// direct asks any replica for a message of a stream. The parameter where is a stream and a subject,
// such as ROOMS.room.own.7, or only a stream. It also returns the sequence of the message; 0 =
// there is no message.
func direct(ctx context.Context, nc *nats.Conn, where string, ask []byte) (data []byte, seq uint64, err error) {
	reply, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+where, ask)
	if err != nil {
		return nil, 0, unavailable(err)
	}
	switch status := reply.Header.Get("Status"); status {
	case "":
	case "404":
		return nil, 0, nil
	default:
		return nil, 0, fmt.Errorf("%w: status %s", ErrUnavailable, status)
	}
	if seq, err = strconv.ParseUint(reply.Header.Get("Nats-Sequence"), 10, 64); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return reply.Data, seq, nil
}

// refused returns the error in an answer that is not an ack.
func refused(msg *nats.Msg) error {
	if msg.Header.Get("Status") == "503" {
		return unavailable(nats.ErrNoResponders)
	}
	var got struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &got); err != nil || got.Error == nil {
		return fmt.Errorf("%w: the answer is not an ack", ErrUnavailable)
	}
	return got.Error
}
