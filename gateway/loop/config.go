package loop

import (
	"cmp"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"time"

	"roomcast/gateway/limit"
)

// Config says how loops listen and how much they keep. A zero value stands for the one of
// DefaultConfig, except in Address and TLS.
type Config struct {
	// Address is host:port; an empty host is all of them, port 0 any free one.
	Address string

	// Loops is how many loops share the address, one per core if 0.
	Loops int

	// TLS encrypts every connection; it needs the portable backend.
	TLS *tls.Config

	// Portable chooses the goroutine backend even where epoll is available.
	Portable bool

	// Gate decides which connections are accepted. Nil accepts all.
	Gate Gate

	// MaxPending bounds the bytes of one connection that Received may leave unused. A
	// connection with as many is closed with ErrPending. A wire.Reader leaves little more
	// than twice the longest message.
	MaxPending int

	// MaxPosted bounds the functions that wait in Post, in each loop.
	MaxPosted int

	// SendBuffer bounds the bytes that the kernel holds for a peer that does not read. With
	// the portable backend the loop holds as many.
	SendBuffer int

	// Memory is the budget of TLS handshakes and of the portable backend's unwritten bytes;
	// nil stands for one without a bound. If nothing is left for another handshake, the
	// oldest handshake is closed.
	Memory *limit.Budget

	// Clock returns the time, with a monotonic reading, which the loop measures with. Only
	// the wall reading may jump. Nil is time.Now.
	Clock func() time.Time

	// Log gets failures to accept, and panics.
	Log *slog.Logger
}

// Gate decides about a new connection before the loop spends more than its
// descriptor on it. Its methods are called from any goroutine and must not block.
type Gate interface {
	// Enter accepts a connection, or returns the bytes that its peer is sent before the
	// connection is closed at once.
	Enter(peer netip.Addr, now time.Time) (refusal []byte, ok bool)

	// Leave is called for each accepted connection that ends before Opened.
	Leave(peer netip.Addr)
}

// openGate accepts every connection.
type openGate struct{}

func (openGate) Enter(netip.Addr, time.Time) ([]byte, bool) { return nil, true }
func (openGate) Leave(netip.Addr)                           {}

// DefaultConfig returns the settings of a gateway: messages of up to 64 KiB.
func DefaultConfig() Config {
	return Config{
		Address:    ":8000",
		MaxPending: 256 << 10,
		MaxPosted:  1 << 20,
		SendBuffer: 64 << 10,
		Log:        slog.Default(),
	}
}

// setDefaults replaces zero values.
func (c *Config) setDefaults() {
	d := DefaultConfig()
	c.Loops = cmp.Or(max(c.Loops, 0), runtime.GOMAXPROCS(0))
	c.MaxPending = cmp.Or(c.MaxPending, d.MaxPending)
	c.MaxPosted = cmp.Or(c.MaxPosted, d.MaxPosted)
	c.SendBuffer = cmp.Or(c.SendBuffer, d.SendBuffer)
	c.Memory = cmp.Or(c.Memory, limit.NewBudget(math.MaxInt64))
	c.Log = cmp.Or(c.Log, d.Log)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Gate == nil {
		c.Gate = openGate{}
	}
}

// acceptPause is how long new connections stay in the backlog after descriptors
// or memory ran out.
const acceptPause = 100 * time.Millisecond

// Why a connection is gone, if this side ended it.
var (
	ErrClosed   = errors.New("closed by this side")
	ErrDetached = errors.New("detached")
	ErrPending  = errors.New("too many bytes waited for the rest of a message")
	ErrStopped  = errors.New("the loop has ended")
)
