//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"roomcast/gateway/client"
	"roomcast/proto"
	"roomcast/scripts/torture/history"
)

// resendFor is how long after its ack a message is sent again. It is well below the time for which
// keys are remembered, and longer than another instance needs to take over a partition.
const resendFor = 45 * time.Second

// acknowledged is a message that resend may send again.
type acknowledged struct {
	room proto.Room
	key  string
	at   time.Time
}

// resend sends each message with a key, to one gateway after another, until it has an answer. Then
// it sends the same message with the same key again, at once and up to resendFor later. The log
// must have each message once.
func (r *run) resend(ctx, life context.Context) {
	a := r.api()
	random := r.random(history.Sum("insist"))
	var old []acknowledged
	for n := 1; ctx.Err() == nil; n++ {
		room := r.names[random.IntN(len(r.names))]
		key := fmt.Sprintf("insist-%d", n)
		if r.post(life, a, "insist", room, key, key) {
			a.post(life, room, "messages", key, text(key)) // ignore the answer: if a second copy is stored, the log shows it
			old = append(old, acknowledged{room, key, time.Now()})
		}
		for len(old) > 0 && time.Since(old[0].at) > resendFor {
			old = old[1:]
		}
		if len(old) > 0 {
			again := old[random.IntN(len(old))]
			a.post(life, again.room, "messages", again.key, text(again.key))
		}
		sleep(ctx, between(random, 20*time.Millisecond, 200*time.Millisecond))
	}
}

// sayWithoutKeys sends messages without keys, each once. The gateway may have to send such a
// message to roomsvc more than once. The log must still have it only once.
func (r *run) sayWithoutKeys(ctx, life context.Context) {
	a := r.api()
	random := r.random(history.Sum("forget"))
	for n := 1; ctx.Err() == nil; n++ {
		room, key := r.names[random.IntN(len(r.names))], fmt.Sprintf("forget-%d", n)
		e := history.Entry{Op: history.Invoke, Client: "forget", Room: room.String(), Key: key, Body: history.Sum(text(key)["text"])}
		r.history.Add(e)
		reply, err := a.post(life, room, "messages", "", text(key))
		r.answered(e, room, reply.Seq, reply.Duplicate, err)
		sleep(ctx, between(random, 50*time.Millisecond, 200*time.Millisecond))
	}
}

// sayToClosing sends messages to a room that closeAndReopen closes and reopens meanwhile.
func (r *run) sayToClosing(ctx, life context.Context, i int) {
	a := r.api()
	name := fmt.Sprintf("plead%d", i)
	random := r.random(history.Sum(name))
	for n := 1; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%s-%d", name, n)
		r.post(life, a, name, r.closing[i], key, key)
		sleep(ctx, between(random, 50*time.Millisecond, 150*time.Millisecond))
	}
}

// sayRarely sends messages to quiet rooms. When a fault begins, it sends a message to four of them.
// After 5 s without a new fault, it sends a message to one of them. In other rooms, the next
// message shows a gateway that it has missed a message. In a quiet room, no next message comes
// soon.
func (r *run) sayRarely(ctx, life context.Context) {
	a := r.api()
	random := r.random(history.Sum("whisper"))
	for n := 1; ; {
		whispers := 1
		select {
		case <-r.begun:
			whispers = 4
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			return
		}
		for range whispers {
			sleep(ctx, between(random, 0, 700*time.Millisecond))
			key := fmt.Sprintf("whisper-%d", n)
			r.post(life, a, "whisper", r.quiet[n%len(r.quiet)], key, key)
			n++
		}
	}
}

// sayLast sends one message to every room, so that gateways notice and announce all earlier losses.
func (r *run) sayLast(ctx, life context.Context) {
	a := r.api()
	for i, room := range r.all() {
		if ctx.Err() != nil {
			return
		}
		key := fmt.Sprintf("last-%d", i)
		r.post(life, a, "last", room, key, key)
	}
}

// text returns the body of a request that sends the message with the given key.
func text(key string) map[string]string { return map[string]string{"text": history.Text(key, 50)} }

// post sends a message until it has an answer, and reports whether it was acknowledged. The history
// of the run names the message by key. The parameter idempotency is the key that is sent to the
// server; if it is "", no key is sent.
func (r *run) post(ctx context.Context, a *api, who string, room proto.Room, key, idempotency string) bool {
	e := history.Entry{Op: history.Invoke, Client: who, Room: room.String(), Key: key, Body: history.Sum(text(key)["text"])}
	r.history.Add(e)
	reply, err := a.postUntil(ctx, room, "messages", idempotency, text(key))
	r.answered(e, room, reply.Seq, reply.Duplicate, err)
	return err == nil
}

// closeAndReopen closes and reopens a room again and again, and leaves it open at the end.
func (r *run) closeAndReopen(ctx, life context.Context, i int) {
	a := r.api()
	room, name := r.closing[i], fmt.Sprintf("preside%d", i)
	random := r.random(history.Sum(name))
	for n := 1; life.Err() == nil; n++ {
		sleep(ctx, between(random, time.Second, 4*time.Second))
		act, kind := "close", proto.Closed
		if n%2 == 0 {
			act, kind = "reopen", proto.Reopened
		} else if ctx.Err() != nil {
			return
		}
		key := fmt.Sprintf("%s-%d", name, n)
		e := history.Entry{
			Op: history.Invoke, Client: name, Room: room.String(),
			Key: key, Kind: string(kind), Body: history.Sum(key),
		}
		r.history.Add(e)
		reply, err := a.postUntil(life, room, act, key, map[string]string{"why": key})
		r.answered(e, room, reply.Seq, reply.Duplicate, err)
	}
}

// joinInTurn joins one room after another and follows each for a short time. Then it leaves the
// room or closes the connection. Its joins ask for no earlier events.
func (r *run) joinInTurn(ctx, life context.Context, i int) {
	m := r.newMember(fmt.Sprintf("hopper%d", i), nil)
	random := r.random(history.Sum(m.name))
	rooms := append(r.names[:len(r.names):len(r.names)], r.census)
	resume := ""
	for ctx.Err() == nil {
		c, err := m.dial(life, resume)
		if err != nil {
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		resume = c.Hello().Resume
		for n := random.IntN(8); n >= 0 && ctx.Err() == nil && err == nil; n-- {
			err = m.followFor(life, c, rooms[random.IntN(len(rooms))], between(random, 100*time.Millisecond, time.Second), n > 0)
		}
		c.Close()
		for _, room := range rooms {
			r.history.Add(history.Entry{Op: history.Left, Client: m.name, Room: room.String()})
		}
	}
}

// followFor joins a room and follows it for the given time. Then it leaves the room if leave is
// true.
func (m *member) followFor(ctx context.Context, c *client.Client, room proto.Room, length time.Duration, leave bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if _, err := c.Join(ctx, room, proto.From{}); err != nil {
		return err
	}
	staying, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	if err := m.take(staying, c); staying.Err() == nil {
		return err
	}
	if !leave {
		return nil
	}
	return c.Leave(ctx, room)
}
