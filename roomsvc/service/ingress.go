package service

import (
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/seal"
	"roomcast/roomsvc/room"
)

// anybody is who a message is from that does not say it: whoever holds the connection to
// NATS, which NATS has authenticated.
var anybody = proto.Identity{ID: "nats"}

// readCommand reads what came in on room.<g>: the payload and the headers of
// proto/record.go, all of which may be missing or forged.
func readCommand(msg *nats.Msg, to proto.Room, keys *seal.Keys, maxMessage int) (room.Command, *proto.Refusal) {
	c := room.Command{From: anybody, Content: proto.Content{Kind: proto.Text, Body: msg.Data}}
	kind, enc := "", ""
	for name, values := range msg.Header {
		if !strings.HasPrefix(name, "Rc-") {
			continue
		}
		if len(values) != 1 {
			return c, proto.Refuse(proto.BadRequest, "a header of the message comes twice")
		}
		value, bad := values[0], (*proto.Refusal)(nil)
		if value == "" {
			continue
		}
		switch name {
		case proto.HeaderFrom:
			c.From.ID, bad = value, proto.CheckID(value)
		case proto.HeaderName:
			c.From.Name, bad = value, proto.CheckName(value)
		case proto.HeaderKey:
			c.Key, bad = value, proto.CheckKey(value)
		case proto.HeaderType:
			c.Content.Type, bad = value, proto.CheckType(value)
		case proto.HeaderKind:
			kind = value
		case proto.HeaderEnc:
			enc = value
		}
		if bad != nil {
			return c, bad
		}
	}
	if enc != "" {
		plain, err := open(keys, enc, to, msg.Data)
		if err != nil {
			return c, err
		}
		c.Content.Body = plain
	}
	switch {
	case kind == "":
	case proto.Kind(kind) == proto.Text, proto.Kind(kind) == proto.Data, proto.Kind(kind) == proto.Bin:
		c.Content.Kind = proto.Kind(kind)
	case proto.Act(kind).Known():
		c.Act, c.Why = proto.Act(kind), string(c.Content.Body)
		if len(c.Why) > maxWhy || !utf8.ValidString(c.Why) {
			return c, proto.Refuse(proto.TooLarge, "why is UTF-8 text of at most %d bytes", maxWhy)
		}
		c.Content = proto.Content{}
		return c, nil
	default:
		return c, proto.Refuse(proto.BadRequest, "%s is text, data, bin or an act", proto.HeaderKind)
	}
	return c, checkBody(c.Content, maxMessage)
}

// maxWhy is how long the reason of an act may be, in bytes.
const maxWhy = 512

func open(keys *seal.Keys, version string, to proto.Room, sealed []byte) ([]byte, *proto.Refusal) {
	if keys == nil {
		return nil, proto.Refuse(proto.Unsupported, "the message is sealed and this server has no key; start roomsvc with --encryption-key-file")
	}
	if version != "1" {
		return nil, proto.Refuse(proto.Unsupported, "the message is sealed in a way this server does not know; upgrade it")
	}
	plain, err := keys.Open(to, "in", sealed)
	if err != nil {
		return nil, proto.Refuse(proto.BadRequest, "the message cannot be opened with the keys of this server")
	}
	return plain, nil
}

func checkBody(c proto.Content, maxMessage int) *proto.Refusal {
	if len(c.Body) > maxMessage {
		return proto.Refuse(proto.TooLarge, "the message has %d bytes, at most %d are allowed", len(c.Body), maxMessage)
	}
	switch c.Kind {
	case proto.Text:
		if !utf8.Valid(c.Body) {
			return proto.Refuse(proto.BadRequest, "text is not valid UTF-8; send bytes as bin")
		}
	case proto.Data:
		if err := proto.ValidJSON(c.Body); err != nil {
			return proto.Refuse(proto.BadRequest, "data is %v", err)
		}
	}
	return nil
}
