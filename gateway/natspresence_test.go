package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/bridge"
	"roomcast/gateway/follow"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/natstest"
)

// The list of the people in a large room needs several messages. A gateway sends all of them as
// answers to one question. With the permissions in scripts/nats.conf, they must all arrive.
func TestGatewaysAgreeOnALargeRoomWithTheShippedPermissions(t *testing.T) {
	ns := shippedServer(t)
	dialAs := func(user string) func(string, ...nats.Option) (*nats.Conn, error) {
		return func(name string, more ...nats.Option) (*nats.Conn, error) {
			prefix := map[string]string{"gateway": "_INBOX_gw.x", "roomsvc": "_INBOX_roomsvc.x"}[user]
			own := []nats.Option{nats.Name(name), nats.UserInfo(user, "right-"+strings.ToUpper(user)), nats.CustomInboxPrefix(prefix)}
			return nats.Connect(ns.ClientURL(), append(own, more...)...)
		}
	}
	serveRooms(t, dialAs("roomsvc"))
	room := proto.MustRoom("hall")
	var gateways []*bridge.Bridge
	var members []*counts
	for _, id := range []string{"gw1", "gw2"} {
		b := runBridge(t, dialAs("gateway"), func(c *bridge.Config) { c.ID = id })
		var followed sync.WaitGroup
		followed.Add(1)
		members = append(members, new(counts))
		b.Follow(room, members[len(members)-1], func(_ history.Head, err error) {
			if err != nil {
				t.Errorf("%s: follow the room: %v", id, err)
			}
			followed.Done()
		})
		followed.Wait()
		gateways = append(gateways, b)
		if id == "gw1" {
			for i := range 1700 {
				b.Joined(room, proto.Identity{ID: fmt.Sprint("member", i)})
			}
		}
	}
	gateways[1].Joined(room, proto.Identity{ID: "last"})
	natstest.Within(t, 20*time.Second, "members on both gateways to be told of 1701 people", func() bool {
		return members[0].newest() == 1701 && members[1].newest() == 1701
	})
}

// counts follows a room, and remembers the number of people that its members were told last.
type counts struct{ last atomic.Int64 }

func (c *counts) newest() int { return int(c.last.Load()) }

func (c *counts) Deliver(d follow.Delivery) {
	var notice struct{ Joined, Left *struct{ Count int64 } }
	if json.Unmarshal(d.JSON, &notice) != nil {
		return
	}
	for _, n := range []*struct{ Count int64 }{notice.Joined, notice.Left} {
		if n != nil {
			c.last.Store(n.Count)
		}
	}
}
