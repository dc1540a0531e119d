// Package client is a Go client of JSON sessions: it follows rooms exactly and says
// things exactly once, through lost connections and restarts of gateways.
//
//	c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://127.0.0.1:8000"}})
//	defer c.Close()
//	head, err := c.Join(ctx, proto.MustRoom("lobby"), proto.From{Last: 10})
//	ack, err := c.Say(ctx, proto.MustRoom("lobby"), client.Text("hello"))
//	notice, err := c.Next(ctx)
//
// A client that loses its connection comes back by itself, to any of its gateways, as
// the close code allows, after a random part of a growing wait ("full jitter", from
// Brooker, Exponential Backoff And Jitter, 2015). It is then the same sender, joins its
// rooms from the last seq it has handed out, and says again, with the same keys, what
// has not been acknowledged.
package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"roomcast/proto"
)

// ErrClosed is what calls return after [Client.Close].
var ErrClosed = errors.New("the client has been closed")

// ErrLost is returned for what cannot be repeated when the connection broke under it.
var ErrLost = errors.New("the connection was lost")

// Config says where and how to connect. Every field but URLs may be left zero.
type Config struct {
	URLs   []string // of gateways, such as ws://127.0.0.1:8000; one after the other is tried, beginning anywhere
	Name   string   // shown to others
	Token  string   // sent as "Authorization: Bearer"
	Resume string   // of an earlier [Hello]: makes this client the same sender as that one

	MinBackoff time.Duration // bound of the first wait before dialling again; 0 = 500 ms
	MaxBackoff time.Duration // what the bound doubles up to; 0 = 20 s
	Quiet      time.Duration // silence after which the gateway is pinged, and after as much again given up; 0 = 15 s
	Patience   time.Duration // for an answer; without one the connection is given up; 0 = 15 s
	Buffer     int           // notices kept until Next takes them; 0 = 4096

	Trace   Trace
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error) // nil = net.Dialer
}

// Trace sees what travels, for tests and debugging. Its functions may be nil, are called
// from the client's goroutines and must neither block nor keep p. Link counts connections
// from 1.
type Trace struct {
	Sent     func(link int, p []byte)
	Received func(link int, p []byte)
	Ended    func(link int, err error)
}

// Client is one sender's session with Roomcast over as many connections as it takes. It
// owns two goroutines until Close. All methods may be called from any goroutine.
type Client struct {
	cfg  Config
	stop context.CancelFunc
	done chan struct{} // closed when the client's goroutines have ended

	wake    chan struct{} // of 1: something may have to be sent
	arrived chan struct{} // of 1: Next may find something

	mu     sync.Mutex // guards what follows; never held over I/O or a wait
	link   *link      // nil while there is no session
	hello  Hello      // of the newest session
	rooms  map[proto.Room]*room
	order  []*room // of rooms, as they were joined
	calls  []*call // those that belong to no room's queue, in order
	byID   map[uint64]*call
	lastID uint64
	queue  []Notice
	err    error // why the client ended
	ended  bool
	stats  Stats
}

// Stats counts what a client has seen.
type Stats struct {
	Links   int // sessions begun
	Repeats int // events dropped because they had been handed out before
	Holes   int // times a room was joined again because an event was missing
	Lags    int // times a room was joined again because Buffer was full
	Dropped int // signals and presence not kept because Buffer was full
}

// Dial connects and returns when the first session stands. It tries again, for as long as
// ctx allows, where that makes sense; ctx does not bound the client's life afterwards.
// Errors: [*RefusedError], [*CloseError], ctx's.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("dial: no URL of a gateway is given")
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
	c := &Client{
		cfg: cfg, stop: stop, done: make(chan struct{}),
		wake: make(chan struct{}, 1), arrived: make(chan struct{}, 1),
		rooms: map[proto.Room]*room{}, byID: map[uint64]*call{},
		hello: Hello{Resume: cfg.Resume},
	}
	up := make(chan struct{})
	go c.run(life, up)
	select {
	case <-up:
		return c, nil
	case <-c.done:
		return nil, fmt.Errorf("dial: %w", c.Err())
	case <-ctx.Done():
		c.Close()
		return nil, fmt.Errorf("dial: %w", ctx.Err())
	}
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Close ends the session and returns when the client's goroutines have ended. What has
// not been acknowledged fails with [ErrClosed]; whether it was stored is then unknown.
func (c *Client) Close() {
	c.stop()
	<-c.done
}

// Err returns why the client ended by itself, [ErrClosed] after Close, nil before.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Hello returns how the server greeted the newest session. Its Resume lets another Client
// be the same sender.
func (c *Client) Hello() Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello
}

// Stats returns what the client has counted so far.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// run holds one session after the other; up is closed when the first stands.
func (c *Client) run(ctx context.Context, up chan struct{}) {
	defer close(c.done)
	next := rand.IntN(len(c.cfg.URLs))
	for failures := 0; ; {
		stood, err := c.session(ctx, c.cfg.URLs[next%len(c.cfg.URLs)], &up)
		next++
		if ctx.Err() != nil {
			c.end(ErrClosed)
			return
		}
		if !reconnect(err) {
			c.end(err)
			return
		}
		if stood {
			failures = 0
		}
		wait := backoff(failures, c.cfg.MinBackoff, c.cfg.MaxBackoff)
		failures++
		c.mu.Lock()
		c.notify(Notice{Link: &Link{Err: err, Again: wait}})
		c.mu.Unlock()
		select {
		case <-time.After(max(wait, retryAfter(err))):
		case <-ctx.Done():
		}
	}
}

// backoff returns a random wait below a bound that doubles with every failure.
func backoff(failures int, low, high time.Duration) time.Duration {
	bound := min(high, low<<min(failures, 16))
	return rand.N(bound) + 1
}

// end fails everything that waits. Afterwards nothing new is taken.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.ended = err, true
	for _, call := range c.calls {
		call.finish(answer{err: err})
	}
	for _, r := range c.order {
		r.fail(err)
	}
	c.calls, c.order, c.rooms = nil, nil, nil
	signal(c.arrived)
}

// signal wakes whoever waits on a channel of one.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
