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

// Config says how loops listen and how many bytes they may keep. If a field is zero, the loops
// use the value in DefaultConfig instead, except for Address and TLS.
type Config struct {
	// Address is host:port. Without a host, loops listen on all addresses of the machine. For
	// port 0 the system chooses a free port.
	Address string

	// Loops is the number of loops that share the address; 0 = one for each core.
	Loops int

	// TLS encrypts every connection; it needs the portable backend.
	TLS *tls.Config

	// Portable chooses the portable backend even on Linux.
	Portable bool

	// Gate decides which connections to accept. A nil Gate accepts all.
	Gate Gate

	// MaxPending bounds the bytes of one connection that Received has left unused. When a
	// connection reaches the bound, the loop closes it with ErrPending. A wire.Reader needs
	// little more than twice the length of the longest message.
	MaxPending int

	// MaxPosted bounds the functions of Post that wait in each loop.
	MaxPosted int

	// SendBuffer bounds the bytes that the kernel keeps for a peer that does not read them. In
	// addition, the portable backend keeps up to the same number of bytes itself.
	SendBuffer int

	// Memory is the budget for TLS handshakes and for the portable backend's unwritten bytes.
	// Nil means an unlimited budget. If the budget has no space for another handshake, the loop
	// closes the oldest handshake.
	Memory *limit.Budget

	// Clock returns the time with a monotonic reading. Nil stands for time.Now. The loop
	// measures durations with the monotonic reading, because the wall clock may jump.
	Clock func() time.Time

	// Log receives the errors of accept calls and the panics of the handler.
	Log *slog.Logger
}

// Gate decides whether to accept a connection, before anything was read from it. Its methods
// must be safe for concurrent use and must not block.
type Gate interface {
	// Enter reports whether to accept a connection. If not, the loop sends refusal to the
	// peer and closes the connection.
	Enter(peer netip.Addr, now time.Time) (refusal []byte, ok bool)

	// The loop calls Leave for a connection that Enter has accepted, if the connection ends
	// before the call of Opened. For example, its TLS handshake fails.
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
		MaxPending: 1 << 20,
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

// acceptPause is how long a loop leaves new connections in the backlog after it ran out of
// descriptors or memory.
const acceptPause = 100 * time.Millisecond

// Gone receives one of these errors if this side has ended the connection.
var (
	ErrClosed   = errors.New("closed by this side")
	ErrDetached = errors.New("detached")
	ErrPending  = errors.New("too many bytes waited for the rest of a message")
	ErrStopped  = errors.New("the loop has ended")
)
