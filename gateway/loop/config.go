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

// Config says how loops listen and how much they keep. A zero field stands for its value in
// DefaultConfig, except Address and TLS.
type Config struct {
	// Address is host:port. Without a host, loops listen on all addresses of the machine. For
	// port 0 the system chooses a free port.
	Address string

	// Loops is the number of loops that share the address; 0 = one for each core.
	Loops int

	// TLS encrypts every connection; it needs the portable backend.
	TLS *tls.Config

	// Portable chooses the goroutine backend even where epoll is available.
	Portable bool

	// Gate decides which connections are accepted. Nil accepts all.
	Gate Gate

	// MaxPending bounds the bytes of one connection that Received may leave unused. The loop
	// closes a connection that reaches it, with ErrPending. A wire.Reader leaves little more
	// than twice the longest message.
	MaxPending int

	// MaxPosted bounds the functions that wait in Post, in each loop.
	MaxPosted int

	// SendBuffer bounds the bytes that the kernel holds for a peer that does not read. The
	// portable backend holds as many again.
	SendBuffer int

	// Memory is the budget of TLS handshakes and of the portable backend's unwritten bytes;
	// nil stands for a budget without a bound. If it has no space for a handshake, the loop
	// closes the oldest handshake.
	Memory *limit.Budget

	// Clock returns the time with a monotonic reading; nil stands for time.Now. The loop
	// measures with the monotonic reading, because the wall reading may jump.
	Clock func() time.Time

	// Log receives failures to accept, and panics.
	Log *slog.Logger
}

// Gate decides about a new connection when only its descriptor exists. Its methods must be
// safe for concurrent use and must not block.
type Gate interface {
	// Enter reports whether to accept a connection. If not, the loop sends refusal to the
	// peer and closes the connection.
	Enter(peer netip.Addr, now time.Time) (refusal []byte, ok bool)

	// Leave reports the end of a connection that was accepted and for which the loop has not
	// called Opened.
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

// acceptPause is how long a loop leaves new connections in the backlog after descriptors or
// memory ran out.
const acceptPause = 100 * time.Millisecond

// The reasons of Gone for a connection that this side has ended.
var (
	ErrClosed   = errors.New("closed by this side")
	ErrDetached = errors.New("detached")
	ErrPending  = errors.New("too many bytes waited for the rest of a message")
	ErrStopped  = errors.New("the loop has ended")
)
