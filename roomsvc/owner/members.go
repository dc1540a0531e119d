package owner

import (
	"slices"
	"strings"
	"time"
)

// instance is what a lease says.
type instance struct {
	ID      string `json:"id"`
	Leaving bool   `json:"leaving,omitempty"`
}

// members is who is alive, as far as one instance can see. It belongs to one goroutine.
type members struct {
	seen  []known   // sorted by id
	sight time.Time // since when the leases have been seen without a break; zero = they are not seen
}

type known struct {
	instance
	last time.Time // when the lease was last there
}

type change struct {
	id    string
	alive bool
}

// blind takes note that the leases could not be read. Until they have been readable again
// for as long as a lease lasts, nobody is taken for dead: after an outage of the bucket
// everybody's lease may have run out.
func (m *members) blind() { m.sight = time.Time{} }

// sighted reports whether the leases could be read the last time.
func (m *members) sighted() bool { return !m.sight.IsZero() }

// see takes in the leases that are there now and returns what has changed.
func (m *members) see(there []instance, now time.Time, lease time.Duration) (changes []change) {
	if m.sight.IsZero() {
		m.sight = now
	}
	var next []known
	for _, i := range there {
		next = append(next, known{i, now})
		if !m.alive(i.ID) {
			changes = append(changes, change{i.ID, true})
		}
	}
	for _, k := range m.seen {
		if slices.ContainsFunc(there, func(i instance) bool { return i.ID == k.ID }) {
			continue
		}
		// Who said that it leaves has left.
		if since := now.Sub(m.sight); since < lease && !k.last.After(m.sight) && !k.Leaving {
			next = append(next, k)
			continue
		}
		changes = append(changes, change{k.ID, false})
	}
	slices.SortFunc(next, func(a, b known) int { return strings.Compare(a.ID, b.ID) })
	m.seen = next
	return changes
}

func (m *members) alive(id string) bool {
	return slices.ContainsFunc(m.seen, func(k known) bool { return k.ID == id })
}

// snapshot returns alive as it is now, for another goroutine.
func (m *members) snapshot() func(id string) bool {
	now := members{seen: m.seen} // see makes a new slice each time
	return now.alive
}

// alone reports whether nobody but id is there to take anything over.
func (m *members) alone(id string) bool {
	return !slices.ContainsFunc(m.seen, func(k known) bool { return k.ID != id && !k.Leaving })
}

// chosen reports whether partition p should be owned by id: rendezvous hashing, the
// highest weight among those who stay.
func (m *members) chosen(p int, id string) bool {
	mine := weight(p, id)
	for _, k := range m.seen {
		if k.ID == id || k.Leaving {
			continue
		}
		if w := weight(p, k.ID); w > mine || w == mine && k.ID > id {
			return false
		}
	}
	return true
}

// weight is FNV-1a of id and p, mixed as MurmurHash3 ends, since FNV alone hardly spreads
// short strings that differ in one place.
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
