//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"roomcast/proto"
	"roomcast/scripts/torture/fault"
	"roomcast/scripts/torture/history"
)

// moderators is the number of moderated rooms. Each has one moderator.
const moderators = 2

// moderation is a room whose moderator mutes and bans one sender, and deletes and edits the
// sender's messages.
type moderation struct {
	run    *run
	room   proto.Room
	name   string
	sender string

	mu   sync.Mutex // guards the fields below
	said []uint64   // seqs of messages, with the newest last
	n    int        // number of keys used so far
}

// moderate runs the clients of moderated room i until ctx ends.
func moderate(ctx, life context.Context, r *run, i int) {
	m := &moderation{run: r, name: fmt.Sprintf("moderator%d", i), room: proto.MustRoom(fmt.Sprintf("moderated_%d", i)), sender: fmt.Sprintf("talker%d", i)}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { m.talk(ctx, life) })
	group.Go(func() { m.look(ctx, life) })
	a, random := r.api(), r.random(history.Sum(m.name))
	for ctx.Err() == nil {
		act := []string{"mute", "ban"}[random.IntN(2)]
		m.do(life, a, act, nil, map[string]any{"member": m.sender, "for": "1h"})
		for range random.IntN(5) {
			m.change(life, a, random)
			sleep(ctx, between(random, 0, 100*time.Millisecond))
		}
		m.do(life, a, "un"+act, nil, map[string]any{"member": m.sender})
		for range random.IntN(8) {
			m.change(life, a, random)
			sleep(ctx, between(random, 0, 200*time.Millisecond))
		}
	}
}

// change deletes or edits one of the newest messages.
func (m *moderation) change(ctx context.Context, a *api, random *rand.Rand) {
	m.mu.Lock()
	if len(m.said) == 0 {
		m.mu.Unlock()
		return
	}
	i := random.IntN(len(m.said))
	seq, act := m.said[i], "edit"
	if random.IntN(3) == 0 {
		act = "delete"
		m.said = append(m.said[:i:i], m.said[i+1:]...)
	}
	m.mu.Unlock()
	m.do(ctx, a, act, &seq, map[string]any{"seq": seq})
}

// talk sends one message after another until ctx ends.
func (m *moderation) talk(ctx, life context.Context) {
	a, random := m.run.api(), m.run.random(history.Sum(m.sender))
	for ctx.Err() == nil {
		if seq := m.do(life, a, "say", nil, map[string]any{}); seq > 0 {
			m.mu.Lock()
			if m.said = append(m.said, seq); len(m.said) > 50 {
				m.said = m.said[1:]
			}
			m.mu.Unlock()
		}
		sleep(ctx, between(random, 50*time.Millisecond, 150*time.Millisecond))
	}
}

// do sends an act, an edit or a message, and writes it and its answer into the history. It returns
// the seq of the stored event, or 0 after an error.
func (m *moderation) do(ctx context.Context, a *api, what string, of *uint64, body map[string]any) uint64 {
	m.mu.Lock()
	m.n++
	key := fmt.Sprintf("%s-%d", m.name, m.n)
	m.mu.Unlock()
	path, e := what, history.Entry{Op: history.Moderate, Client: m.name, Room: m.room.String(), Key: key, Kind: what, Sender: m.sender, From: of}
	if what == "say" {
		path = "messages"
	}
	if what == "say" || what == "edit" {
		text := history.Text(key, 50)
		body["text"], e.Body = text, history.Sum(text)
		path += "?from=" + url.QueryEscape(m.sender)
	}
	m.run.history.Add(e)
	reply, err := a.postUntil(ctx, m.room, path, key, body)
	e.Op, e.Seq = history.Moderated, reply.Seq
	if err != nil {
		e.Why = err.Error()
	}
	m.run.history.Add(e)
	if err != nil {
		return 0
	}
	return reply.Seq
}

// look reads the newest page of the room through each gateway in turn, until ctx ends.
func (m *moderation) look(ctx, life context.Context) {
	a, random := m.run.api(), m.run.random(history.Sum(m.name+" looks"))
	for n := 1; ctx.Err() == nil; n++ {
		sleep(ctx, between(random, 20*time.Millisecond, 200*time.Millisecond))
		key := fmt.Sprintf("%s-look-%d", m.name, n)
		e := history.Entry{Op: history.Look, Client: m.name, Room: m.room.String(), Key: key, Count: m.run.shape.Processes[fault.NATS]}
		m.run.history.Add(e)
		var page answerPage
		if a.get(life, n, roomPath(m.room, []string{"messages?last=100", "messages?limit=80"}[n%2]), &page) != nil || len(page.Events) == 0 {
			continue
		}
		first := uint64(0)
		e.Count = 0
		for _, raw := range page.Events {
			event, err := proto.ParseEvent(raw)
			if err != nil {
				continue
			}
			if first == 0 {
				first = event.Seq
			}
			e.Op, e.Seq, e.Kind, e.Dup, e.Body = history.Seen, event.Seq, string(event.Kind), event.Removed, 0
			if event.Content.Kind == proto.Text {
				e.Body = history.Sum(string(event.Content.Body))
			}
			m.run.history.Add(e)
		}
		m.run.history.Add(history.Entry{Op: history.Looked, Client: m.name, Room: m.room.String(), Key: key, From: &first, Seq: e.Seq})
	}
}
