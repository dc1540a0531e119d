package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/seal"
	"roomcast/roomsvc/webhook"
)

// maxHole is how many stream sequences in a row may be missing because their events were erased.
// The poster looks for the stubs of these events. If more are missing, the limits of the stream
// have dropped the events.
const maxHole = 1000

// poster posts the events to one receiver. It is a [consumer]. Before it repeats a failed post, it
// reads the events again, because one of the messages may have been deleted meanwhile.
type poster struct {
	e        *Events
	receiver *webhook.Receiver
	delay    *atomic.Int64 // when the oldest event of a failed post was stored, in Unix nanoseconds; 0 = the last post succeeded

	until    uint64 // sequence of the last event of the failed post; 0 = the last post succeeded
	failures int    // how often this post has failed
	next     time.Time
}

func newPoster(e *Events, r *webhook.Receiver) *poster {
	return &poster{e: e, receiver: r, delay: e.metrics.newDelay()}
}

func (p *poster) reset() {
	p.until, p.failures, p.next = 0, 0, time.Time{}
	p.delay.Store(0)
}

// take posts the next events.
func (p *poster) take(ctx context.Context, after position) (uint64, error) {
	if time.Now().Before(p.next) {
		return after.seq, nil
	}
	list, err := p.e.entries(ctx, after.seq)
	if err != nil {
		return after.seq, err
	}
	last := p.until
	if last == 0 {
		if len(list) == 0 {
			return after.seq, nil
		}
		last = list[len(list)-1].Seq
	}
	batch, err := p.batch(ctx, after, last, list)
	if err != nil {
		return after.seq, err
	}
	if len(batch.Events) == 0 && batch.Missed == 0 {
		p.reset()
		return last, nil
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return after.seq, fmt.Errorf("encode post: %w", err)
	}
	if err := p.receiver.Post(ctx, webhook.ID(after.created, after.seq+1, last), body); err != nil {
		p.failed(err, last, list)
		return after.seq, nil
	}
	if p.failures > 0 {
		p.e.svc.Log.Info("webhook works again", "url", p.receiver.URL, "failures", p.failures)
	}
	p.reset()
	p.e.metrics.posted.Add(float64(len(batch.Events)))
	p.e.metrics.missed.Add(float64(batch.Missed))
	return last, nil
}

// failed is called when a post has failed. The method take repeats the post later.
func (p *poster) failed(err error, last uint64, list []history.Entry) {
	p.until = last
	p.failures++
	p.next = time.Now().Add(webhook.Pause(p.failures))
	p.e.metrics.failures.Inc()
	if p.failures == 1 || p.failures%10 == 0 {
		p.e.svc.Log.Warn("post to webhook failed; its events wait", "url", p.receiver.URL, "failures", p.failures, "error", err)
	}
	if len(list) > 0 {
		if at, err := time.Parse(time.RFC3339Nano, list[0].Header.Get("Nats-Time-Stamp")); err == nil {
			p.delay.Store(at.UnixNano())
		}
	}
}

// batch returns the body of a post with the events in list, and with stubs for the erased events.
// The post covers the sequences after the position, up to last.
func (p *poster) batch(ctx context.Context, after position, last uint64, list []history.Entry) (*webhook.Batch, error) {
	stubs, err := p.e.stubs(ctx, list)
	if err != nil {
		return nil, err
	}
	b := &webhook.Batch{Events: []webhook.Event{}}
	seq := after.seq + 1
	for i := 0; seq <= last; i++ {
		to := last + 1
		if i < len(list) {
			to = min(to, list[i].Seq)
		}
		if err := p.fill(ctx, b, after, seq, to); err != nil {
			return nil, err
		}
		if to <= last {
			kind, data, err := p.e.tell(&list[i])
			if err != nil {
				p.e.svc.Log.Error("read event for webhook; it is left out", "error", err)
			}
			if stub := stubs[to]; stub != nil {
				data = stub
			}
			p.add(b, after, to, kind, data)
		}
		seq = to + 1
	}
	return b, nil
}

