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
// proto/header.go, each of which may be missing or forged.
func readCommand(msg *nats.Msg, to proto.Room, keys *seal.Keys, maxMessage int) (room.Command, *proto.Refusal) {
	c := room.Command{From: anybody, Content: proto.Content{Kind: proto.Text, Body: msg.Data}}
	kind, enc, key, once := "", "", "", ""
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
			if c.From.ID, bad = unescape(name, value); bad == nil {
				bad = proto.CheckID(c.From.ID)
			}
		case proto.HeaderName:
			if c.From.Name, bad = unescape(name, value); bad == nil {
				bad = proto.CheckName(c.From.Name)
			}
		case proto.HeaderKey:
			key, bad = value, proto.CheckKey(value)
		case proto.HeaderOnce:
			once, bad = value, proto.CheckKey(value)
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
		plain, err := open(keys, enc, to, msg)
		if err != nil {
			return c, err
		}
		c.Content.Body = plain
	}
	if c.Key = key; key == "" {
		c.Key, c.Hidden = once, true
	}
	if c.Key != "" {
		c.Digests = keys.Digests(covered(kind, c.Content.Type, c.Content.Body))
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

func unescape(name, value string) (string, *proto.Refusal) {
	text, err := proto.UnescapeHeader(value)
	if err != nil {
		return "", proto.Refuse(proto.BadRequest, "header %s: %v", name, err)
	}
	return text, nil
}

// covered returns the part of a command that its key stands for.
func covered(kind, contentType string, body []byte) []byte {
	if kind == "" {
		kind = string(proto.Text)
	}
	b := make([]byte, 0, len(kind)+len(contentType)+len(body)+2)
	b = append(b, kind...)
	b = append(b, 0)
	b = append(b, contentType...)
	b = append(b, 0)
	return append(b, body...)
}

func open(keys *seal.Keys, version string, to proto.Room, msg *nats.Msg) ([]byte, *proto.Refusal) {
	if keys == nil {
		return nil, proto.Refuse(proto.Unsupported, "the message is sealed and this server has no key; start roomsvc with --encryption-key-file")
	}
	if version != seal.Mark {
		return nil, proto.Refuse(proto.Unsupported, "the message is sealed in a way this server does not know; upgrade it")
	}
	plain, err := keys.Open(to, seal.In, seal.Headers(msg.Header), msg.Data)
	if err != nil {
		return nil, proto.Refuse(proto.BadRequest, "the message cannot be opened with the keys of this server, or its headers were changed")
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
