package service

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/room"
)

func TestIdleRoomsAreForgotten(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv, func(c *Config) { c.Idle = 200 * time.Millisecond })
	defer stop()
	nc := srv.Connect(t)
	for i := range 200 {
		say(t, nc, fmt.Sprintf("room%d", i), "u", "k", "hi")
	}
	natstest.Eventually(t, "the rooms to be forgotten", func() bool { return s.rooms() == 0 })
	// The next message makes the service read the room from the log, with its keys and its seq.
	if r := say(t, nc, "room7", "u", "k", "hi"); r.Seq != 1 || !r.Duplicate {
		t.Errorf("got %+v, want a duplicate of 1", r)
	}
	if r := say(t, nc, "room7", "u", "k2", "hi"); r.Seq != 2 {
		t.Errorf("got %+v, want seq 2", r)
	}
}

func TestRoomsInMemoryAreBounded(t *testing.T) {
	srv := startNATS(t, true)
	s, stop := startService(t, srv, func(c *Config) { c.RoomsKept, c.Idle = 2, time.Second })
	defer stop()
	nc := srv.Connect(t)
	for i := range 500 {
		say(t, nc, fmt.Sprintf("room%d", i), "u", "k", "hi")
	}
	natstest.Eventually(t, "some rooms to be forgotten", func() bool { return s.rooms() <= 2*proto.Partitions })
}

// The documentation promises at most 2 KB for an active room.
func TestActiveRoomNeedsAtMostTwoKilobytes(t *testing.T) {
	const n = 10_000
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, rules := heap(), room.DefaultRules()
	rooms := make(map[proto.Room]*active)
	for i := range n {
		name := proto.MustRoom(fmt.Sprintf("room%d", i))
		rooms[name] = &active{room: room.New(name, rules)}
		rooms[name].room.Apply(&room.Command{Request: proto.Request{Rights: proto.AllRights, From: proto.Identity{ID: fmt.Sprintf("u%d", i)}, Key: fmt.Sprintf("k%d", i)}},
			room.Moment{Now: time.Now()})
	}
	bytes := (heap() - before) / n
	runtime.KeepAlive(rooms)
	t.Logf("an active room with one key takes %d bytes", bytes)
	if bytes > 2048 {
		t.Errorf("got %d bytes, want at most 2048", bytes)
	}
}
