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
// When a connection breaks, the client connects again, to any of its gateways, if the close
// code allows it. Before each try it waits for a random part of a bound that doubles ("full
// jitter", Brooker, Exponential Backoff And Jitter, 2015). The new session has the same sender.
// In it the client joins its rooms from the last event that Next has returned. It also sends the
// messages without an ack again, with the same keys.
//
// # Across restarts
//
// A program that must continue after its own restart stores three things. It stores the newest
// [Hello] for [Config], and the seq, epoch and time of the last event for [proto.From]. It also
// stores the messages without an ack, with their keys. scripts/examples/bot shows it.
//
// # Parts
//
// client.go, commands.go and say.go have the exported methods. state.go, room.go and call.go
// have the rooms, the calls and the notices. send.go and receive.go have the rules, without I/O.
// connect.go holds a session, and link.go is one connection.
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

// ErrLost is returned for a command whose connection broke before its answer, if the client must
// not send it again.
var ErrLost = errors.New("the connection was lost")

// ErrUncertain is returned by [Client.Say] for a message whose answer was lost for so long that
// the server may have forgotten its key, if the replay cannot tell whether it is stored.
var ErrUncertain = errors.New("the message may be stored")

// Config says where and how to connect. Every field but URLs may be zero.
type Config struct {
	URLs   []string // of gateways, such as ws://127.0.0.1:8000; the client tries them in turn and begins at random
	Name   string   // for the other members
	Resume string   // of an earlier [Hello]: gives this client the same sender

	// Token returns a JSON Web Token, or "" for a guest; nil = always a guest. The client calls it
	// for each connection and before the token expires. If Token fails, the client tries again
	// later. If the server says that a token has expired and Token returns it again, the client
	// ends.
	Token func(ctx context.Context) (string, error)

	MinBackoff time.Duration // bound of the wait before the second try; 0 = 500 ms
	MaxBackoff time.Duration // limit of that bound, which doubles; 0 = 20 s
	Quiet      time.Duration // silence of the server before a ping, and then before a disconnect; 0 = 15 s
	Patience   time.Duration // how long a command may have no answer before a disconnect; 0 = 15 s
	Buffer     int           // notices that wait for Next; 0 = 4096. See Stats for more

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

// Client is a member of rooms. It holds one session after the other. Its goroutines end with
// Close. All methods are safe for concurrent use.
type Client struct {
	state *state
	stop  context.CancelFunc
	done  chan struct{} // closed when the client's goroutines have ended
}

// Stats counts what a client has seen.
type Stats struct {
	Links   int // sessions begun
	Repeats int // events dropped because Next had returned them before
	Holes   int // joins that were repeated because an event was missing
	Lags    int // joins that were repeated because Buffer was full
	Dropped int // signals and presence notices dropped because Buffer was full
}

// Dial connects and returns when the first session has begun. If another try makes sense, it
// tries again until ctx ends. The client then does not depend on ctx. Dial fails with a
// [*RefusedError], a [*CloseError], or the error of ctx and that of the last try.
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

// Err returns nil while the client runs, [ErrClosed] after Close, and otherwise the error that
// has ended the client.
func (c *Client) Err() error {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.err
}

// Hello returns the hello of the newest session. Its Resume gives another Client the same sender.
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

// ask sends a command and waits for its answer. It sends the command again on each new
// connection. It decodes the ok into the value that into points to, unless into is nil.
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

// await waits for the answer of a call until ctx ends, and then forgets the call.
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
