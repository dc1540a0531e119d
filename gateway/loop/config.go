package loop

import (
	"cmp"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
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

	// Log tells of accepting that fails and goes on again, and of panics.
	Log *slog.Logger
}

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
