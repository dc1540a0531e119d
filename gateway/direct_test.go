package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"roomcast/gateway/auth"
	"roomcast/gateway/bridge"
	"roomcast/gateway/follow"
	"roomcast/gateway/publish"
	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// received records the rooms and the JSON of all deliveries.
type received struct {
	mu  sync.Mutex
	got map[proto.Room][]string
}

func (r *received) Deliver(d follow.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got[d.Room] = append(r.got[d.Room], string(d.JSON))
}

func (r *received) last(room proto.Room) (json string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list := r.got[room]; len(list) > 0 {
		json = list[len(list)-1]
	}
	return json
}

// In the standalone form, records do not come over NATS. So the gateway subscribes only to
// signals and presence, and it needs one subscription for all rooms of a partition.
func TestStandaloneGatewayHasOneSubscriptionForAPartition(t *testing.T) {
	ns := natstest.Start(t, func(o *natsserver.Options) { o.JetStream = true })
	rooms := service.DefaultConfig()
	rooms.Dial, rooms.Log = ns.Dial, quiet()
	svc, err := service.New(rooms)
	if err != nil {
		t.Fatal(err)
	}
	cfg := bridge.DefaultConfig()
	cfg.ID, cfg.Dial, cfg.Log, cfg.Signing = "a", ns.Dial, quiet(), new(auth.SigningKeys)
	cfg.Carrier, cfg.Follow.Linger = &directCarrier{svc: svc}, 50*time.Millisecond
	b, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Run(t, "the room service", svc.Run)
	natstest.Eventually(t, "the room service", func() bool { return svc.Ready() == nil })
	natstest.Run(t, "the bridge", b.Run)
	natstest.Eventually(t, "the bridge", func() bool { return b.Ready() == nil })

	members := &received{got: make(map[proto.Room][]string)}
	follow := func(room proto.Room) {
		t.Helper()
		ready := make(chan error, 1)
		b.Follow(room, members, func(_ history.Head, err error) { ready <- err })
		if err := <-ready; err != nil {
			t.Fatal(err)
		}
	}
	subscriptions := func() int {
		t.Helper()
		return ns.Subscriptions(t, "room.out.", "room.eph.")
	}
	var list []proto.Room
	for i := 0; len(list) < 3; i++ {
		if r := proto.MustRoom(fmt.Sprint("r", i)); r.Partition() == 7 {
			list = append(list, r)
			follow(r)
		}
	}
	lobby := proto.MustRoom("lobby")
	follow(lobby)
	if got := subscriptions(); got != 2 {
		t.Errorf("%d subscriptions for 4 rooms of 2 partitions, want 2", got)
	}
	replies := make(chan proto.Reply, 1)
	for _, r := range slices.Concat(list, []proto.Room{lobby}) {
		b.Say(publish.Say{Rights: proto.AllRights, Room: r, From: proto.Identity{ID: "ann"}, Patience: time.Minute,
			Content: proto.Content{Kind: proto.Text, Body: []byte("hi")}}, func(r proto.Reply) { replies <- r })
		if reply := <-replies; reply.Seq != 1 {
			t.Fatalf("%s: got the reply %+v, want seq 1", r, reply)
		}
		natstest.Eventually(t, "the message", func() bool { return strings.Contains(members.last(r), `"text":"hi"`) })
		signal := fmt.Sprintf(`{"room":"%s","signal":{"type":"x"}}`, r)
		b.Signal(r, []byte(signal), "")
		natstest.Eventually(t, "the signal", func() bool { return members.last(r) == signal })
	}
	for _, r := range list {
		b.Unfollow(r, members)
	}
	natstest.Eventually(t, "the end of the subscription to the empty partition", func() bool { return subscriptions() == 1 })
}
