package stream

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// pipeline publishes every record by itself and does not wait: the server answers in the
// order it was asked, since one connection brings the records to one stream on one server.
// An atomic batch would cost such a server 2.4 ms of staging.
//
// A record that is refused while a later one is stored leaves a hole in its room. The
// stream's limits are such that no record is refused for what it is (see [MaxPayload]), and
// a fence that is lost refuses all that follow. But a server whose storage is used up takes
// what comes as soon as something has aged out: the first refusal ends the line, and the
// next one commits in groups.
type pipeline struct {
	l    *line
	acks *nats.Subscription
}

func newPipeline(l *line) (*pipeline, error) {
	p := &pipeline{l: l}
	acks, err := l.nc.Subscribe(l.inbox+">", p.ack)
	if err != nil {
		return nil, fmt.Errorf("subscribe to acks: %w", err)
	}
	p.acks = acks
	// What is on its way is bounded by the windows, so this queue is too.
	return p, acks.SetPendingLimits(-1, -1)
}

func (p *pipeline) run() { <-p.l.broke }

func (p *pipeline) append(f *Fence, rec *proto.Record, n uint64) error {
	msg := f.out.write(rec, p.l.c.cfg.Keys)
	f.out.fence(f)
	msg.Reply = f.replies[n%turns]
	if err := p.l.nc.PublishMsg(msg); err != nil {
		p.l.fail(unavailable(err))
		return p.l.err
	}
	return nil
}

// turns is how many reply subjects a fence uses in turn: enough to notice that an answer is
// missing, and few enough for the server to remember where each of them leads.
const turns = 4

// ack takes the stream's answer to one record; its subject says of which fence, and whose
// turn it is.
func (p *pipeline) ack(msg *nats.Msg) {
	token := msg.Subject[len(p.l.inbox):]
	part, _, _ := strings.Cut(token, ".")
	number, err := strconv.Atoi(part)
	if err != nil || number < 0 || number >= proto.Partitions {
		return
	}
	f := p.l.fence(number)
	if f == nil || !strings.HasPrefix(token, f.token) {
		return // of a fence that was given up
	}
	seq, err := parseAck(msg)
	if err != nil {
		if p.l.refused(err) {
			p.l.fail(err)
		}
		f.fail(err)
		return
	}
	p.l.saw(seq)
	if !f.answered(token[len(f.token):], seq) {
		p.l.fail(fmt.Errorf("%w: an answer is missing", ErrUnavailable))
	}
}

// The beginnings of acks that are no errors.
var (
	ackStart      = []byte(`{"stream":"` + proto.StreamName + `"`)
	stateAckStart = []byte(`{"stream":"` + proto.StateStream + `"`)
	ackSeq        = []byte(`"seq":`)
)

// parseAck returns the stream sequence of an ack of the log, or the error it carries.
func parseAck(msg *nats.Msg) (uint64, error) { return parseAckOf(ackStart, msg) }

// parseStateAck returns the stream sequence of an ack of the stream of snapshots, or the
// error it carries.
func parseStateAck(msg *nats.Msg) (uint64, error) { return parseAckOf(stateAckStart, msg) }

func parseAckOf(start []byte, msg *nats.Msg) (uint64, error) {
	if bytes.HasPrefix(msg.Data, start) {
		if i := bytes.Index(msg.Data, ackSeq); i > 0 {
			seq := uint64(0)
			for _, c := range msg.Data[i+len(ackSeq):] {
				if c < '0' || c > '9' {
					break
				}
				seq = seq*10 + uint64(c-'0')
			}
			if seq > 0 {
				return seq, nil
			}
		}
	}
	return 0, refused(msg)
}
