package hub

import (
	"fmt"
	"log/slog"

	"roomcast/gateway/hub/ring"
	"roomcast/gateway/wire"
	"roomcast/proto"
)

// Codec encodes events and messages for one transport. The hub calls it only on the hub's loop.
type Codec interface {
	// AppendEvent appends an encoded event, signal or gap to b. It appends nothing if the format
	// does not include this kind of event.
	AppendEvent(b []byte, e *proto.Record) ([]byte, error)
	// AppendText appends an encoded message that is for one connection only.
	AppendText(b, text []byte) []byte
	// AppendClose appends the last bytes that a connection receives.
	AppendClose(b []byte, code proto.CloseCode, reason string) []byte
}

// Format is an index of Config.Formats. It says in which format a connection receives events.
type Format uint8

// FormatConfig describes a format.
type FormatConfig struct {
	Codec
	// Full means that the format includes signals and gaps. Other formats contain only messages.
	// If a member with such a format misses a message, its session must end.
	Full bool
}

// away is the cursor of a member that is served from the log.
const away = ring.Away

// encoder makes frames. The loop owns it.
type encoder struct {
	formats []FormatConfig
	stats   *Stats
	slog    *slog.Logger
	scratch []byte
	record  proto.Record // scratch space for a gap
}

// append appends the frame of an event to b.
func (e *encoder) append(b []byte, format Format, rec *proto.Record) []byte {
	b, err := e.formats[format].AppendEvent(b, rec)
	if err != nil {
		e.stats.Unreadable.Add(1)
		e.slog.Error("encode event", "room", rec.Room.String(), "seq", rec.Seq, "error", err)
	}
	return b
}

// event returns the frame of an event. The frame is valid until the next call of the encoder.
func (e *encoder) event(format Format, rec *proto.Record) []byte {
	e.scratch = e.append(e.scratch[:0], format, rec)
	return e.scratch
}

// gap returns the frame that announces a gap in a room with the given epoch. The frame has the
// seq of the last missing event. So a client that resumes from this seq continues after the gap.
func (e *encoder) gap(format Format, g *proto.Gap, epoch string) []byte {
	e.record = proto.Record{Room: g.Room, Seq: g.To, Kind: wire.KindGap, State: proto.State{Epoch: epoch}, Payload: g.AppendJSON(nil)}
	return e.event(format, &e.record)
}

// text returns the frame of a message that is for one connection only.
func (e *encoder) text(format Format, text []byte) []byte {
	e.scratch = e.formats[format].AppendText(e.scratch[:0], text)
	return e.scratch
}

// close returns the last frame of a connection.
func (e *encoder) close(format Format, code proto.CloseCode, reason string) []byte {
	e.scratch = e.formats[format].AppendClose(e.scratch[:0], code, reason)
	return e.scratch
}

// appendNotice appends the notice with which the replay of a text session begins if messages are
// missing. No message looks like this notice, because every message begins with its time.
func appendNotice(b []byte, g *proto.Gap) []byte {
	switch {
	case g.Reason == proto.GapReset:
		return append(b, "[this room has a new numbering; its oldest messages follow]"...)
	case g.From == g.To:
		return fmt.Appendf(b, "[message %d cannot be shown any more]", g.From)
	}
	return fmt.Appendf(b, "[messages %d to %d cannot be shown any more]", g.From, g.To)
}
