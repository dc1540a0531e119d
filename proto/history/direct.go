package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// The two kinds of read requests. A direct get is cheap. Any replica answers it, so the answer may
// be outdated. A message get returns one message, and only the leader answers it.
const (
	directGet = "DIRECT.GET."
	leaderGet = "STREAM.MSG.GET."
)

const (
	attemptTime  = time.Second            // how long to wait for the next message of an answer before repeating the request
	firstBackoff = 20 * time.Millisecond  // wait between two requests; doubled each time
	maxBackoff   = 500 * time.Millisecond // upper limit of this wait
	maxAnswer    = MaxPageBytes           // the most bytes of one batch; the server stops after the message that exceeds them
)

// request is the body of both kinds of requests; see ADR-31 of NATS and the JetStream API.
type request struct {
	Seq       uint64   `json:"seq,omitempty"`
	LastBy    string   `json:"last_by_subj,omitempty"`
	NextBy    string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

func (r request) many() bool { return r.Batch > 0 || len(r.MultiLast) > 0 }

// stored is a message in the stream.
type stored struct {
	subject string
	seq     uint64
	header  nats.Header
	data    []byte
	at      time.Time // when the message was stored; zero in an answer to a direct get, whose header contains the time
}

var (
	errNone    = errors.New("no message found")             // the stream contains no such message
	errBusy    = errors.New("the stream cannot answer now") // for example, the stream has no leader
	errDamaged = errors.New("the stream holds the message and cannot read it")
)

// noMessageFound is the error code of the JetStream API that corresponds to errNone.
const noMessageFound = 10037

// source reads messages from streams over one connection. It is safe for concurrent use.
type source struct {
	nc      *nats.Conn
	api     atomic.Pointer[string] // prefix of the JetStream API
	replies replies
	led     leadership
}

// UseAPI sets the subject prefix of later requests. The default is $JS.API. An account that
// imports the read requests from the account of the log needs another prefix.
func (s *source) UseAPI(prefix string) { s.api.Store(&prefix) }

// API returns the subject prefix of requests.
func (s *source) API() string { return *s.api.Load() }

// direct sends a direct get for the log. It returns errNone only for requests for a single
// message.
func (s *source) direct(ctx context.Context, r request) ([]stored, error) {
	out, _, err := s.directOf(ctx, proto.StreamName, r)
	return out, err
}

// directOf sends a direct get for a stream. A request may ask for the last messages of several
// subjects. Then the answer omits subjects without messages, and upTo is the last stream sequence
// that the replica has. If the replica has such a message but cannot read it, it answers "Message
// Not Found", and directOf returns errDamaged.
func (s *source) directOf(ctx context.Context, stream string, r request) (out []stored, upTo uint64, err error) {
	err = s.ask(ctx, directGet+stream, r, func(msgs []*nats.Msg) error {
		for _, m := range msgs {
			switch status := m.Header.Get("Status"); {
			case status == "":
			case status == "204": // end of batch
				upTo, _ = strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64) // only some answers have this header
				continue
			case status == "404" && len(r.MultiLast) > 0 && m.Header.Get("Description") == "Message Not Found":
				return errDamaged
			case status == "404" && r.many():
				continue
			case status == "404":
				return errNone
			default:
				return fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
			}
			seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
			if err != nil {
				return fmt.Errorf("direct get: the answer has no sequence: %w", err)
			}
			out = append(out, stored{subject: m.Header.Get("Nats-Subject"), seq: seq, header: m.Header, data: m.Data})
		}
		return nil
	})
	return out, upTo, err
}

