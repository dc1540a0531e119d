//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/gateway/client"
	"roomcast/proto"
	"roomcast/scripts/torture/history"
)

// member is a client that follows rooms and sends messages to some of them. Each member is another
// sender.
type member struct {
	run   *run
	name  string
	rooms []proto.Room
	said  []proto.Room // the rooms among these to which it sends messages

	record *recorder      // made when the first connection is opened
	client *client.Client // static after startMember; nil in a visitor, which makes a client for each visit

	mu   sync.Mutex               // guards the fields below
	have map[proto.Room]uint64    // seq of the newest event received
	at   map[proto.Room]time.Time // the time of that event
	conn net.Conn                 // the newest connection

	isSlow atomic.Bool
}

func (r *run) newMember(name string, rooms []proto.Room) *member {
	return &member{run: r, name: name, rooms: rooms, have: map[proto.Room]uint64{}, at: map[proto.Room]time.Time{}}
}

// startMember makes member i, which follows two thirds of the rooms.
func (r *run) startMember(ctx context.Context, i int) (*member, error) {
	var rooms []proto.Room
	for n, room := range r.names {
		if (n+i)%3 != 0 {
			rooms = append(rooms, room)
		}
	}
	said := len(rooms) // the member sends no messages to the rooms appended below
	rooms = append(append(rooms, r.census), r.quiet...)
	m := r.newMember(fmt.Sprintf("member%d", i), rooms)
	m.said = rooms[:said]
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var err error
	if m.client, err = m.dial(ctx, ""); err != nil {
		return nil, err
	}
	for _, room := range rooms {
		if _, err := m.client.Join(ctx, room, proto.From{}); err != nil {
			m.client.Close()
			return nil, err
		}
	}
	return m, nil
}

func (m *member) dial(ctx context.Context, resume string) (*client.Client, error) {
	if m.record == nil {
		m.record = newRecorder(m.run.history, m.name)
	}
	m.record.renew()
	return client.Dial(ctx, client.Config{
		URLs: m.run.rig.Gateways(), Name: m.name, Resume: resume,
		MinBackoff: 50 * time.Millisecond, MaxBackoff: 2 * time.Second,
		Quiet: 2 * time.Second, Patience: 8 * time.Second, Buffer: 1 << 20,
		Trace: m.record.trace(), NetDial: m.netDial,
	})
}

func (m *member) netDial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conn.(*net.TCPConn).SetReadBuffer(slowBuffer) // a small buffer, so that the gateway soon notices a slow reader
	conn = &slowConn{conn, m}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = conn
	return conn, nil
}

const (
	slowBuffer = 16 << 10               // receive buffer of a member's socket, in bytes
	slowRead   = 64                     // at most this many bytes in one read while a member is slow
	slowPause  = 500 * time.Millisecond // pause before each read while a member is slow
)

// slowConn is a connection of a member that reads slowly while member.isSlow is true.
type slowConn struct {
	net.Conn
	m *member
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.m.isSlow.Load() {
		time.Sleep(slowPause)
		p = p[:min(len(p), slowRead)]
	}
	return c.Conn.Read(p)
}

// slow makes the member read slowly for the given time.
func (m *member) slow(ctx context.Context, length time.Duration) {
	m.isSlow.Store(true)
	sleep(ctx, length)
	m.isSlow.Store(false)
}

// receiveUntil receives events until ctx ends.
func (m *member) receiveUntil(ctx context.Context) {
	defer m.client.Close()
	m.take(ctx, m.client)
}

// take receives events from c until ctx ends or c fails.
func (m *member) take(ctx context.Context, c *client.Client) error {
	for {
		n, err := c.Next(ctx)
		if err != nil {
			return err
		}
		switch {
		case n.Refused != nil:
			m.run.history.Add(history.Entry{Op: history.Left, Client: m.name, Room: n.Room.String(), Why: string(n.Refused.Code)})
			return n.Refused
		case n.Gap != nil && n.Gap.Reason == proto.GapReset:
			m.mu.Lock()
			m.have[n.Room] = 0
			m.mu.Unlock()
		case n.Event != nil:
			m.mu.Lock()
			m.have[n.Room], m.at[n.Room] = n.Event.Seq, n.Event.At
			m.mu.Unlock()
		}
	}
}

// position returns where the member must continue when it joins a room again.
func (m *member) position(room proto.Room) proto.From {
	m.mu.Lock()
	defer m.mu.Unlock()
	return proto.From{HasSince: true, Since: m.have[room], Epoch: m.record.epoch(room.String()), At: m.at[room]}
}

func (m *member) seen(room proto.Room) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have[room]
}

// breakConnections breaks the member's own connection at random times.
func (m *member) breakConnections(ctx context.Context) {
	random := m.run.random(history.Sum(m.name + " stumbles"))
	for ctx.Err() == nil {
		sleep(ctx, between(random, 2*time.Second, 20*time.Second))
		m.mu.Lock()
		conn := m.conn
		m.mu.Unlock()
		if conn != nil && !m.run.healed.Load() {
			conn.Close()
		}
	}
}

// speak sends messages until ctx ends. It waits for each answer, at most until life ends. For some
// messages it waits only a short time and then gives up.
func (m *member) speak(ctx, life context.Context) {
	random := m.run.random(history.Sum(m.name + " speaks"))
	pause := time.Second * time.Duration(m.run.clients) / time.Duration(m.run.rate)
	for n := 1; ctx.Err() == nil; n++ {
		patience := healTime
		if random.IntN(20) == 0 && !m.run.healed.Load() {
			patience = 1500 * time.Millisecond
		}
		m.say(life, m.said[random.IntN(len(m.said))], fmt.Sprintf("%s-%d", m.name, n), 20+random.IntN(300), patience)
		sleep(ctx, between(random, pause/2, pause*3/2))
	}
}

func (m *member) say(ctx context.Context, room proto.Room, key string, size int, patience time.Duration) {
	text := history.Text(key, size)
	e := history.Entry{Client: m.name, Room: room.String(), Key: key}
	e.Op, e.Body = history.Invoke, history.Sum(text)
	m.run.history.Add(e)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	message := client.Text(text)
	message.Key = key
	ack, err := m.client.Say(ctx, room, message)
	m.run.answered(e, room, ack.Seq, ack.Duplicate, err)
}

// answered writes the answer to the command of the entry e into the history.
func (r *run) answered(e history.Entry, room proto.Room, seq uint64, duplicate bool, err error) {
	e.Body = 0
	var refusal *proto.Refusal
	switch {
	case err == nil:
		e.Op, e.Seq, e.Dup = history.OK, seq, duplicate
		r.heads.stored(room, seq)
	case errors.As(err, &refusal):
		e.Op, e.Why = history.Fail, refusal.Error()
	default:
		e.Op, e.Why = history.Unknown, err.Error()
	}
	r.history.Add(e)
}

// visit follows a room that closeAndReopen closes and reopens. A close ends the membership. visit
// then tries to connect and join until the room is open again.
func (m *member) visit(ctx context.Context) {
	room, resume := m.rooms[0], ""
	for ctx.Err() == nil {
		c, err := m.dial(ctx, resume)
		if err != nil {
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		resume = c.Hello().Resume
		// The first visit begins with the whole log. A later one continues where the last one
		// ended.
		_, err = c.Join(ctx, room, m.position(room))
		if err == nil {
			err = m.take(ctx, c)
		}
		c.Close()
		var refusal *proto.Refusal
		if errors.As(err, &refusal) {
			sleep(ctx, 200*time.Millisecond)
		}
	}
}

func between(random *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(random.Int64N(int64(high-low)+1))
}
