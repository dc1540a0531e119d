package wire

import "roomcast/proto"

// Framing says how messages become bytes, in both directions.
type Framing uint8

// The framings. A frame for one connection only, such as an answer, is never compressed.
const (
	Plain    Framing = iota // WebSocket frames
	Deflated                // WebSocket frames; messages in rooms are compressed
	Framings = iota         // the number of framings
)

// Frames makes the frames of sessions with one framing. It contains the methods that the codecs of
// JSON sessions and of text sessions share. One goroutine owns it.
type Frames struct {
	deflater *Deflater // nil = Plain
}

// NewFrames returns the Frames for the sessions of a loop, by framing.
func NewFrames() [Framings]Frames { return [...]Frames{Plain: {}, Deflated: {new(Deflater)}} }

// AppendText appends a text message that is sent to one connection only.
func (f Frames) AppendText(b, text []byte) []byte { return AppendFrame(b, OpText, text) }

// AppendClose appends a close frame; see the function [AppendClose].
func (f Frames) AppendClose(b []byte, code proto.CloseCode, reason string) []byte {
	return AppendClose(b, code, reason)
}

// AppendPing appends a ping without a payload.
func (f Frames) AppendPing(b []byte) []byte { return AppendFrame(b, OpPing, nil) }

func (f Frames) message(b []byte, op Op, payload []byte) []byte {
	if f.deflater != nil {
		return f.deflater.AppendDeflated(b, op, payload)
	}
	return AppendFrame(b, op, payload)
}

// JSON is the codec of JSON sessions. They receive every event in the form that is in the log.
type JSON struct{ Frames }

// AppendEvent appends the event as a text message.
func (c JSON) AppendEvent(b []byte, e *proto.Record) ([]byte, error) {
	return c.message(b, OpText, e.Payload), nil
}

// Text is the codec of text sessions, which receive only messages. A text message consists of a
// stamp and the text. A binary message is sent unchanged.
type Text struct {
	Frames
	Verbatim bool // leave out the stamp, for protocol test suites
}

// AppendEvent appends a message. It appends nothing for any other event.
func (c Text) AppendEvent(b []byte, e *proto.Record) ([]byte, error) {
	if e.Text.Form == proto.SpanNone || e.Text.Form == 0 {
		return b, nil
	}
	body, binary, err := e.Text.Text(e.Payload)
	switch {
	case err != nil:
		return b, err
	case binary:
		return c.message(b, OpBinary, body), nil
	case c.Verbatim:
		return c.message(b, OpText, body), nil
	case c.deflater == nil:
		b = AppendHeader(b, OpText, len(e.Stamp)+1+len(body))
		b = append(append(b, e.Stamp...), ' ')
		return append(b, body...), nil
	}
	line := make([]byte, 0, len(e.Stamp)+1+len(body))
	line = append(append(line, e.Stamp...), ' ')
	return c.message(b, OpText, append(line, body...)), nil
}
