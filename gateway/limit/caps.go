package limit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"roomcast/proto"
)

// CapsConfig contains the limits for the connections of one gateway.
type CapsConfig struct {
	Total      int // 0 = no limit
	PerAddress int // connections of one IPv4 address or of one IPv6 /64; 0 = no limit
	PerSecond  int // new connections in one second, which may all come at once; 0 = no limit

	// Proxies are trusted proxies. A connection from a trusted proxy does not count for the
	// proxy's address. Instead, each session on such a connection counts for the address of its
	// client; see [Caps.OpenClient].
	Proxies Proxies
}

// Caps limits the connections of a gateway. It is safe for concurrent use. It divides the
// addresses into shards, so that loops rarely wait for each other.
type Caps struct {
	cfg     CapsConfig
	open    atomic.Int64
	refused atomic.Uint64
	start   time.Time
	shards  [64]shard
	seed    maphash.Seed

	mu      sync.Mutex
	opening Bucket // limits new connections; guarded by mu
}

type shard struct {
	mu    sync.Mutex
	count map[netip.Addr]int
}

// NewCaps returns a Caps without connections.
func NewCaps(cfg CapsConfig) *Caps {
	return &Caps{cfg: cfg, start: time.Now(), seed: maphash.MakeSeed()}
}

// Open counts a new connection, or returns a refusal. If it returns nil, the caller must call
// Close once. All addresses share the rate of new connections. A connection that is refused
// because of another limit does not count for the rate.
func (c *Caps) Open(peer netip.Addr, now time.Time) *proto.Refusal {
	r := c.admit(peer, now)
	if r != nil {
		c.refused.Add(1)
	}
	return r
}

func (c *Caps) admit(peer netip.Addr, now time.Time) *proto.Refusal {
	key := Group(peer)
	s := c.shard(key)
	byAddress := c.cfg.PerAddress > 0 && !c.cfg.Proxies.Trust(peer)
	if byAddress {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r := c.full(s, key); r != nil {
			return r
		}
	}
	if c.open.Add(1) > int64(c.cfg.Total) && c.cfg.Total > 0 {
		c.open.Add(-1)
		return proto.Refuse(proto.TooMany, "this server has reached its limit of connections; try again later")
	}
	if wait := c.arrive(now); wait > 0 {
		c.open.Add(-1)
		return proto.Refuse(proto.TooMany, "too many connections are being opened; try again in a moment").After(wait)
	}
	if byAddress {
		s.add(key)
	}
	return nil
}

// full returns a refusal if the address has as many connections as it may have. The caller holds
// s.mu.
func (c *Caps) full(s *shard, key netip.Addr) *proto.Refusal {
	if n := s.count[key]; n >= c.cfg.PerAddress {
		return proto.Refuse(proto.TooMany, "your address has %d open connections; the limit is %d", n, c.cfg.PerAddress)
	}
	return nil
}

// add counts a connection for the address. The caller holds mu.
func (s *shard) add(key netip.Addr) {
	if s.count == nil {
		s.count = make(map[netip.Addr]int)
	}
	s.count[key]++
}

// OpenClient is for a session behind a trusted proxy. It counts the session for the address of
// the client, or returns a refusal. If it returns nil, the caller must later call CloseForwarded
// instead of Close.
func (c *Caps) OpenClient(client netip.Addr) *proto.Refusal {
	if c.cfg.PerAddress == 0 {
		return nil
	}
	key := Group(client)
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := c.full(s, key)
	if r != nil {
		c.refused.Add(1)
		return r
	}
	s.add(key)
	return nil
}

// Close ends the count of a connection.
func (c *Caps) Close(peer netip.Addr) {
	c.open.Add(-1)
	if !c.cfg.Proxies.Trust(peer) {
		c.forget(peer)
	}
}

// CloseForwarded ends the two counts of a session behind a trusted proxy: that of its connection,
// and that of its client's address.
func (c *Caps) CloseForwarded(client netip.Addr) {
	c.open.Add(-1)
	c.forget(client)
}

func (c *Caps) forget(address netip.Addr) {
	if c.cfg.PerAddress == 0 {
		return
	}
	key := Group(address)
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[key]--; s.count[key] <= 0 {
		delete(s.count, key)
	}
}

// Proxies returns the trusted proxies, whose X-Forwarded headers the gateway believes.
func (c *Caps) Proxies() Proxies { return c.cfg.Proxies }

// Count returns the number of open connections.
func (c *Caps) Count() int { return int(c.open.Load()) }

// Refused returns how many connections Open has refused.
func (c *Caps) Refused() uint64 { return c.refused.Load() }

func (c *Caps) arrive(now time.Time) time.Duration {
	if c.cfg.PerSecond <= 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opening.Take(uint32(now.Sub(c.start).Milliseconds()), Rate{PerSecond: float64(c.cfg.PerSecond), Burst: c.cfg.PerSecond})
}

func (c *Caps) shard(key netip.Addr) *shard {
	return &c.shards[maphash.Comparable(c.seed, key)%uint64(len(c.shards))]
}

// Group returns the range of addresses that usually belongs to one client: a single IPv4
// address, or an IPv6 /64.
func Group(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	p, _ := a.WithZone("").Prefix(64)
	return p.Addr()
}
