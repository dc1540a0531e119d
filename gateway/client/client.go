// Package client is a Go client for JSON sessions. The caller receives each event of a room exactly
// once. Each message is stored exactly once. Both hold even if connections break or gateways
// restart.
//
// [Dial] opens a session. [Client.Join] follows a room, and [Client.Next] returns its
// events. [Client.Say] stores a message:
//
//	c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://127.0.0.1:8000"}})
//	defer c.Close()
//	lobby := proto.MustRoom("lobby")
//	head, err := c.Join(ctx, lobby, proto.From{Last: 10})
//	ack, err := c.Say(ctx, lobby, client.Text("hello"))
//	notice, err := c.Next(ctx)
//
// # Reconnecting
//
// When a connection breaks and the close code allows it, the client connects again, to any of its
// gateways. Before each try it waits for a random time. The upper bound of this time doubles with
// each failure ("full jitter", Brooker, Exponential Backoff And Jitter, 2015). The new session has
// the same sender. The client joins its rooms again. In each room it continues after the last event
// that Next has returned. It also resends the messages that have no ack, with the same keys.
//
// # Across restarts
//
// A program that must continue after its own restart stores three things:
//   - the field Resume of the newest [Hello], for [Config]
//   - the seq, epoch and time of the last event, for [proto.From]
//   - the messages that have no ack, with their keys
//
// The program scripts/examples/bot is an example.
//
// # Parts
//
// client.go, commands.go and say.go have the exported methods. state.go, room.go and call.go
// contain what the client knows: rooms, calls and notices. send.go and receive.go are the rules,
// without I/O. connect.go opens sessions one after the other, and link.go is one connection.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"roomcast/proto"
)

// ErrClosed is returned by calls after [Client.Close].
var ErrClosed = errors.New("the client has been closed")

// ErrLost is returned if the connection broke before a command was answered, and the client must
// not send this command twice.
var ErrLost = errors.New("the connection was lost")

// ErrUncertain is returned by [Client.Say] if the client cannot find out whether the message is
// stored. This happens if the connection was lost for a long time: the server may have forgotten
// the message's key, and the replay has a gap that may hide the message. It also happens if the
// server ends the membership, or refuses the next join, before it has answered the message. Or the
// message was sent again, and the sender no longer has the right to say something.
var ErrUncertain = errors.New("the message may be stored")

// Config says where and how to connect. Every field but URLs may be zero.
type Config struct {
	URLs   []string // of gateways, such as ws://127.0.0.1:8000; the client begins with a random URL, and tries the next URL after each failure
	Name   string   // the name that other members see
	Resume string   // the field of an earlier [Hello]; it gives this client the same sender

	// Token returns a JSON Web Token, or "" for a guest. If Token is nil, the client is a guest.
	// The client calls Token for each connection, and again before the token expires. If Token
	// fails, the client tries again later. If the server has twice called a token expired, and
	// Token returns the same token again, the client ends.
	Token func(ctx context.Context) (string, error)

	// Ticket returns a new ticket of a user. The client uses it if Token is nil. It calls Ticket
	// for its first connection and before the session ends. It also calls Ticket after a server has
	// refused the ticket or the resume string. Every other connection presents the resume string of
	// the last hello. With Ticket, the field Resume has no effect. If Ticket fails or returns an
	// expired ticket, the rules for Token hold.
	Ticket func(ctx context.Context) (string, error)

	MinBackoff time.Duration // longest wait before the second try; 0 = 500 ms
	MaxBackoff time.Duration // the longest wait doubles with each failure up to this; 0 = 20 s
	Quiet      time.Duration // the client pings after this silence of the server, and disconnects after twice this silence; 0 = 15 s
	Patience   time.Duration // how long the client waits for the answer to a command before it disconnects; 0 = 15 s
	Buffer     int           // how many notices may wait for Next; 0 = 4096. [Stats] counts what a full buffer drops

	Trace   Trace
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error) // nil = net.Dialer
}

