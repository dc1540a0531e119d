package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/client"
	"roomcast/proto"
	"roomcast/proto/history"
)

// connection is a connection to NATS. It has the rights of a backend: it is a user of the account
// APPS, or the NATS server has no accounts. The command owns it.
type connection struct {
	nc  *nats.Conn
	log *history.Log
	who proto.Identity
}

const (
	resendTime = time.Second            // after this time without an answer, a request is sent again with the same key
	whoTime    = 300 * time.Millisecond // how long to wait for the answer of one more gateway
	checkTime  = 5 * time.Second        // time between two reads of the log; they find messages that NATS has lost
)

// overNATS reports whether the flags name a NATS server.
func (t *target) overNATS() bool { return t.nats.Given() }

// connect connects to NATS. If NATS has separate accounts, it selects the subjects with which
// this account can read the log.
func (t *target) connect(ctx context.Context) (*connection, error) {
	n := t.nats
	n.Token = t.token
	if err := n.Check(); err != nil {
		return nil, err
	}
	nc, err := n.Dialer(slog.New(slog.DiscardHandler))("gateway/console")
	if err != nil {
		return nil, fmt.Errorf("--nats %s: %w", n, err)
	}
	c := &connection{nc: nc, log: history.New(nc, nil), who: proto.Identity{ID: proto.NATSSender, Name: t.name}}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := nc.RequestWithContext(ctx, proto.ImportedAPI+"INFO", nil); err == nil {
		c.log.UseAPI(proto.ImportedAPI)
	}
	return c, nil
}

func (c *connection) close() { c.nc.Close() }

// ask sends a request to a room's owner. Until an answer arrives, it sends the request again and
// again, with the same key.
func (c *connection) ask(ctx context.Context, room proto.Room, r *proto.Request) (proto.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if r.From, r.Rights = c.who, proto.AllRights; r.Key == "" {
		r.Key, r.Hidden = rand.Text(), true
	}
	for {
		attempt, done := context.WithTimeout(ctx, resendTime)
		m, err := c.nc.RequestMsgWithContext(attempt, &nats.Msg{Subject: room.Subject(), Header: r.Header(), Data: r.Payload()})
		done()
		var reply proto.Reply
		if err == nil {
			reply, err = proto.ParseReply(m.Data)
		}
		refused := reply.Refusal
		switch {
		case err == nil && refused == nil:
			return reply, nil
		case err == nil && !refused.Temporary():
			return reply, refused
		case err == nil:
			err = refused
		}
		select {
		case <-ctx.Done():
			return reply, fmt.Errorf("the message was not stored: %w", err)
		case <-time.After(resendTime / 10):
		}
	}
}

func (c *connection) say(ctx context.Context, room proto.Room, m client.Message) (client.Ack, error) {
	reply, err := c.ask(ctx, room, &proto.Request{Content: m.Content, Key: m.Key})
	return client.Ack{Seq: reply.Seq, At: reply.At, Duplicate: reply.Duplicate}, err
}

func (c *connection) act(ctx context.Context, room proto.Room, act proto.Act, fields []byte) (seq uint64, err error) {
	cmd, err := proto.ParseAct(act, fields)
	if err != nil {
		return 0, err
	}
	reply, err := c.ask(ctx, room, &proto.Request{Act: act, Terms: cmd.Terms, Content: cmd.Content, Why: cmd.Why})
	return reply.Seq, err
}

// rooms returns the rooms that have a log, by name.
func (c *connection) rooms(ctx context.Context) ([]listed, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	found, err := history.Rooms(ctx, c.log)
	if err != nil {
		return nil, err
	}
	var rooms []listed
	for room, messages := range found {
		rooms = append(rooms, listed{room.String(), messages})
	}
	slices.SortFunc(rooms, func(a, b listed) int { return strings.Compare(a.Room, b.Room) })
	return rooms, nil
}

// members asks all gateways which people are in the room.
func (c *connection) members(ctx context.Context, room proto.Room) (m proto.Members, err error) {
	inbox := c.nc.NewRespInbox()
	answers, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return m, err
	}
	defer answers.Unsubscribe()
	if err := c.nc.PublishRequest(room.WhoSubject(), inbox, nil); err != nil {
		return m, err
	}
	people := make(map[string]proto.Member)
	for end := time.Now().Add(answerTime); time.Now().Before(end) && ctx.Err() == nil; {
		answer, err := answers.NextMsg(whoTime)
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) {
			break
		}
		if err != nil {
			return m, err
		}
		var share proto.Present
		if err := json.Unmarshal(answer.Data, &share); err != nil {
			return m, fmt.Errorf("read the answer of a gateway: %w", err)
		}
		for _, who := range share.List {
			who.Sessions = max(1, who.Sessions) + people[who.ID].Sessions // gateways of version 0.1.0 do not send the number of sessions
			people[who.ID] = who
		}
		m.Count = max(m.Count, share.Count, share.Total)
	}
	for _, id := range slices.Sorted(maps.Keys(people)) {
		m.List = append(m.List, people[id])
	}
	m.Room, m.Count = room, max(m.Count, len(m.List))
	m.More = m.Count > len(m.List)
	return m, ctx.Err()
}

