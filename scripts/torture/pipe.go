//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/gobwas/ws"

	"roomcast/proto"
	"roomcast/scripts/torture/history"
)

const (
	pipeLength = 20               // how many messages are sent at once
	pipeTime   = 10 * time.Second // limit for the handshake, and for receiving all answers to one write
)

// errAgain says that the gateway has temporarily refused some messages, which must be sent again.
var errAgain = errors.New("refused for now")

// temporary contains the codes of refusals after which a client should send the same message again.
var temporary = map[proto.Code]bool{proto.RateLimited: true, proto.Overloaded: true, proto.Unavailable: true}

// pipe is a client that sends many messages at once, without waiting for the answer to each. After
// a lost connection it sends the unanswered messages again, in order. The log must have all
// messages in the order in which they were first sent.
type pipe struct {
	run     *run
	room    proto.Room
	resume  string
	said    int
	waiting []history.Entry // messages without an answer, in order; the id of a command is the number in its key
}

// sayInBulk sends messages through a pipe until ctx ends. It waits for answers at most until life
// ends.
func (r *run) sayInBulk(ctx, life context.Context) {
	p := &pipe{run: r, room: r.names[0]}
	random := r.random(history.Sum("pour"))
	dial := 0
	for life.Err() == nil && (ctx.Err() == nil || len(p.waiting) > 0) {
		gateways := r.rig.Gateways()
		conn, in, err := p.open(life, gateways[dial%len(gateways)])
		dial++
		for err == nil {
			if ctx.Err() == nil && len(p.waiting) == 0 {
				p.more()
			}
			for err = errAgain; errors.Is(err, errAgain) && life.Err() == nil; {
				err = p.exchange(conn, in)
			}
			if err == nil {
				if ctx.Err() != nil {
					break
				}
				sleep(ctx, between(random, time.Second, 2*time.Second))
			}
		}
		if conn != nil {
			conn.Close()
		}
		sleep(life, between(random, 50*time.Millisecond, 500*time.Millisecond))
	}
	for _, e := range p.waiting {
		r.answered(e, p.room, 0, false, errors.New("never answered"))
	}
}

// open makes a session in the room, with the sender of the previous session.
func (p *pipe) open(ctx context.Context, gateway string) (net.Conn, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	target := "ws" + gateway[len("http"):] + "/room/" + url.PathEscape(p.room.String()) + "/"
	offers := []string{"roomcast.v1"}
	if p.resume != "" {
		offers = append(offers, "resume."+p.resume)
	}
	conn, in, _, err := ws.Dialer{Protocols: offers}.Dial(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	if in == nil {
		in = bufio.NewReader(conn)
	}
	conn.SetDeadline(time.Now().Add(pipeTime))
	for {
		f, err := readFrame(in)
		if err != nil {
			return conn, in, err
		}
		if f.Hello != nil {
			p.resume = f.Hello.Resume
			return conn, in, nil
		}
	}
}

// more fills waiting with new messages.
func (p *pipe) more() {
	for range pipeLength {
		p.said++
		key := fmt.Sprintf("pour-%d", p.said)
		e := history.Entry{
			Op: history.Invoke, Client: "pour", Room: p.room.String(), Key: key, Body: history.Sum(history.Text(key, 40)),
		}
		p.run.history.Add(e)
		p.waiting = append(p.waiting, e)
	}
}

// exchange sends all waiting messages and reads their answers.
func (p *pipe) exchange(conn net.Conn, in *bufio.Reader) error {
	conn.SetDeadline(time.Now().Add(pipeTime))
	var out []byte
	for i, e := range p.waiting {
		say, err := json.Marshal(map[string]any{
			"id": i, "say": map[string]string{"key": e.Key, "text": history.Text(e.Key, 40)},
		})
		if err != nil {
			return err
		}
		frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame(say)))
		if err != nil {
			return err
		}
		out = append(out, frame...)
	}
	if _, err := conn.Write(out); err != nil {
		return err
	}
	asked := p.waiting
	var again []history.Entry // refused messages to send again, in order
	var wait time.Duration
	answered := make([]bool, len(asked))
	defer func() {
		p.waiting = nil
		for i, e := range asked {
			if !answered[i] || slices.ContainsFunc(again, func(a history.Entry) bool { return a.Key == e.Key }) {
				p.waiting = append(p.waiting, e)
			}
		}
	}()
	for left := len(asked); left > 0; {
		f, err := readFrame(in)
		if err != nil {
			return err
		}
		if f.ID == nil || *f.ID >= len(asked) || answered[*f.ID] {
			continue
		}
		answered[*f.ID] = true
		left--
		switch e := asked[*f.ID]; {
		case f.OK != nil:
			p.run.answered(e, p.room, f.OK.Seq, f.OK.Duplicate, nil)
		case temporary[f.Error.Code]:
			// The gateway also refused the messages after this message. All of them are sent again
			// before new messages.
			again, wait = append(again, e), max(wait, time.Duration(f.Error.RetryMS)*time.Millisecond)
		default:
			p.run.answered(e, p.room, 0, false, proto.Refuse(f.Error.Code, "%s", f.Error.Message))
		}
	}
	if len(again) > 0 {
		sleep(context.Background(), max(wait, 10*time.Millisecond))
		return errAgain
	}
	return nil
}

// pipeFrame has the fields of a server's frame that a pipe needs.
type pipeFrame struct {
	ID *int
	OK *struct {
		Seq       uint64
		Duplicate bool
	}
	Error struct {
		Code    proto.Code
		Message string
		RetryMS int64 `json:"retry_ms"`
	}
	Hello *struct{ Resume string }
}

func readFrame(in *bufio.Reader) (f pipeFrame, err error) {
	p, err := readMessage(in)
	if err == nil {
		err = json.Unmarshal(p, &f)
	}
	return f, err
}
