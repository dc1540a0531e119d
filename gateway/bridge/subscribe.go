package bridge

import (
	"slices"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/limit"
	"roomcast/proto"
)

// A partition with many local rooms is followed as a whole: two subscriptions instead of
// two for each room. What then comes for rooms that nobody here follows is dropped.
// Between the two numbers nothing changes, so that a room that comes and goes does not
// move thousands of subscriptions.
const (
	wideFrom  = 1000 // rooms
	narrowFor = 500  // rooms
)

// partition is one partition's share of a feed.
type partition struct {
	rooms    int
	out, eph *nats.Subscription // of the whole partition; nil = each room has its own
}

func (p *partition) wide() bool { return p.out != nil }

// roomBytes is about what one followed room costs, here and in a hub.
const roomBytes = 5 << 10

// admit reports whether one more room may be followed. Rooms that are only kept in case
// their members come back make room for it.
func (f *feed) admit() bool {
	for {
		most := int64(f.b.cfg.MaxRooms)
		if (most == 0 || f.b.stat.followed.Load() < most) && f.b.cfg.Memory.Has(limit.Rooms, roomBytes) {
			return true
		}
		i := slices.IndexFunc(f.empty, func(r *room) bool {
			return !r.emptied.IsZero() && !r.reading && f.rooms[r.name.Token()] == r
		})
		if i < 0 {
			return false
		}
		f.remove(f.empty[i])
		f.empty = slices.Delete(f.empty, i, i+1)
	}
}

// add begins to follow a room.
func (f *feed) add(name proto.Room) (*room, error) {
	r := &room{name: name, place: len(f.list)}
	part := &f.partitions[name.Partition()]
	if part.rooms+1 >= wideFrom && !part.wide() {
		if err := f.widen(name.Partition()); err != nil {
			return nil, err
		}
	}
	if !part.wide() {
		if err := f.subscribe(r); err != nil {
			return nil, err
		}
	}
	part.rooms++
	f.rooms[name.Token()] = r
	f.list = append(f.list, r)
	f.b.stat.followed.Add(1)
	f.b.cfg.Memory.Add(limit.Rooms, roomBytes)
	return r, nil
}

// remove ends to follow it.
func (f *feed) remove(r *room) {
	last := f.list[len(f.list)-1]
	f.list[r.place], last.place = last, r.place
	f.list[len(f.list)-1] = nil
	f.list = f.list[:len(f.list)-1]
	delete(f.rooms, r.name.Token())
	f.b.stat.followed.Add(-1)
	f.b.cfg.Memory.Add(limit.Rooms, -roomBytes)
	r.unsubscribe()
	p := r.name.Partition()
	f.partitions[p].rooms--
	if f.partitions[p].wide() && f.partitions[p].rooms < narrowFor {
		f.narrow(p)
	}
}

func (f *feed) subscribe(r *room) (err error) {
	r.out, r.eph, err = f.both(r.name.OutSubject(), r.name.EphemeralSubject())
	return err
}

// both subscribes to two subjects or to none.
func (f *feed) both(a, b string) (*nats.Subscription, *nats.Subscription, error) {
	first, err := f.nc.ChanSubscribe(a, f.in)
	if err != nil {
		return nil, nil, err
	}
	second, err := f.nc.ChanSubscribe(b, f.in)
	if err != nil {
		drop(first)
		return nil, nil, err
	}
	return first, second, nil
}

func (r *room) unsubscribe() {
	drop(r.out)
	drop(r.eph)
	r.out, r.eph = nil, nil
}

// drop ends a subscription. It fails only where the connection is closed, and then the
// subscription has ended.
func drop(sub *nats.Subscription) {
	if sub != nil {
		_ = sub.Unsubscribe()
	}
}

// widen follows the whole partition and then lets go of its rooms one by one. What comes
// twice in between is dropped by the delivery rule; a signal may be shown twice.
func (f *feed) widen(p int) (err error) {
	part := &f.partitions[p]
	if part.out, part.eph, err = f.both(proto.OutPartition(p), proto.EphemeralPartition(p)); err != nil {
		return err
	}
	for _, r := range f.list {
		if r.name.Partition() == p {
			r.unsubscribe()
		}
	}
	return nil
}

// narrow follows the rooms that are left each for itself.
func (f *feed) narrow(p int) {
	part := &f.partitions[p]
	for _, r := range f.list {
		if r.name.Partition() != p {
			continue
		}
		if err := f.subscribe(r); err != nil {
			f.b.cfg.Log.Error("partition stays followed as a whole", "error", err)
			return
		}
	}
	drop(part.out)
	drop(part.eph)
	part.out, part.eph = nil, nil
}
