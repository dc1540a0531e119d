package session

import (
	"slices"

	"roomcast/gateway/hub"
	"roomcast/gateway/wire"
)

// The formats of sessions. A session with the framing f has the format formatText + f, formatJSON + f
// or formatVerbatim + f. The stream wire.Streams[i] has the format formatStreams + i.
const (
	formatText hub.Format = wire.Framings * iota
	formatJSON
	formatVerbatim
	formatStreams
)

// newCodecs returns the codecs of one loop, by format.
func newCodecs() (list []wire.Codec) {
	list = make([]wire.Codec, formatStreams)
	for i, frames := range wire.NewFrames() {
		f := hub.Format(i)
		list[formatText+f], list[formatJSON+f] = wire.Text{Frames: frames}, wire.JSON{Frames: frames}
		list[formatVerbatim+f] = wire.Text{Frames: frames, Verbatim: true}
	}
	for _, s := range wire.Streams {
		list = append(list, s)
	}
	return list
}

// formatConfigs describes the codecs to the hub.
func formatConfigs(codecs []wire.Codec) (list []hub.FormatConfig) {
	for _, c := range codecs {
		_, messages := c.(wire.Text)
		list = append(list, hub.FormatConfig{Codec: c, Full: !messages})
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
	return f + hub.Format(s.reader.Framing)
}
