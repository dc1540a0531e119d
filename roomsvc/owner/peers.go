package owner

import (
	"slices"
	"strings"
	"time"
)

// instance is the content of a lease.
type instance struct {
	ID      string        `json:"id"`
	Leaving bool          `json:"leaving,omitempty"`
	Lease   time.Duration `json:"lease"` // how long the instance counts as alive without a renewal
}

// lease is an instance's key in the bucket.
type lease struct {
	instance
	seq uint64    // stream sequence of the newest renewal
	at  time.Time // of that renewal, by the clock of the NATS server that stored it
}

// peers knows which instances are alive, as one instance sees them. It belongs to one goroutine.
type peers struct {
	seen    []peer    // sorted by id
	visible time.Time // since when every read of the leases has succeeded; zero = the last read failed
}

// peer is an instance, as another instance sees it.
type peer struct {
	lease
	renewed time.Time // when this instance last saw a renewal
	alive   bool
}

// change says that an instance has come alive or has died.
type change struct {
	id    string
	alive bool
}

// lostView is called when the leases could not be read. In an outage of the bucket no instance can
// renew its lease. So an instance that was alive before the outage still counts as alive. After the
// outage it has the length of a lease to renew its own lease.
func (ps *peers) lostView() { ps.visible = time.Time{} }

// sighted reports whether the last read of the leases succeeded.
func (ps *peers) sighted() bool { return !ps.visible.IsZero() }

// see updates the peers. The parameter there has the leases that are in the bucket now. see
// returns the instances that have started, left or died.
func (ps *peers) see(there []lease, now time.Time) (changes []change) {
	if ps.visible.IsZero() {
		ps.visible = now
	}
	var newest time.Time // time of the newest renewal, by the server's clock; this is about now, because this instance has just renewed its lease
	for _, l := range there {
		if l.at.After(newest) {
			newest = l.at
		}
	}
	var next []peer
	for _, l := range there {
		k, known := ps.find(l.ID)
		switch {
		case !known:
			k = peer{lease: l, renewed: now, alive: newest.Sub(l.at) < l.Lease}
		case k.seq != l.seq:
			k = peer{lease: l, renewed: now, alive: true}
		default:
			k.alive = k.alive && ps.lasts(k, now)
		}
		next = append(next, k)
	}
	for _, k := range ps.seen {
		// An instance announces that it leaves before it deletes its key. Any other missing key
		// was lost with the bucket.
		gone := !slices.ContainsFunc(there, func(l lease) bool { return l.ID == k.ID })
		if gone && k.alive && !k.Leaving && ps.lasts(k, now) {
			next = append(next, k)
		}
	}
	slices.SortFunc(next, func(a, b peer) int { return strings.Compare(a.ID, b.ID) })
	before := ps.seen
	ps.seen = next
	old := peers{seen: before}
	for _, k := range next {
		if k.alive != old.alive(k.ID) {
			changes = append(changes, change{k.ID, k.alive})
		}
	}
	for _, k := range before {
		if _, still := ps.find(k.ID); k.alive && !still {
			changes = append(changes, change{k.ID, false})
		}
	}
	return changes
}

// lasts reports whether k still counts as alive. It does so until its lease has certainly expired.
func (ps *peers) lasts(k peer, now time.Time) bool {
	return now.Sub(k.renewed) < k.Lease || now.Sub(ps.visible) < k.Lease
}

func (ps *peers) find(id string) (peer, bool) {
	i := slices.IndexFunc(ps.seen, func(k peer) bool { return k.ID == id })
	if i < 0 {
		return peer{}, false
	}
	return ps.seen[i], true
}

func (ps *peers) alive(id string) bool {
	k, _ := ps.find(id)
	return k.alive
}

// snapshot returns a function that reports which instances are alive at this moment. Another
// goroutine may call the function later.
func (ps *peers) snapshot() func(id string) bool {
	now := peers{seen: ps.seen} // see makes a new slice each time
	return now.alive
}

// alone reports whether id is the only instance that can own partitions: all others are dead or
// leaving.
func (ps *peers) alone(id string) bool {
	return !slices.ContainsFunc(ps.seen, func(k peer) bool { return k.alive && k.ID != id && !k.Leaving })
}

// chosen reports whether id should own partition p. By rendezvous hashing, the owner is the
// instance with the highest weight. Dead and leaving instances do not count.
func (ps *peers) chosen(p int, id string) bool {
	mine := weight(p, id)
	for _, k := range ps.seen {
		if k.ID == id || k.Leaving || !k.alive {
			continue
		}
		if w := weight(p, k.ID); w > mine || w == mine && k.ID > id {
			return false
		}
	}
	return true
}

// weight is FNV-1a of id and p, followed by the last step of MurmurHash3. FNV alone gives
// similar hashes to short strings that differ in one place.
func weight(p int, id string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	h = (h ^ uint64(p)) * 1099511628211
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
