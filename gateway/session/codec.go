package session

import (
	"slices"

	"roomcast/gateway/hub"
	"roomcast/gateway/wire"
)

// The formats of sessions. The number after a format means the same format with compression. For
// example, formatJSON+1 is JSON with compression. The stream wire.Streams[i] has the format formatStreams + i.
const (
	formatText hub.Format = 2 * iota
	formatJSON
	formatVerbatim
	formatStreams
)

// newCodecs returns the codecs of one loop, by format.
func newCodecs() (list []wire.Codec) {
	plain, deflated := wire.NewFrames(nil), wire.NewFrames(new(wire.Deflater))
	list = []wire.Codec{
		formatText: wire.Text{Frames: plain}, wire.Text{Frames: deflated},
		formatJSON: wire.JSON{Frames: plain}, wire.JSON{Frames: deflated},
		formatVerbatim: wire.Text{Frames: plain, Verbatim: true}, wire.Text{Frames: deflated, Verbatim: true},
	}
	for _, s := range wire.Streams {
		list = append(list, s)
	}
	return list
}

// formatConfigs describes the codecs to the hub.
func formatConfigs(codecs []wire.Codec) (list []hub.FormatConfig) {
	for i, c := range codecs {
		list = append(list, hub.FormatConfig{Codec: c, Full: hub.Format(i)&^1 == formatJSON || hub.Format(i) >= formatStreams})
	}
	return list
}

// formatOf returns the format of a session that begins with the request.
func formatOf(s *session, req *wire.Request) (f hub.Format) {
	switch {
	case req.Stream != nil:
		return formatStreams + hub.Format(slices.Index(wire.Streams, req.Stream))
	case s.kind == jsonKind:
		f = formatJSON
	case s.kind == verbatim:
		f = formatVerbatim
	}
	if s.reader.Deflate {
		f++
	}
	return f
}
