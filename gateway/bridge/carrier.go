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

// Carrier is the way between a gateway and the room service.
type Carrier interface {
	publish.Carrier
	// Records makes the carrier bring the committed records of followed rooms to feeds while they
	// run.
	Records(feeds *follow.Feeds)
}

// natsCarrier carries requests and records over NATS. Requests go to room.<g>, the replies return
// on room.ack.<gateway>.>, and the stream republishes records on room.out.<p>.<g>.
type natsCarrier struct {
	nc    *nats.Conn // set before Answers and Send
	id    string     // of the gateway
	inbox string     // prefix of the reply subjects; a token follows. It is random, so that others cannot send acknowledgements
	keys  *seal.Keys
	log   *slog.Logger
}

func newNATSCarrier(cfg *Config) *natsCarrier {
	return &natsCarrier{id: cfg.ID, inbox: proto.AckPrefix(cfg.ID) + rand.Text() + "-", keys: cfg.Keys, log: cfg.Log}
}

// Records implements [Carrier].
func (c *natsCarrier) Records(feeds *follow.Feeds) { feeds.Subscribe() }

// Answers implements [publish.Carrier]. The subscription ends with the connection.
func (c *natsCarrier) Answers(answer func(string, proto.Reply)) error {
	_, err := c.nc.Subscribe(proto.AckPrefix(c.id)+"*", func(m *nats.Msg) {
		token, own := strings.CutPrefix(m.Subject, c.inbox)
		if !own { // an answer to an earlier process of this id
			return
		}
		if len(m.Data) == 0 && m.Header.Get("Status") == "503" { // nobody owns the room
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
	m.Data = c.keys.Seal(room, seal.In, seal.Headers(m.Header), r.Payload())
	if c.keys != nil {
		m.Header.Set(proto.HeaderEnc, seal.Mark)
	}
	err := c.nc.PublishMsg(m)
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return proto.Refuse(proto.TooLarge, "the message is larger than the NATS server accepts (%d bytes with its headers); send less", c.nc.MaxPayload())
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrInvalidMsg), errors.Is(err, nats.ErrBadHeaderMsg), errors.Is(err, nats.ErrHeadersNotSupported):
		return proto.AsRefusal(err)
	}
	return err
}
