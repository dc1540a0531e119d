package follow

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
)

// When a feed compares a room with the log.
const (
	openedCheck = time.Second            // after the feed began to follow the room, because the stream's leader may learn of the subscription late
	firstCheck  = 200 * time.Millisecond // after an event in which records may have been lost
	secondCheck = 2 * time.Second        // once more, because some records may arrive after the first comparison
	someRooms   = 16                     // number of rooms in one periodic comparison, which finds losses that nothing reports
	someTicks   = 8                      // number of feed ticks between two periodic comparisons
	checkBatch  = 256                    // rooms in one request for heads
	maxChecks   = 3                      // the most comparisons of one room that may be scheduled
)

// checker compares rooms with the log. The feed owns it.
type checker struct {
	shared
	repairs *repairs
	reports *reports
	nc      *nats.Conn
	soon    []check // scheduled comparisons, ordered by time
	cursor  int     // index in rooms.list where the next periodic comparison begins
}

// check is a scheduled comparison of a room with the log.
type check struct {
	room *room
	due  time.Time
}

// schedule schedules a comparison of the room with the log after the given time.
func (c *checker) schedule(r *room, after time.Duration) {
	if r.checks < maxChecks {
		r.checks++
		c.soon = append(c.soon, check{r, time.Now().Add(after)})
	}
}

// scheduleAll schedules two comparisons for each room for which pick returns true.
func (c *checker) scheduleAll(pick func(*room) bool) {
	for _, after := range []time.Duration{firstCheck, secondCheck} {
		for _, r := range c.rooms.list {
			if pick(r) {
				c.schedule(r, after)
			}
		}
	}
}

// due runs the comparisons whose time has come.
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

// compareSome compares a few rooms with the log. Each call continues with other rooms.
func (c *checker) compareSome(ticks int) {
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

// compare reads the heads of rooms from the log. Without a connection it does nothing, because
// the feed compares all rooms after it reconnects.
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
			c.schedule(r, secondCheck)
		}
	}
}

// compared handles the head that some replica has returned for a room. If the feed has already
// delivered a later record, there are two possible causes: the replica is behind, or the log has
// lost its end. The feed reads the log from its leader to find out.
func (c *checker) compared(name proto.Room, head history.Head) {
	r := c.rooms.get(name)
	if r == nil || !r.live {
		return
	}
	switch delivered := r.sequencer.head; {
	case head.Err != nil:
		r.sequencer.other = true // read the log, to find out why
	case head.Epoch != delivered.Epoch, head.Seq < delivered.Seq, head.Seq == delivered.Seq && delivered.Differs(head):
		r.sequencer.other = true
	default:
		r.sequencer.reach = max(r.sequencer.reach, head.Seq)
	}
	c.reports.add(r) // report the loss again, because the room may have another owner now
	c.repairs.begin(r)
}
