package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"roomcast/proto"
)

// Message is a message for [Client.Say]. If it has no key, Say makes one. Set a key if your program
// may have to say the same message again after a restart.
type Message struct {
	proto.Content
	Key string
}

// Text returns a message of plain text.
func Text(s string) Message {
	return Message{Content: proto.Content{Kind: proto.Text, Body: []byte(s)}}
}

// Ack says that a message is stored.
type Ack struct {
	Seq       uint64    `json:"seq"`
	At        time.Time `json:"at"`
	Duplicate bool      `json:"duplicate"` // it was stored before, with the same key
}

// Say stores a message in a room that the client has joined. It returns when the message is stored.
// Until then the client sends it again and again, with the same key. It sends the messages of one
// room one at a time, in the order of the calls. So the messages keep their order even if the
// server refuses one of them for a while.
//
// After a long interruption the server may have forgotten the key. The client then looks for the
// message in the replay of the next connection. If the replay does not contain the message, the
// client sends it again. If the replay has a gap, Say fails with [ErrUncertain].
//
// Say fails with a [*proto.Refusal] if the server does not accept the message. After any other
// error, the message may be stored. To find out, say it again with the same key, as the same
// sender.
func (c *Client) Say(ctx context.Context, room proto.Room, m Message) (Ack, error) {
	if m.Key == "" {
		m.Key = rand.Text()
	} else if refusal := proto.CheckKey(m.Key); refusal != nil {
		return Ack{}, fmt.Errorf("say: %w", refusal)
	}
	f := fields{Room: room.String(), Key: m.Key}
	f.content(m.Content)
	k, err := c.state.addSay(room, f)
	var ack Ack
	if err == nil {
		err = c.await(ctx, k, &ack)
	}
	if err != nil {
		return Ack{}, fmt.Errorf("say: %w", err)
	}
	return ack, nil
}
