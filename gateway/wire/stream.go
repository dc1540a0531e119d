package wire

import (
	"net/http"
	"strings"

	"roomcast/proto"
)

// Codec encodes everything that a client receives after the handshake.
type Codec interface {
	AppendEvent(b []byte, e *proto.Record) ([]byte, error)
	AppendText(b, text []byte) []byte
	AppendClose(b []byte, code proto.CloseCode, reason string) []byte
	AppendPing(b []byte) []byte
}

// Stream is a transport in one direction: the client sends a GET request, and the answer
// contains events until the connection ends. A Stream is immutable.
type Stream struct {
	Codec
	Name        string // the last element of its paths, see [StreamOf]
	ContentType string
}

// Streams are all transports in one direction. To add one, write its codec and name it here.
var Streams = []*Stream{
	{Events{}, "events", "text/event-stream"},
}

// Kinds of messages that a reader of a stream receives in the form of events. They are not in
// the log.
const (
	KindHello  proto.EventKind = "hello"
	KindGap    proto.EventKind = "gap"
	KindJoined proto.EventKind = "ok"    // the answer to a join
	KindEnded  proto.EventKind = "ended" // the reader is no longer in the room
	KindDrain  proto.EventKind = "drain"
)

// StreamOf returns the stream to which a path belongs, or nil. The path is …/room/<group>/<name>
// for one room, or …/<name> for several rooms. The second form contains neither /room/ nor /api/.
func StreamOf(path string) *Stream {
	for _, s := range Streams {
		rest, found := strings.CutSuffix(path, "/"+s.Name)
		if !found {
			continue
		}
		if strings.HasSuffix(rest[:strings.LastIndexByte(rest, '/')+1], "/room/") ||
			!strings.Contains(path, "/room/") && !strings.Contains(path, "/api/") {
			return s
		}
	}
	return nil
}

// WantsStream reports whether a request is for a stream. It must not be called for a WebSocket
// handshake. It uses the same rule as ParseRequest.
func WantsStream(r *http.Request) bool {
	return r.Method == http.MethodGet && StreamOf(r.URL.Path) != nil
}

// AppendHead appends the head of the answer, which pages of the origin may read. It tells
// proxies not to store or buffer the stream.
func (s *Stream) AppendHead(b []byte, origin string) []byte {
	b = append(append(b, "HTTP/1.1 200 OK\r\nContent-Type: "...), s.ContentType...)
	b = append(b, "\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\n"...)
	return append(appendOrigin(b, origin), "\r\n"...)
}
