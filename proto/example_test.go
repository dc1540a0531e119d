package proto_test

import (
	"fmt"
	"time"

	"roomcast/proto"
)

// Only ParseRoom makes a Room, and only a Room makes subjects.
func ExampleParseRoom() {
	room, err := proto.ParseRoom("user.42")
	fmt.Println(room.Subject(), room.LogSubject(), err)
	_, err = proto.ParseRoom("*")
	fmt.Println(err)
	// Output:
	// room.user%2E42 room.log.42.user%2E42 <nil>
	// bad room name: U+002A is not a letter, a digit, a combining mark, a dot or one of _-:@+~=
}

// A command is one frame of a JSON session. If ParseCommand returns an error, the error is a
// refusal for the client.
func ExampleParseCommand() {
	c, err := proto.ParseCommand([]byte(`{"id":1,"say":{"room":"lobby","text":"hi","key":"3f9c"}}`))
	fmt.Println(c.Verb, c.Room, c.Content.Kind, string(c.Content.Body), c.Key, err)
	c, err = proto.ParseCommand([]byte(`{"id":2,"shout":{}}`))
	fmt.Println(string(proto.AppendError(nil, c.ID, proto.AsRefusal(err))))
	// Output:
	// say lobby text hi 3f9c <nil>
	// {"id":2,"error":{"code":"bad_request","message":"unknown command \"shout\"; the commands are say, join, leave, history, members, signal, edit, moderate, auth and ping"}}
}

// A gateway sends a request to the owner of a room as a NATS message.
func ExampleRequest() {
	sent := proto.Request{
		From: proto.Identity{ID: "u1", Name: "安娜"}, Key: "3f9c", Rights: proto.MaySay,
		Content: proto.Content{Kind: proto.Text, Body: []byte("hi")},
	}
	header, payload := sent.Header(), sent.Payload()
	fmt.Println(header, string(payload))
	got, refusal := proto.ParseRequest(header, payload, 64<<10)
	fmt.Println(got.From.Name, string(got.Content.Body), refusal == nil)
	// Output:
	// map[Rc-From:[u1] Rc-Key:[3f9c] Rc-Kind:[text] Rc-Name:[%E5%AE%89%E5%A8%9C] Rc-Rights:[say]] hi
	// 安娜 hi true
}

// The log stores an event in the form that JSON clients receive.
func ExampleEvent() {
	e := proto.Event{
		Room: proto.MustRoom("lobby"), Seq: 58, At: time.UnixMilli(1_795_344_787_123),
		From: proto.Identity{ID: "u1"}, Content: proto.Content{Kind: proto.Text, Body: []byte("hi")},
	}
	fmt.Println(string(e.AppendJSON(nil)))
	// Output:
	// {"room":"lobby","seq":58,"at":"2026-11-22T10:53:07.123Z","from":{"id":"u1"},"text":"hi"}
}

// A record consists of an event and a header. The header contains what the next owner of the
// room needs to know.
func ExampleRecord() {
	e := proto.Event{
		Room: proto.MustRoom("lobby"), Seq: 58, At: time.UnixMilli(1_795_344_787_123),
		From: proto.Identity{ID: "u1"}, Content: proto.Content{Kind: proto.Text, Body: []byte("hi")},
	}
	r := proto.Record{
		Room: e.Room, Seq: e.Seq, From: e.From.ID, Stamp: "2026-11-22 18:53:07",
		State: proto.State{Epoch: "k3f9", At: e.At, Start: 1340},
	}
	r.Payload, r.Text = e.AppendRecord(nil)
	fmt.Println(r.Header())
	text, _, _ := r.Text.Text(r.Payload)
	fmt.Println(r.Stamp, string(text))
	// Output:
	// 2 58 k3f9 1795344787123 o 0 1340 0 t84,2 - u1 - 2026-11-22 18:53:07
	// 2026-11-22 18:53:07 hi
}

// A client looks at the close code to decide whether to reconnect.
func ExampleCloseCode_Reconnect() {
	fmt.Println(proto.CloseSlow, proto.CloseSlow.Reconnect())
	fmt.Println(proto.CloseRoomClosed, proto.CloseRoomClosed.Reconnect())
	// Output:
	// slow true
	// room_closed false
}
