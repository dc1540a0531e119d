package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// If the gateway cannot read a record of a room, it ends the sessions of the room's members and
// tells them the reason. A client that joins later receives the reason at once.
func TestUnreadableRecordEndsSessions(t *testing.T) {
	g := start(t)
	room := proto.MustRoom("unreadable")
	json, text := g.json("/room/unreadable/"), g.text("/room/unreadable/")
	both := g.json("/ws")
	json.want(`{"hello":*`)
	both.want(`{"hello":*`)
	both.send(`{"join":{"room":"unreadable"}}`)
	both.want(`*"ok":*`)
	json.send(`{"say":{"room":"unreadable","text":"one"}}`)
	json.want(`*`) // the ok or the event, which may come in either order
	json.want(`*`)
	text.want(`* one`)
	both.want(`*"one"}`)

	nc, err := dialNATS("newer version")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg(room.LogSubject())
	m.Data = []byte(`{"room":"unreadable","seq":2}`)
	m.Header.Set(proto.HeaderRecord, fmt.Sprintf("%d something new", proto.SchemaVersion+1))
	ack, err := js.PublishMsg(m)
	if err != nil {
		t.Fatal(err)
	}
	defer js.DeleteMsg(proto.StreamName, ack.Sequence)

	const why = "a newer version of roomcast wrote the room's log; upgrade this server"
	json.want("close 4001 " + why)
	text.want("close 4001 " + why)
	both.want("close 4001 " + why)
	g.json("/room/unreadable/?since=0").want("close 4004 " + why)
	g.text("/room/unreadable/").want("close 4004 " + why)
	later := g.json("/ws")
	later.want(`{"hello":*`)
	later.send(`{"id":7,"join":{"room":"unreadable"}}`)
	later.want(`{"id":7,"error":{"code":"unsupported","message":"` + why + `"}}`)
	later.send(`{"id":8,"history":{"room":"unreadable"}}`)
	later.want(`{"id":8,"error":*`)
	later.send(`{"id":9,"join":{"room":"readable"}}`)
	later.want(`{"id":9,"ok":*`)
	if g.bridge.Ready() == nil {
		t.Error("the gateway is ready")
	}
	if err := js.DeleteMsg(proto.StreamName, ack.Sequence); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, "the gateway to be ready again", func() bool { return g.bridge.Ready() == nil })
	t.Logf("ready again after %v", time.Since(begun))
	g.json("/room/unreadable/?since=0").want(`{"hello":*"seq":1*`)
}