// leader asks the stream's leader for one message.
func (s *source) leader(ctx context.Context, r request) (got stored, err error) {
	err = s.ask(ctx, leaderGet+proto.StreamName, r, func(msgs []*nats.Msg) error {
		var answer struct {
			Error struct {
				Code        int    `json:"code"`
				Err         int    `json:"err_code"`
				Description string `json:"description"`
			} `json:"error"`
			Message struct {
				Subject string    `json:"subject"`
				Seq     uint64    `json:"seq"`
				Header  []byte    `json:"hdrs"`
				Data    []byte    `json:"data"`
				Time    time.Time `json:"time"`
			} `json:"message"`
		}
		if err := json.Unmarshal(msgs[0].Data, &answer); err != nil {
			return fmt.Errorf("message get: %w", err)
		}
		switch e := answer.Error; {
		case e.Code == 0:
		case e.Err == noMessageFound:
			return errNone
		case e.Code >= 500:
			return fmt.Errorf("message get: %w: %s", errBusy, e.Description)
		default:
			return fmt.Errorf("message get: %s", e.Description)
		}
		got = stored{subject: answer.Message.Subject, seq: answer.Message.Seq, data: answer.Message.Data, at: answer.Message.Time}
		if len(answer.Message.Header) == 0 {
			return nil
		}
		header, err := nats.DecodeHeadersMsg(answer.Message.Header)
		got.header = header
		return err
	})
	return got, err
}

// ask sends the request and calls take with the answer. If there is no answer, or if take returns
// errBusy, ask repeats the request until ctx ends. It must repeat the request, because a server
// that dies does not answer.
func (s *source) ask(ctx context.Context, subject string, r request, take func([]*nats.Msg) error) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("ask stream: %w", err)
	}
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		msgs, err := s.replies.ask(ctx, s.nc, s.API()+subject, body, r.many())
		if err == nil {
			if err = take(msgs); !errors.Is(err, errBusy) {
				return err
			}
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		wait := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-wait.C:
		}
	}
}

// replies distributes the messages of one subscription to the requests that they answer. A
// subscription for each request would cost each server of the cluster two more protocol
// messages. It is safe for concurrent use.
type replies struct {
	mu     sync.Mutex
	sub    *nats.Subscription // made by the first request
	prefix string
	next   uint64
	open   map[string]*reply
}

// reply collects the messages that answer one request. The channel done is closed when msgs is
// complete.
type reply struct {
	many bool
	msgs []*nats.Msg
	done chan struct{}
}

func (s *replies) ask(ctx context.Context, nc *nats.Conn, subject string, body []byte, many bool) ([]*nats.Msg, error) {
	token, r, err := s.expect(nc, many)
	if err != nil {
		return nil, fmt.Errorf("ask stream: %w", err)
	}
	defer s.forget(token)
	if err := nc.PublishRequest(subject, s.prefix+token, body); err != nil {
		return nil, fmt.Errorf("ask stream: %w", err)
	}
	timeout := time.NewTimer(attemptTime)
	defer timeout.Stop()
	for seen, waiting := 0, true; waiting; {
		select {
		case <-r.done:
			waiting = false
		case <-timeout.C:
			n := s.arrivedFor(r)
			if n == seen {
				return nil, fmt.Errorf("ask stream: no answer within %v", attemptTime)
			}
			seen = n
			timeout.Reset(attemptTime)
		case <-ctx.Done():
			return nil, fmt.Errorf("ask stream: %w", ctx.Err())
		}
	}
	if m := r.msgs[len(r.msgs)-1]; len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return nil, fmt.Errorf("ask stream: %w", nats.ErrNoResponders)
	}
	return r.msgs, nil
}

func (s *replies) expect(nc *nats.Conn, many bool) (token string, r *reply, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub == nil {
		s.prefix = nc.NewInbox() + "."
		s.open = make(map[string]*reply)
		if s.sub, err = nc.Subscribe(s.prefix+"*", s.arrived); err != nil {
			return "", nil, err
		}
	}
	s.next++
	token = strconv.FormatUint(s.next, 36)
	r = &reply{many: many, done: make(chan struct{})}
	s.open[token] = r
	return token, r, nil
}

// arrivedFor returns how many messages of the answer have arrived so far.
func (s *replies) arrivedFor(r *reply) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(r.msgs)
}

func (s *replies) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, token)
}

func (s *replies) arrived(m *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := strings.TrimPrefix(m.Subject, s.prefix)
	r := s.open[token]
	if r == nil {
		return // nobody waits for the answer any more
	}
	r.msgs = append(r.msgs, m)
	if !r.many || m.Header.Get("Status") != "" {
		delete(s.open, token)
		close(r.done)
	}
}
