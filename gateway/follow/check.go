package follow

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
)

// The times at which a feed compares a room with the log.
const (
	openedCheck = time.Second            // after the room was opened: the stream's leader may have learned of the subscription late
	firstCheck  = 200 * time.Millisecond // after an event that may have lost records
	secondCheck = 2 * time.Second        // again, for records that arrive after the first check
	someRooms   = 16                     // rooms of a regular comparison, for losses that nothing reports
	someTicks   = 8                      // feed ticks between two regular comparisons
	checkBatch  = 256                    // rooms of one request
	maxChecks   = 3                      // pending checks of one room
)

// checker compares rooms with the log. The feed owns it.
type checker struct {
	shared
	repairs *repairs
	reports *reports
	nc      *nats.Conn
	soon    []check // in the order of their time
	cursor  int     // place in table.list of the last regular comparison
}

// check is a comparison of a room at some time.
type check struct {
	room *room
	due  time.Time
}

// later makes the checker compare the room with its log when the given time has passed.
func (c *checker) later(r *room, after time.Duration) {
	if r.checks < maxChecks {
		r.checks++
		c.soon = append(c.soon, check{r, time.Now().Add(after)})
	}
}

// all makes the checker compare the rooms that pick selects, twice.
func (c *checker) all(pick func(*room) bool) {
	for _, after := range []time.Duration{firstCheck, secondCheck} {
		for _, r := range c.rooms.list {
			if pick(r) {
				c.later(r, after)
			}
		}
	}
}

// due compares the rooms whose time has come.
func (c *checker) due(now time.Time) {
	var rooms []*room
	n := 0
	for _, k := range c.soon {
		if k.due.After(now) {
			c.soon[n] = k
			n++
		} else {
			k.room.checks--
			rooms = append(rooms, k.room)
		}
	}
	clear(c.soon[n:])
	c.soon = c.soon[:n]
	c.compare(rooms)
}

// some compares a few rooms, other ones each time.
func (c *checker) some(ticks int) {
	list := c.rooms.list
	if ticks%someTicks != 0 || len(list) == 0 {
		return
	}
	var rooms []*room
	for range min(someRooms, len(list)) {
		c.cursor++
		rooms = append(rooms, list[c.cursor%len(list)])
	}
	c.compare(rooms)
}

// compare reads the heads of rooms. It does nothing without a connection: after the reconnect,
// the feed compares all rooms.
func (c *checker) compare(rooms []*room) {
	if !c.nc.IsConnected() {
		return
	}
	names := make([]proto.Room, 0, min(len(rooms), checkBatch))
	for i, r := range rooms {
		if r.live && len(r.followers) > 0 && !r.removed {
			names = append(names, r.name)
		}
		if len(names) == checkBatch || len(names) > 0 && i == len(rooms)-1 {
			c.readHeads(names)
			names = make([]proto.Room, 0, checkBatch)
		}
	}
}

func (c *checker) readHeads(names []proto.Room) {
	c.stats.Checks.Add(uint64(len(names)))
	c.reader.Do(func(ctx context.Context) {
		heads, err := c.reader.Heads(ctx, names)
		c.box.Put(func() {
			if err != nil {
				c.log.Debug("compare newest records", "rooms", len(names), "error", err)
				c.checkAgain(names)
				return
			}
			for _, name := range names {
				c.compared(name, heads[name])
			}
		})
	}, func() {
		c.box.Put(func() { c.checkAgain(names) })
	})
}

func (c *checker) checkAgain(names []proto.Room) {
	for _, name := range names {
		if r := c.rooms.get(name); r != nil {
			c.later(r, secondCheck)
		}
	}
}

// compared handles a head from any replica. If the feed has shown a later record, the answer is
// outdated, or the log has lost its end. A read of the log shows which.
func (c *checker) compared(name proto.Room, head history.Head) {
	r := c.rooms.get(name)
	if r == nil || !r.live {
		return
	}
	switch shown := r.tail.head; {
	case head.Err != nil:
		r.tail.other = true // the read of the log shows the reason
	case head.Epoch != shown.Epoch, head.Seq < shown.Seq, head.Seq == shown.Seq && shown.Differs(head):
		r.tail.other = true
	default:
		r.tail.reach = max(r.tail.reach, head.Seq)
	}
	c.reports.add(r) // the room may have another owner now
	c.repairs.begin(r)
}
