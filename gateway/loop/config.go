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

// Config says how loops listen and how much they keep. Zero values but those of
// Address and TLS stand for the ones of DefaultConfig.
type Config struct {
	// Address is host:port; an empty host is all of them, port 0 any free one.
	Address string

	// Loops is how many loops share the address, one per core if 0.
	Loops int

	// TLS encrypts every connection; it needs the portable backend.
	TLS *tls.Config

	// Portable chooses the goroutine backend also where epoll would do.
	Portable bool

	// Gate decides which connections are accepted. Nil lets all in.
	Gate Gate

	// MaxPending bounds, in bytes, what Received may leave unused of one
	// connection; one whose handler leaves as much is closed with ErrPending. A
	// wire.Reader leaves up to twice the longest message and a little.
	MaxPending int

	// MaxPosted bounds the functions that wait in Post, each loop.
	MaxPosted int

	// SendBuffer bounds, in bytes, what the kernel (the portable backend: also
	// the loop) holds for a peer that does not read.
	SendBuffer int

	// Memory is what TLS handshakes and the portable backend's unwritten bytes are
	// taken from; nil stands for a budget without a bound. While there is none left
	// for another handshake, the oldest one is closed.
	Memory *limit.Budget

	// Clock returns the time. What it returns needs a monotonic reading, which the
	// loop measures with; only the wall reading may jump. Nil is time.Now.
	Clock func() time.Time

	// Log tells of accepting that fails and goes on again, and of panics.
	Log *slog.Logger
}

// Gate decides about a new connection before the loop spends more than its
// descriptor on it. Its methods are called from any goroutine and must not block.
type Gate interface {
	// Enter lets a connection in, or returns the bytes that its peer is sent before
	// the connection is closed at once.
	Enter(peer netip.Addr, now time.Time) (refusal []byte, ok bool)

	// Leave is called for each connection that was let in and ended before Opened.
	Leave(peer netip.Addr)
}

// openGate lets everybody in.
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

// Why a connection is gone, where it was this side's doing.
var (
	ErrClosed   = errors.New("closed by this side")
	ErrDetached = errors.New("detached")
	ErrPending  = errors.New("too many bytes waited for the rest of a message")
	ErrStopped  = errors.New("the loop has ended")
)
