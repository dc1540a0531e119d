// Command go is the driver of the Go client for the conformance kit. proto/docs/conformance.md
// explains the lines that it reads and prints.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"sync"
	"time"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// command is one line of the input. Exactly one of the pointers is set.
type command struct {
	Connect *struct {
		URL        string
		Tokens     []string
		Tickets    []string
		QuietMS    int `json:"quiet_ms"`
		PatienceMS int `json:"patience_ms"`
	}
	Join *struct {
		Room  proto.Room
		Since *uint64
		Last  int
	}
	Say *struct {
		Room      proto.Room
		Text, Key string
	}
	Signal *struct {
		Room proto.Room
		Type string
	}
	Can *struct{ Capability string }
}

// driver carries out the commands in three goroutines: one for joins, one for messages, one for
// signals. They wait until connect has opened the client.
type driver struct {
	ready  chan struct{} // closed when client is set, or the client has ended
	client *client.Client

	mu  sync.Mutex // guards out
	out *json.Encoder
}

func main() {
	d := &driver{ready: make(chan struct{}), out: json.NewEncoder(os.Stdout)}
	ctx, stop := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	joins, says, signals := make(chan func(), 64), make(chan func(), 64), make(chan func(), 64)
	for _, line := range []chan func(){joins, says, signals} {
		tasks.Go(func() {
			for do := range line {
				<-d.ready
				if d.client != nil {
					do()
				}
			}
		})
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			log.Fatal(err)
		}
		switch {
		case c.Connect != nil:
			tasks.Go(func() { d.connect(ctx, &c) })
		case c.Join != nil:
			joins <- func() { d.join(ctx, &c) }
		case c.Say != nil:
			says <- func() { d.say(ctx, &c) }
		case c.Can != nil:
			d.show("can", fields{"capability": c.Can.Capability, "ok": true})
		case c.Signal != nil:
			signals <- func() {
				d.failed("", c.Signal.Room, d.client.Signal(ctx, c.Signal.Room, c.Signal.Type, nil))
			}
		}
	}
	stop()
	close(joins)
	close(says)
	close(signals)
	tasks.Wait()
}

type fields map[string]any

func (d *driver) show(kind string, f fields) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out.Encode(fields{kind: f})
}

// failed reports whether err is an error. If it is an error, failed prints it for the kit.
func (d *driver) failed(key string, room proto.Room, err error) bool {
	var refusal *proto.Refusal
	switch {
	case errors.As(err, &refusal):
		d.show("refused", fields{"key": key, "room": room.String(), "code": refusal.Code})
	case err != nil:
		d.show("lost", fields{"key": key})
	}
	return err != nil
}

// connect opens the client, and prints its notices until it ends.
func (d *driver) connect(ctx context.Context, c *command) {
	cfg := client.Config{
		URLs:  []string{c.Connect.URL},
		Quiet: time.Duration(c.Connect.QuietMS) * time.Millisecond, Patience: time.Duration(c.Connect.PatienceMS) * time.Millisecond,
	}
	cfg.Token, cfg.Ticket = oneByOne(c.Connect.Tokens), oneByOne(c.Connect.Tickets)
	var err error
	d.client, err = client.Dial(ctx, cfg)
	close(d.ready)
	for err == nil {
		var n client.Notice
		if n, err = d.client.Next(ctx); err == nil {
			d.notice(&n)
		}
	}
	var closed *client.CloseError
	var refused *client.RefusedError
	switch {
	case errors.As(err, &closed):
		d.show("closed", fields{"code": closed.Code, "reason": closed.Reason})
	case errors.As(err, &refused):
		d.show("closed", fields{"code": refused.Status, "reason": refused.Message})
	}
	if d.client != nil {
		d.client.Close()
	}
}

// oneByOne returns a function that returns the credentials one after the other, and then the last
// one again and again. Without credentials, it returns nil.
func oneByOne(all []string) func(context.Context) (string, error) {
	if len(all) == 0 {
		return nil
	}
	return func(context.Context) (string, error) {
		next := all[0]
		all = all[min(1, len(all)-1):]
		return next, nil
	}
}

func (d *driver) notice(n *client.Notice) {
	room := n.Room.String()
	switch {
	case n.Event != nil:
		e := fields{"room": room, "seq": n.Event.Seq, "kind": n.Event.Kind, "of": n.Event.Of, "deleted": n.Event.Removed}
		switch n.Event.Content.Kind {
		case proto.Text:
			e["text"] = string(n.Event.Content.Body)
		case proto.Data:
			e["data"] = json.RawMessage(n.Event.Content.Body)
		}
		d.show("event", e)
	case n.Gap != nil:
		d.show("gap", fields{"room": room, "from": n.Gap.From, "to": n.Gap.To, "reason": n.Gap.Reason})
	case n.Signal != nil:
		d.show("signal", fields{"room": room, "type": n.Signal.Type})
	case n.Refused != nil:
		d.show("ended", fields{"room": room, "code": n.Refused.Code})
	}
}

func (d *driver) join(ctx context.Context, c *command) {
	from := proto.From{Last: c.Join.Last}
	if c.Join.Since != nil {
		from.Since, from.HasSince = *c.Join.Since, true
	}
	head, err := d.client.Join(ctx, c.Join.Room, from)
	if !d.failed("", c.Join.Room, err) {
		d.show("joined", fields{"room": c.Join.Room.String(), "seq": head})
	}
}

func (d *driver) say(ctx context.Context, c *command) {
	m := client.Text(c.Say.Text)
	m.Key = c.Say.Key
	ack, err := d.client.Say(ctx, c.Say.Room, m)
	if !d.failed(m.Key, c.Say.Room, err) {
		d.show("ack", fields{"key": m.Key, "seq": ack.Seq, "duplicate": ack.Duplicate})
	}
}
