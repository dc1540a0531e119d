package follow

import (
	"log/slog"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// If a partition has many rooms, one subscription to the whole partition replaces the subscriptions
// to each room. The feed then ignores the messages of rooms without followers. The two limits
// differ. If they were equal, adding and removing a single room could change a thousand
// subscriptions each time.
//
// A subscription takes more than a kilobyte in the NATS client, and as much in the server.
const (
	wideFrom  = 1000 // a partition with at least this many rooms gets one subscription
	narrowFor = 500  // if a partition has fewer rooms, each room gets its own subscription
)

// Subjects describes one kind of messages to which an Interest subscribes for each room.
type Subjects struct {
	Room      func(proto.Room) string // returns the subject of one room
	Partition func(int) string        // returns the subject of all rooms of a partition
	To        chan *nats.Msg          // receives the messages
}

// Interest contains the NATS subscriptions for a set of rooms. One goroutine owns it.
type Interest struct {
	nc         *nats.Conn
	log        *slog.Logger
	subjects   []Subjects
	wideFrom   int                                 // a partition with at least this many rooms gets one subscription
	rooms      map[proto.Room][]*nats.Subscription // each room's own subscriptions; nil = the room uses the subscriptions of its partition
	partitions [proto.Partitions]struct {
		rooms int
		subs  []*nats.Subscription // subscriptions to the whole partition; nil = each room has its own
	}
}

// NewInterest returns an Interest without rooms.
func NewInterest(nc *nats.Conn, log *slog.Logger, subjects ...Subjects) *Interest {
	return &Interest{nc: nc, log: log, subjects: subjects, wideFrom: wideFrom, rooms: make(map[proto.Room][]*nats.Subscription)}
}

// Add adds a new room to the set and subscribes to its subjects.
func (in *Interest) Add(room proto.Room) (err error) {
	p := &in.partitions[room.Partition()]
	if p.rooms+1 >= in.wideFrom && p.subs == nil {
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

// Remove removes a room from the set and ends its subscriptions.
func (in *Interest) Remove(room proto.Room) {
	unsubscribe(in.rooms[room])
	delete(in.rooms, room)
	p := &in.partitions[room.Partition()]
	p.rooms--
	if p.subs != nil && p.rooms < min(narrowFor, in.wideFrom) {
		in.narrow(room.Partition())
	}
}

func (in *Interest) subscribe(room proto.Room) ([]*nats.Subscription, error) {
	return in.subscribeAll(func(s Subjects) string { return s.Room(room) })
}

// subscribeAll subscribes to one subject of each kind of messages. If it returns an error, it
// has ended all its subscriptions.
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

// unsubscribe ends subscriptions. It ignores errors. Unsubscribe fails only if the connection is
// closed, and then all subscriptions have ended anyway.
func unsubscribe(subs []*nats.Subscription) {
	for _, sub := range subs {
		_ = sub.Unsubscribe()
	}
}

// widen subscribes to the whole partition. Then it ends the subscriptions to the partition's
// rooms. Between the two steps, messages arrive twice. The sequencers drop repeated records, but
// members may receive a signal twice.
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

// narrow subscribes to each room of the partition. Then it ends the subscription to the whole
// partition.
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
