package hub

import (
	"fmt"
	"log/slog"

	"roomcast/gateway/hub/ring"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// Codec encodes for one transport. A hub calls it on its loop only.
type Codec interface {
	// AppendEvent appends an encoded event, signal or gap. It appends nothing if the format does
	// not show it.
	AppendEvent(b []byte, e *proto.Record) ([]byte, error)
	// AppendText appends a message for one connection alone.
	AppendText(b, text []byte) []byte
	// AppendClose appends the last bytes of a connection.
	AppendClose(b []byte, code proto.CloseCode, reason string) []byte
}

// Format is an index of Config.Formats: one way in which connections are shown events.
type Format uint8

// FormatConfig describes a format.
type FormatConfig struct {
	Codec
	// Full says that the format shows signals and gaps. Members of other formats see only
	// messages: if they miss one, their session has to end.
	Full bool
}

// away is the cursor of a member that is served from the log.
const away = ring.Away

// encoder makes frames. It is owned by the loop.
type encoder struct {
	formats []FormatConfig
	stats   *Stats
	slog    *slog.Logger
	scratch []byte
	record  proto.Record // the gap being encoded
}

// append appends the frame of an event.
func (e *encoder) append(b []byte, format Format, rec *proto.Record) []byte {
	b, err := e.formats[format].AppendEvent(b, rec)
	if err != nil {
		e.stats.Unreadable.Add(1)
		e.slog.Error("show event", "room", rec.Room.String(), "seq", rec.Seq, "error", err)
	}
	return b
}

// event returns the frame of an event, valid until the next call of the encoder.
func (e *encoder) event(format Format, rec *proto.Record) []byte {
	e.scratch = e.append(e.scratch[:0], format, rec)
	return e.scratch
}

// gap returns the frame that announces a gap in a room of the given epoch. The frame has the seq of
// the last missing event, so a client that resumes continues behind the gap.
func (e *encoder) gap(format Format, g *proto.Gap, epoch string) []byte {
	e.record = proto.Record{Room: g.Room, Seq: g.To, Kind: wire.KindGap, State: proto.State{Epoch: epoch}, Payload: g.AppendJSON(nil)}
	return e.event(format, &e.record)
}

// text returns the frame of a message for one connection alone.
func (e *encoder) text(format Format, text []byte) []byte {
	e.scratch = e.formats[format].AppendText(e.scratch[:0], text)
	return e.scratch
}

// close returns the last frame of a connection.
func (e *encoder) close(format Format, code proto.CloseCode, reason string) []byte {
	e.scratch = e.formats[format].AppendClose(e.scratch[:0], code, reason)
	return e.scratch
}

// appendNotice appends the line that tells a text session of a gap behind its since. A message
// begins with its time, so no message looks like this line.
func appendNotice(b []byte, g *proto.Gap) []byte {
	switch {
	case g.Reason == proto.GapReset:
		return append(b, "[this room has a new numbering; its oldest messages follow]"...)
	case g.From == g.To:
		return fmt.Appendf(b, "[message %d cannot be shown any more]", g.From)
	}
	return fmt.Appendf(b, "[messages %d to %d cannot be shown any more]", g.From, g.To)
}