// Trace receives a copy of the traffic, for tests and debugging. Each of its functions may be nil.
// The client calls them from its own goroutines, so a function must not block. It must not keep the
// slice p after it has returned. The parameter link is the number of the connection, from 1.
type Trace struct {
	Sent     func(link int, p []byte)
	Received func(link int, p []byte)
	Ended    func(link int, err error)
}

// Client is a member of rooms. It opens one session after the other. Its goroutines end with Close.
// All methods are safe for concurrent use.
type Client struct {
	state *state
	stop  context.CancelFunc
	done  chan struct{} // closed when the client's goroutines have ended
}

// Stats counts what a client has seen.
type Stats struct {
	Links   int // sessions that have begun
	Repeats int // events dropped because Next had returned them before
	Holes   int // rooms joined again because an event was missing
	Lags    int // rooms joined again because Config.Buffer was full
	Dropped int // signals and presence notices dropped because Config.Buffer was full
}

// Dial connects and returns when the first session has begun. After a failure that may be
// temporary, it tries again until ctx ends. When Dial has returned, ctx no longer matters. Dial
// fails with a [*RefusedError] or a [*CloseError]. If ctx has ended, it fails with the errors of
// ctx and of the last try.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("dial: the config names no gateway")
	}
	for _, u := range cfg.URLs {
		if _, err := sessionURL(u, cfg.Name, ""); err != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
	}
	orDefault(&cfg.MinBackoff, 500*time.Millisecond)
	orDefault(&cfg.MaxBackoff, 20*time.Second)
	orDefault(&cfg.Quiet, 15*time.Second)
	orDefault(&cfg.Patience, 15*time.Second)
	if cfg.Buffer <= 0 {
		cfg.Buffer = 4096
	}
	if cfg.NetDial == nil {
		cfg.NetDial = (&net.Dialer{}).DialContext
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	begun := make(chan struct{})
	k := connector{cfg: &cfg, credential: cfg.Token, begun: begun}
	if cfg.Token == nil && cfg.Ticket != nil {
		k.credential, k.tickets, cfg.Resume = cfg.Ticket, true, ""
	}
	k.state = newState(&cfg)
	c := &Client{state: k.state, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		k.run(life)
	}()
	select {
	case <-begun:
		return c, nil
	case <-c.done:
		return nil, fmt.Errorf("dial: %w", c.Err())
	case <-ctx.Done():
		c.Close()
		if k.failure != nil {
			return nil, fmt.Errorf("dial: %w: %w", ctx.Err(), k.failure)
		}
		return nil, fmt.Errorf("dial: %w", ctx.Err())
	}
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Close ends the session and returns when the client's goroutines have ended. Calls of Say without
// an ack fail with [ErrClosed]; their messages may have been stored.
func (c *Client) Close() {
	c.stop()
	<-c.done
}

// Err returns nil while the client runs, and [ErrClosed] after Close. If the client has ended by
// itself, Err returns the reason.
func (c *Client) Err() error {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.err
}

// Hello returns the hello of the newest session. With its field Resume in [Config], another Client
// has the same sender.
func (c *Client) Hello() Hello {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.hello
}

// Stats returns what the client has counted so far.
func (c *Client) Stats() Stats {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.stats
}

// Next returns the next notice. It waits for one until ctx ends. When the client has ended
// and Next has returned all notices, it returns the error of [Client.Err].
func (c *Client) Next(ctx context.Context) (Notice, error) {
	for {
		n, ok, err := c.state.next()
		if ok || err != nil {
			return n, err
		}
		select {
		case <-c.state.arrived:
		case <-ctx.Done():
			return Notice{}, ctx.Err()
		}
	}
}

// ask sends a command and waits for its answer. It sends the command again on each new connection.
// If out is not nil, ask decodes a successful answer into *out.
func (c *Client) ask(ctx context.Context, verb proto.Verb, f fields, out any) error {
	k, err := c.state.addCall(verb, f)
	if err == nil {
		err = c.await(ctx, k, out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// await waits for the answer of a call until ctx ends, and then forgets the call.
func (c *Client) await(ctx context.Context, k *call, out any) error {
	var a answer
	select {
	case a = <-k.done:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	c.state.forgetCall(k)
	if a.err == nil && out != nil {
		return a.decode(out)
	}
	return a.err
}
