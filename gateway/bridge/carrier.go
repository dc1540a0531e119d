package bridge

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/follow"
	"roomcast/gateway/publish"
	"roomcast/proto"
	"roomcast/proto/seal"
)

// Carrier connects a gateway with the room service.
type Carrier interface {
	publish.Carrier
	// Records makes the carrier pass the committed records of followed rooms to feeds.
	Records(feeds *follow.Feeds)
}

// natsCarrier carries requests and records over NATS. A gateway sends requests on room.<g>. It
// receives the replies on room.ack.<gateway>.>. The stream republishes the records on
// room.out.<p>.<g>, where the gateway receives them.
type natsCarrier struct {
	nc    *nats.Conn // set before Answers and Send
	id    string     // ID of the gateway
	inbox string     // prefix of the reply subjects, followed by a token; random, so that nobody else can send replies
	keys  *seal.Keys
	log   *slog.Logger
}

func newNATSCarrier(cfg *Config) *natsCarrier {
	return &natsCarrier{id: cfg.ID, inbox: proto.AckPrefix(cfg.ID) + rand.Text() + "-", keys: cfg.Keys, log: cfg.Log}
}

// Records implements [Carrier].
func (c *natsCarrier) Records(feeds *follow.Feeds) { feeds.Subscribe() }

// Answers implements [publish.Carrier]. The subscription ends when the connection is closed.
func (c *natsCarrier) Answers(answer func(string, proto.Reply)) error {
	_, err := c.nc.Subscribe(proto.AckPrefix(c.id)+"*", func(m *nats.Msg) {
		token, own := strings.CutPrefix(m.Subject, c.inbox)
		if !own { // a reply to an earlier process with the same gateway ID
			return
		}
		if len(m.Data) == 0 && m.Header.Get("Status") == "503" { // nobody has subscribed to the subject, so the room has no owner
			answer(token, proto.Reply{Refusal: proto.Refuse(proto.Unavailable, "the room has no owner now")})
			return
		}
		reply, err := proto.ParseReply(m.Data)
		if err != nil {
			c.log.Error("parse answer of the room service", "error", err)
			reply = proto.Reply{Refusal: proto.AsRefusal(err)}
		}
		answer(token, reply)
	})
	return err
}

// Send implements [publish.Carrier].
func (c *natsCarrier) Send(token string, room proto.Room, r *proto.Request) error {
	m := &nats.Msg{Subject: room.Subject(), Reply: c.inbox + token, Header: r.Header()}
	m.Data = c.keys.SealMessage(room, seal.In, m.Header, r.Payload())
	err := c.nc.PublishMsg(m)
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return proto.Refuse(proto.TooLarge, "the message is larger than the NATS server accepts (%d bytes with its headers); send less", c.nc.MaxPayload())
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrInvalidMsg), errors.Is(err, nats.ErrBadHeaderMsg), errors.Is(err, nats.ErrHeadersNotSupported):
		return proto.AsRefusal(err)
	}
	return err
}
