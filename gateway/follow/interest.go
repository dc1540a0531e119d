package follow

import (
	"log/slog"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// A partition with many rooms has one subscription instead of one for each room. The feed then
// drops the messages of rooms without followers. The two limits differ, so that one more or one
// less room does not change thousands of subscriptions again and again.
const (
	wideFrom  = 1000 // rooms of a partition from which it has one subscription
	narrowFor = 500  // rooms of a partition below which each room has its own
)

// Subjects names a kind of message that Interest subscribes to for each room.
type Subjects struct {
	Room      func(proto.Room) string // the subject of one room
	Partition func(int) string        // the subject of all rooms of a partition
	To        chan *nats.Msg          // receives the messages
}

// Interest holds the NATS subscriptions of a set of rooms. It belongs to one goroutine.
type Interest struct {
	nc         *nats.Conn
	log        *slog.Logger
	subjects   []Subjects
	rooms      map[proto.Room][]*nats.Subscription // nil = the partition's subscriptions serve the room
	partitions [proto.Partitions]struct {
		rooms int
		subs  []*nats.Subscription // nil = each room has its own
	}
}

// NewInterest returns an empty set.
func NewInterest(nc *nats.Conn, log *slog.Logger, subjects ...Subjects) *Interest {
	return &Interest{nc: nc, log: log, subjects: subjects, rooms: make(map[proto.Room][]*nats.Subscription)}
}

// Add subscribes to the subjects of a room that is not in the set.
func (in *Interest) Add(room proto.Room) (err error) {
	p := &in.partitions[room.Partition()]
	if p.rooms+1 >= wideFrom && p.subs == nil {
		if err := in.widen(room.Partition()); err != nil {
			return err
		}
	}
	var subs []*nats.Subscription
	if p.subs == nil {
		if subs, err = in.subscribe(room); err != nil {
			return err
		}
	}
	in.rooms[room] = subs
	p.rooms++
	return nil
}

// Remove ends the subscriptions of a room in the set.
func (in *Interest) Remove(room proto.Room) {
	unsubscribe(in.rooms[room])
	delete(in.rooms, room)
	p := &in.partitions[room.Partition()]
	p.rooms--
	if p.subs != nil && p.rooms < narrowFor {
		in.narrow(room.Partition())
	}
}

func (in *Interest) subscribe(room proto.Room) ([]*nats.Subscription, error) {
	return in.subscribeAll(func(s Subjects) string { return s.Room(room) })
}

// subscribeAll subscribes to one subject of each kind. After an error it has subscribed to none.
func (in *Interest) subscribeAll(subject func(Subjects) string) ([]*nats.Subscription, error) {
	subs := make([]*nats.Subscription, 0, len(in.subjects))
	for _, s := range in.subjects {
		sub, err := in.nc.ChanSubscribe(subject(s), s.To)
		if err != nil {
			unsubscribe(subs)
			return nil, err
		}
		subs = append(subs, sub)
	}
	return subs, nil
}

// unsubscribe ends subscriptions. Unsubscribe fails only on a closed connection, which has none.
func unsubscribe(subs []*nats.Subscription) {
	for _, sub := range subs {
		_ = sub.Unsubscribe()
	}
}

// widen subscribes to the whole partition and then ends the subscriptions of its rooms. Meanwhile
// messages arrive twice. The sequencers drop the second record; members may see a signal twice.
func (in *Interest) widen(partition int) (err error) {
	p := &in.partitions[partition]
	if p.subs, err = in.subscribeAll(func(s Subjects) string { return s.Partition(partition) }); err != nil {
		p.subs = nil
		return err
	}
	for room, subs := range in.rooms {
		if room.Partition() == partition {
			unsubscribe(subs)
			in.rooms[room] = nil
		}
	}
	return nil
}

// narrow gives each room of the partition its own subscriptions again.
func (in *Interest) narrow(partition int) {
	for room, subs := range in.rooms {
		if subs != nil || room.Partition() != partition {
			continue
		}
		subs, err := in.subscribe(room)
		if err != nil {
			in.log.Error("subscribe to room; its partition keeps one subscription", "room", room.String(), "error", err)
			return
		}
		in.rooms[room] = subs
	}
	p := &in.partitions[partition]
	unsubscribe(p.subs)
	p.subs = nil
}