func (c *connection) history(ctx context.Context, room proto.Room, before uint64, limit int) (client.Page, error) {
	page, err := c.read(ctx, history.Query{Room: room, Before: before, Limit: limit})
	if err != nil {
		return client.Page{}, err
	}
	shown := client.Page{Gap: page.Gap, More: page.More}
	for i := range page.Records {
		e, err := proto.ParseEvent(page.Records[i].Payload)
		if err != nil {
			return shown, fmt.Errorf("read event: %w", err)
		}
		e.Room = room
		shown.Events = append(shown.Events, e)
	}
	return shown, nil
}

func (c *connection) read(ctx context.Context, q history.Query) (history.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	page, err := c.log.Read(ctx, q)
	if err != nil {
		return page, fmt.Errorf("read %s: %w", q.Room, err)
	}
	return page, nil
}

// tail prints the newest events of rooms. If follow is true, it continues with new events until
// ctx ends.
func (c *connection) tail(ctx context.Context, p *printer, rooms []proto.Room, last int, follow bool) error {
	arrived := make(chan *nats.Msg, 1<<12) // if messages are dropped, goOn reads them from the log
	for _, room := range rooms {
		if _, err := c.nc.ChanSubscribe(room.OutSubject(), arrived); err != nil {
			return err
		}
	}
	if err := c.nc.FlushTimeout(answerTime); err != nil {
		return err
	}
	have := make(map[proto.Room]history.Head)
	for _, room := range rooms {
		head, err := c.newest(ctx, p, room, last)
		if err != nil {
			return err
		}
		have[room] = head
	}
	check := time.NewTicker(checkTime)
	defer check.Stop()
	for follow {
		select {
		case <-ctx.Done():
			return nil // the person has pressed Ctrl-C
		case m := <-arrived:
			room, err := proto.RoomOfSubject(m.Subject)
			if err == nil {
				err = c.goOn(ctx, p, room, have)
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
		case <-check.C:
			for _, room := range rooms {
				if err := c.goOn(ctx, p, room, have); err != nil && ctx.Err() == nil {
					fmt.Fprintf(p.notes, "gateway: %v\n", err)
				}
			}
		}
	}
	return nil
}

// newest prints the newest events of a room. It returns the head of the room at that time.
func (c *connection) newest(ctx context.Context, p *printer, room proto.Room, last int) (head history.Head, err error) {
	var pages []history.Page // newest first
	q := history.Query{Room: room, Limit: max(last, 1)}
	for more := true; more && q.Limit > 0; {
		page, err := c.read(ctx, q)
		if err != nil {
			return head, err
		}
		if len(pages) == 0 {
			head = page.Head
		}
		pages = append(pages, page)
		if more = page.More && len(page.Records) > 0; more {
			q.Before, q.Limit = page.Records[0].Seq, q.Limit-len(page.Records)
		}
	}
	for i := len(pages) - 1; i >= 0 && last > 0 && err == nil; i-- {
		err = c.print(p, &pages[i])
	}
	return head, err
}

// goOn prints the events in the log that come after the last printed event.
func (c *connection) goOn(ctx context.Context, p *printer, room proto.Room, have map[proto.Room]history.Head) error {
	for more := true; more; {
		from := have[room]
		page, err := c.read(ctx, history.Query{Room: room, Since: from.Seq, HasSince: true, Epoch: from.Epoch, At: from.At})
		if err == nil {
			err = c.print(p, &page)
		}
		if err != nil {
			return err
		}
		if n := len(page.Records); n > 0 {
			have[room] = history.HeadOf(page.Records[n-1])
		}
		more = page.More
	}
	return nil
}

func (c *connection) print(p *printer, page *history.Page) error {
	if page.Gap != nil {
		if err := p.gap(page.Gap.Room, page.Gap); err != nil {
			return err
		}
	}
	for i := range page.Records {
		e, err := proto.ParseEvent(page.Records[i].Payload)
		if err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		e.Room = page.Records[i].Room
		if err := p.event(&e); err != nil {
			return err
		}
	}
	return nil
}
