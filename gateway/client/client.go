// Package client is a Go client for JSON sessions. It shows each event of a room exactly
// once and stores each message exactly once, across lost connections and restarts of
// gateways.
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
// When a connection breaks, the client connects again, to any of its gateways, if the
// close code allows it. Before each try it waits a random part of a bound that doubles
// ("full jitter", Brooker, Exponential Backoff And Jitter, 2015). It is then the same
// sender, joins its rooms from the last event that Next returned, and sends the messages
// without an ack again, with the same keys.
//
// # Across restarts
//
// A program that must continue where it stopped keeps three things of its own: the newest
// [Hello] for [Config], the seq, epoch and time of the last event for [proto.From], and
// the messages without an ack with their keys. scripts/examples/bot shows it.
//
// # Parts
//
// client.go, commands.go and say.go are the interface. state.go holds the rooms, the calls
// and the notices; room.go and call.go are its parts. send.go and receive.go are the rules,
// without I/O. connect.go keeps a session, and link.go is one connection.
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

// ErrLost is returned for a command that was not answered before its connection broke,
// and that the client may not send again.
var ErrLost = errors.New("the connection was lost")

// Config says where and how to connect. Every field but URLs may be zero.
type Config struct {
	URLs   []string // of gateways, such as ws://127.0.0.1:8000; the client tries them in turn, from a random one on
	Name   string   // shown to others
	Resume string   // of an earlier [Hello]: makes this client the same sender

	// Token returns a JSON Web Token, "" for a guest; nil = always a guest. The client calls it for
	// each connection and before the token expires. After an error it tries again later. It ends
	// if Token returns a token that has expired, according to the server.
	Token func(ctx context.Context) (string, error)

	MinBackoff time.Duration // bound of the first wait before another try; 0 = 500 ms
	MaxBackoff time.Duration // limit of that bound, which doubles; 0 = 20 s
	Quiet      time.Duration // silence after which the client pings; after as much again it disconnects; 0 = 15 s
	Patience   time.Duration // for an answer, after which the client disconnects; 0 = 15 s
	Buffer     int           // notices that wait for Next; 0 = 4096

	Trace   Trace
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error) // nil = net.Dialer
}

// Trace receives a copy of the traffic, for tests and debugging. Its functions may be nil.
// The client's goroutines call them: they must neither block nor keep p. Link counts
// connections from 1.
type Trace struct {
	Sent     func(link int, p []byte)
	Received func(link int, p []byte)
	Ended    func(link int, err error)
}

// Client is one sender's session with Roomcast, over one connection after the other. It
// owns two goroutines until Close. All methods are safe for concurrent use.
type Client struct {
	state *state
	stop  context.CancelFunc
	done  chan struct{} // closed when the client's goroutines have ended
}

// Stats counts what a client has seen.
type Stats struct {
	Links   int // sessions begun
	Repeats int // events dropped because Next had returned them before
	Holes   int // times a room was joined again because an event was missing
	Lags    int // times a room was joined again because Buffer was full
	Dropped int // signals and presence dropped because Buffer was full
}

// Dial connects and returns when the first session has begun. It tries again, as long as
// ctx allows, if another try makes sense. The client outlives ctx. Errors:
// [*RefusedError], [*CloseError], ctx's together with that of the last try.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("dial: the config names no gateway")
	}
	for _, u := range cfg.URLs {
		if _, err := sessionURL(u, cfg.Name); err != nil {
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
	c := &Client{state: newState(&cfg), stop: stop, done: make(chan struct{})}
	begun := make(chan struct{})
	k := connector{cfg: &cfg, state: c.state, begun: begun}
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

// Close ends the session and returns when the client's goroutines have ended. Messages
// without an ack fail with [ErrClosed]; they may have been stored.
func (c *Client) Close() {
	c.stop()
	<-c.done
}

// Err returns nil while the client runs, [ErrClosed] after Close, and otherwise the reason
// for which the client has ended.
func (c *Client) Err() error {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.err
}

// Hello returns the greeting of the newest session. Its Resume makes another Client the
// same sender.
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

// ask sends a command, again on each new connection, and waits for its answer. It decodes
// the ok into the value that into points to, unless into is nil.
func (c *Client) ask(ctx context.Context, verb proto.Verb, f fields, into any) error {
	k, err := c.state.addCall(verb, f)
	if err == nil {
		err = c.await(ctx, k, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// await waits for the answer of a call until ctx ends. Then nobody waits for it any more.
func (c *Client) await(ctx context.Context, k *call, into any) error {
	var a answer
	select {
	case a = <-k.done:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	c.state.forgetCall(k)
	if a.err == nil && into != nil {
		return a.decode(into)
	}
	return a.err
}
