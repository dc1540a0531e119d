package hub

import (
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// Encoding is how events become frames. Ephemerals and gaps reach JSON encodings only.
type Encoding uint8

// The encodings. Each has a deflated form beside it.
const (
	Text             Encoding = iota // stamp and text; binary messages as they are
	TextDeflated                     //
	JSON                             // the event as the log has it
	JSONDeflated                     //
	Verbatim                         // the message's body and nothing else, for protocol test suites
	VerbatimDeflated                 //
	encodings
)

// Deflated returns the compressed form of an encoding.
func (e Encoding) Deflated() Encoding { return e | 1 }

func (e Encoding) json() bool { return e&^1 == JSON }

// smallDeflate is the payload length in bytes below which compressing costs more than
// it saves.
const smallDeflate = 128

// encode appends one event's frame, and nothing if the encoding does not show the event.
// Text says where the content stands in json.
func (h *Hub) encode(b []byte, enc Encoding, json []byte, text proto.Span, stamp string) []byte {
	if enc.json() {
		return h.frame(b, enc, wire.OpText, json)
	}
	if text.Form == proto.SpanNone {
		return b
	}
	body, binary, err := text.Text(json)
	if err != nil {
		h.stats.Unreadable.Add(1)
		h.cfg.Log.Error("show event to text sessions", "error", err)
		return b
	}
	if binary {
		return h.frame(b, enc, wire.OpBinary, body)
	}
	if enc&^1 == Verbatim {
		return h.frame(b, enc, wire.OpText, body)
	}
	if enc&1 == 0 {
		b = wire.AppendHeader(b, wire.OpText, len(stamp)+1+len(body))
		b = append(b, stamp...)
		b = append(b, ' ')
		return append(b, body...)
	}
	line := make([]byte, 0, len(stamp)+1+len(body))
	line = append(line, stamp...)
	line = append(line, ' ')
	return h.frame(b, enc, wire.OpText, append(line, body...))
}

func (h *Hub) frame(b []byte, enc Encoding, op wire.Op, payload []byte) []byte {
	if enc&1 == 1 && len(payload) >= smallDeflate {
		return h.deflater.AppendDeflated(b, op, payload)
	}
	b = wire.AppendHeader(b, op, len(payload))
	return append(b, payload...)
}
