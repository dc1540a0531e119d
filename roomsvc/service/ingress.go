package service

import (
	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
	"roomcast/roomsvc/room"
)

// readCommand decrypts and parses a NATS message that arrived for a room. Any NATS client may have
// sent it, so readCommand checks everything in it.
func readCommand(msg *nats.Msg, to proto.Room, keys *seal.Keys, maxMessage int) (c room.Command, refusal *proto.Refusal) {
	payload := msg.Data
	if version := msg.Header.Get(proto.HeaderEnc); version != "" {
		if payload, refusal = open(keys, version, to, msg); refusal != nil {
			return c, refusal
		}
	}
	if c.Request, refusal = proto.ParseRequest(msg.Header, payload, maxMessage); refusal == nil && c.Key != "" {
		c.Digests = keys.Digests(c.Covered())
	}
	return c, refusal
}

// open decrypts the payload of a sealed message. A refusal says what the operator or the sender can
// do.
func open(keys *seal.Keys, version string, to proto.Room, msg *nats.Msg) ([]byte, *proto.Refusal) {
	if keys == nil {
		return nil, proto.Refuse(proto.Unsupported, "the message is encrypted and this server has no key; start roomsvc with --encryption-key-file")
	}
	if version != seal.Mark {
		return nil, proto.Refuse(proto.Unsupported, "the message is encrypted in a way that this server does not know; upgrade the server")
	}
	plain, err := keys.Open(to, seal.In, seal.Headers(msg.Header), msg.Data)
	if err != nil {
		return nil, proto.Refuse(proto.BadRequest, "the message cannot be decrypted with the keys of this server, or its headers were changed")
	}
	return plain, nil
}