// stubs returns a stub for each entry whose message was deleted. The entry can be the message
// itself or one of its edits. The key of the map is the stream sequence of the entry. The stream
// may still contain the text of the message, because the eraser works later. But the room's
// snapshot already names the deletion: the owner writes it before it acknowledges the deletion.
func (e *Events) stubs(ctx context.Context, list []history.Entry) (map[uint64][]byte, error) {
	in := make(map[string][]int) // indexes of messages and edits, by the subject of the room's snapshot
	for i := range list {
		if rec, ok, _ := record(&list[i]); ok && (rec.Kind == proto.Message || rec.Kind == proto.Edited) {
			state := rec.Room.StateSubject()
			in[state] = append(in[state], i)
		}
	}
	if len(in) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	snapshots, err := e.states.Newest(ctx, slices.Collect(maps.Keys(in)))
	if errors.Is(err, history.ErrDamaged) {
		return nil, nil // post without stubs; the eraser still erases, because it does not read the snapshots
	}
	stubs := make(map[uint64][]byte)
	for i := 0; i < len(snapshots) && err == nil; i++ {
		var s proto.Snapshot
		if s, err = proto.ParseSnapshot(snapshots[i].Data); err != nil || s.Limits == nil || len(s.Limits.Deleted) == 0 {
			continue
		}
		for _, at := range in[snapshots[i].Subject] {
			rec, _, _ := record(&list[at])
			if stub, deleted := s.Limits.In(rec.State.Epoch).Deleted[rec.Seq]; deleted {
				if stub.At == 0 {
					stub.At = rec.State.At.UnixMilli()
				}
				stubs[list[at].Seq] = stub.AppendStub(nil, rec.Room, rec.Seq)
			}
		}
	}
	return stubs, err
}

// fill adds the stubs of the erased events with the sequences from, from+1, …, to-1.
func (p *poster) fill(ctx context.Context, b *webhook.Batch, after position, from, to uint64) error {
	if from >= to {
		return nil
	}
	if to-from > maxHole {
		b.Missed += to - from
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for ; from < to; from++ {
		note, found, err := p.e.stored.Last(ctx, proto.EventErasedSubject(from))
		if err != nil {
			return err
		}
		if !found {
			b.Missed++
			continue
		}
		p.add(b, after, from, note.Header.Get(proto.HeaderKind), note.Data)
	}
	return nil
}

// add adds an event to the batch if the operator has chosen its kind for webhooks.
func (p *poster) add(b *webhook.Batch, after position, seq uint64, kind string, data []byte) {
	if kind == "" || len(p.e.cfg.Kinds) > 0 && !slices.Contains(p.e.cfg.Kinds, kind) {
		return
	}
	b.Events = append(b.Events, webhook.Event{ID: webhook.EventID(after.created, seq), Type: kind, Data: data})
}

// tell returns the kind of an entry and its decrypted payload. If applications do not receive
// entries of this kind, tell returns "" as kind.
func (e *Events) tell(entry *history.Entry) (kind string, data []byte, err error) {
	if rec, ok, err := record(entry); ok || err != nil {
		if err == nil {
			err = e.svc.Keys.OpenRecord(&rec, entry.Header.Get(proto.HeaderRecord))
		}
		if err != nil {
			return "", nil, err
		}
		return typeOf(rec.Kind), rec.Payload, nil
	}
	occurrence, room, ok := proto.ParseEventSubject(entry.Subject)
	if !ok {
		return "", nil, nil
	}
	if data = entry.Data; entry.Header.Get(proto.HeaderEnc) != "" {
		if data, err = e.svc.Keys.Open(room, seal.Event, seal.Headers(entry.Header), data); err != nil {
			return "", nil, err
		}
	}
	return string(occurrence), data, nil
}
