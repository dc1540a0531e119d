//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gobwas/ws"

	"roomcast/proto"
	"roomcast/scripts/torture/history"
	"roomcast/scripts/torture/rig"
)

// answerPage is a page of history, as the HTTP API returns it.
type answerPage struct {
	Events []json.RawMessage
	More   bool
	Gap    *struct{ Reason string }
}

// get sends a GET request to one gateway and decodes the JSON answer.
func (a *api) get(ctx context.Context, gateway int, path string, answer any) error {
	gateways := a.run.rig.Gateways()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateways[gateway%len(gateways)]+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+rig.Token)
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

func roomPath(room proto.Room, what string) string {
	return "/api/rooms/" + url.PathEscape(room.String()) + "/" + what
}

// browse reads pages of history until ctx ends, both backwards and forwards. With i = 0, it uses
// HTTP. With i = 1, it uses sessions.
func (r *run) browse(ctx context.Context, i int) {
	name := fmt.Sprintf("browser%d", i)
	a := r.api()
	m := r.newMember(name, nil)
	random := r.random(history.Sum(name))
	resume := ""
	for n := 1; ctx.Err() == nil; n++ {
		sleep(ctx, between(random, 100*time.Millisecond, 500*time.Millisecond))
		room := r.names[random.IntN(len(r.names))]
		head := r.heads.of(room)
		if head < 2 {
			continue
		}
		at, limit := 1+random.Uint64N(head), 1+random.IntN(100)
		asked := history.Entry{Op: history.Page, Client: name, Link: n, Room: room.String()}
		var page answerPage
		var err error
		if i == 0 {
			what := fmt.Sprintf("messages?limit=%d&since=%d", limit, at)
			if asked.From = &at; n%2 == 0 {
				asked.From, asked.To = nil, at
				what = fmt.Sprintf("messages?limit=%d&before=%d", limit, at)
			}
			err = a.get(ctx, n, roomPath(room, what), &page)
		} else {
			asked.To = at
			page, resume, err = m.history(ctx, resume, room, at, limit)
		}
		if err != nil {
			continue // a fault prevented this read; the next one may succeed
		}
		if page.Gap != nil {
			asked.Why = page.Gap.Reason
		}
		r.history.Add(asked)
		for _, raw := range page.Events {
			event, err := proto.ParseEvent(raw)
			e := history.Entry{Client: name, Link: n, Room: room.String()}
			if record(&e, history.PageRecv, &event); err != nil {
				e.Why = err.Error()
			}
			r.history.Add(e)
		}
	}
}

// history reads a page in a new session. The string resume gives the session the sender of an
// earlier session.
func (m *member) history(ctx context.Context, resume string, room proto.Room, before uint64, limit int) (page answerPage, again string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := m.dial(ctx, resume)
	if err != nil {
		return page, resume, err
	}
	defer c.Close()
	p, err := c.History(ctx, room, before, limit)
	for _, e := range p.Events {
		page.Events = append(page.Events, e.AppendJSON(nil))
	}
	if p.Gap != nil {
		page.Gap = &struct{ Reason string }{string(p.Gap.Reason)}
	}
	return page, c.Hello().Resume, err
}

// countMembers asks every gateway for the number of members of the census room.
func (r *run) countMembers(ctx context.Context) {
	a := r.api()
	for i := range r.rig.Gateways() {
		for ctx.Err() == nil {
			var answer struct{ Count int }
			if a.get(ctx, i, roomPath(r.census, "members"), &answer) == nil {
				r.history.Add(history.Entry{Op: history.Count, Client: fmt.Sprintf("gateway%d", i+1), Room: r.census.String(), Count: answer.Count})
				break
			}
			sleep(ctx, 100*time.Millisecond)
		}
	}
}

// stampLength is the length of the time before a message in a text session.
const stampLength = len("2006-01-02 15:04:05 ")

// lines returns the rooms that are followed by one text session each.
func (r *run) lines() []proto.Room {
	return []proto.Room{r.names[0], r.names[1], r.census, r.closing[0]}
}

// readLines opens one text session after another until ctx ends. It closes each session after a
// random time. After the last fault it opens one more session, and keeps that session open.
func (r *run) readLines(ctx context.Context, name string, room proto.Room) {
	random := r.random(history.Sum(name))
	e := history.Entry{Client: name, Room: room.String()}
	for ctx.Err() == nil {
		e.Link++
		gateways := r.rig.Gateways()
		conn, in, err := dialText(ctx, gateways[e.Link%len(gateways)], room)
		if err != nil {
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		e.Op, e.Key, e.Body, e.Why = history.TextOpen, "", 0, ""
		r.history.Add(e)
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		length := between(random, 5*time.Second, 30*time.Second)
		if r.healed.Load() {
			length = 2 * healTime
		}
		conn.SetReadDeadline(time.Now().Add(length))
		for {
			p, err := readMessage(in)
			if err != nil {
				e.Op, e.Key, e.Body, e.Why = history.TextEnd, "", 0, err.Error()
				break
			}
			said := string(p[min(stampLength, len(p)):])
			e.Op, e.Key, e.Body = history.TextRecv, history.KeyOf(said), history.Sum(said)
			r.history.Add(e)
		}
		if ctx.Err() == nil {
			r.history.Add(e)
		}
		stop()
		conn.Close()
	}
}

func dialText(ctx context.Context, gateway string, room proto.Room) (net.Conn, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, in, _, err := ws.Dial(ctx, "ws"+gateway[len("http"):]+"/room/"+url.PathEscape(room.String())+"/")
	if err != nil {
		return nil, nil, err
	}
	if in == nil {
		in = bufio.NewReader(conn)
	}
	return conn, in, nil
}

// readMessage returns the next text message. Its error says how the session ended.
func readMessage(in *bufio.Reader) ([]byte, error) {
	for {
		h, err := ws.ReadHeader(in)
		if err != nil {
			return nil, err
		}
		p := make([]byte, h.Length)
		if _, err := io.ReadFull(in, p); err != nil {
			return nil, err
		}
		switch h.OpCode {
		case ws.OpText:
			return p, nil
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(p)
			return nil, fmt.Errorf("%d %s", code, reason)
		}
	}
}
