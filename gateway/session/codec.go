package session

import (
	"roomcast/gateway/hub"
	"roomcast/gateway/wire"
)

// codec encodes all bytes that open sessions of one format receive.
type codec interface {
	hub.Codec
	// AppendPing appends the bytes that keep an idle connection alive.
	AppendPing(b []byte) []byte
}

// The formats of sessions. The number after a format means the same format with compression. For
// example, formatJSON+1 is JSON with compression. Only formatEvents has no such number.
const (
	formatText hub.Format = 2 * iota
	formatJSON
	formatVerbatim
	formatEvents
)

// newCodecs returns the codecs of one loop, by format.
func newCodecs() []codec {
	list, deflater := make([]codec, 0, formatEvents+1), new(wire.Deflater)
	for _, frames := range []func(wire.Frames) codec{
		func(f wire.Frames) codec { return wire.Text{Frames: f} },
		func(f wire.Frames) codec { return wire.JSON{Frames: f} },
		func(f wire.Frames) codec { return wire.Text{Frames: f, Verbatim: true} },
	} {
		list = append(list, frames(wire.NewFrames(nil)), frames(wire.NewFrames(deflater)))
	}
	return append(list, wire.Events{})
}

// formatConfigs describes the codecs to the hub.
func formatConfigs(codecs []codec) (list []hub.FormatConfig) {
	for i, c := range codecs {
		list = append(list, hub.FormatConfig{Codec: c, Full: hub.Format(i)&^1 == formatJSON || hub.Format(i) == formatEvents})
	}
	return list
}

// formatOf returns the format of a session.
func formatOf(s *session) (f hub.Format) {
	switch s.kind {
	case jsonKind:
		f = formatJSON
	case verbatim:
		f = formatVerbatim
	case events, poll:
		return formatEvents
	}
	if s.reader.Deflate {
		f++
	}
	return f
}
