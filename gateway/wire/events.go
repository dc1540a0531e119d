package wire

import (
	"bytes"
	"net/http"
	"strings"

	"roomcast/proto"
)

// Kinds of messages that readers receive like events, but that are not in the log.
const (
	KindHello  proto.EventKind = "hello"
	KindGap    proto.EventKind = "gap"
	KindJoined proto.EventKind = "ok"    // the answer to a join
	KindEnded  proto.EventKind = "ended" // the reader is no longer in the room
	KindDrain  proto.EventKind = "drain"
)

// WantsEvents reports whether a request asks for Server-Sent Events, unless it is a WebSocket
// handshake. It follows the same rule as ParseRequest.
func WantsEvents(r *http.Request) bool {
	return r.Method == http.MethodGet && IsEvents(r.URL.Path)
}

// IsEvents reports whether path is a path for events: …/room/<group>/events for one room, or
// …/events for several rooms. The latter contains neither /room/ nor /api/.
func IsEvents(path string) bool {
	rest, found := strings.CutSuffix(path, "/events")
	if !found {
		return false
	}
	if strings.HasSuffix(rest[:strings.LastIndexByte(rest, '/')+1], "/room/") {
		return true
	}
	return !strings.Contains(path, "/room/") && !strings.Contains(path, "/api/")
}

// AppendEventStream appends the head of the answer to a request for events. The stream ends
// with the connection. The head tells proxies neither to store nor to buffer the stream.
func AppendEventStream(b []byte, origin string) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"+
		"X-Accel-Buffering: no\r\nConnection: close\r\n"...)
	return append(appendOrigin(b, origin), "\r\n"...)
}

// Events is the codec of readers of Server-Sent Events (WHATWG HTML, 9.2):
//
//	id: mf3k2a-58-1764234787123
//	event: message
//	data: {"room":"lobby","seq":58,…}
type Events struct{}

// AppendEvent appends an event. The event gets an id if a reader can resume from it.
func (Events) AppendEvent(b []byte, e *proto.Record) ([]byte, error) {
	if e.Seq > 0 || e.State.Epoch != "" || !e.State.At.IsZero() {
		b = append(b, "id: "...)
		b = append(proto.AppendEventID(b, e.State.Epoch, e.Seq, e.State.At), '\n')
	}
	b = append(b, "event: "...)
	b = append(b, eventName(e)...)
	return appendData(append(b, '\n'), e.Payload), nil
}

// eventName returns the name of an event: its kind. In the payload of a signal, a join or a
// leave, the name follows the room: {"room":"lobby","signal":…
func eventName(e *proto.Record) string {
	switch {
	case e.Kind != proto.Message:
		return string(e.Kind)
	case e.Seq > 0:
		return "message"
	}
	if at := len(`{"room":"","`) + len(e.Room.String()); at < len(e.Payload) {
		if name, _, found := bytes.Cut(e.Payload[at:], []byte(`"`)); found {
			return string(name)
		}
	}
	return "message"
}

// AppendText appends a message without a name.
func (Events) AppendText(b, text []byte) []byte { return appendData(b, text) }

// AppendClose appends the event that tells a reader why its stream ends.
func (Events) AppendClose(b []byte, code proto.CloseCode, reason string) []byte {
	return append(proto.AppendClosing(append(b, "event: close\ndata: "...), code, reason), "\n\n"...)
}

// AppendPing appends a comment.
func (Events) AppendPing(b []byte) []byte { return append(b, ":\n\n"...) }

// appendData appends the data of an event, line by line, and ends the event. It may change line
// breaks, because they are only white space in JSON.
func appendData(b, data []byte) []byte {
	for {
		b = append(b, "data: "...)
		i := bytes.IndexAny(data, "\r\n")
		if i < 0 {
			b = append(b, data...)
			return append(b, "\n\n"...)
		}
		b = append(append(b, data[:i]...), '\n')
		data = data[i+1:]
	}
}
