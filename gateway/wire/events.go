package wire

import (
	"bytes"
	"net/http"
	"strings"

	"roomcast/proto"
)

// Kinds of messages that a reader of Server-Sent Events receives in the form of events. They are
// not in the log.
const (
	KindHello  proto.EventKind = "hello"
	KindGap    proto.EventKind = "gap"
	KindJoined proto.EventKind = "ok"    // the answer to a join
	KindEnded  proto.EventKind = "ended" // the reader is no longer in the room
	KindDrain  proto.EventKind = "drain"
)

// WantsEvents reports whether a request is for Server-Sent Events. It must not be called for a
// WebSocket handshake. It uses the same rule as ParseRequest.
func WantsEvents(r *http.Request) bool {
	return r.Method == http.MethodGet && IsEvents(r.URL.Path)
}

// IsEvents reports whether a request for this path is for Server-Sent Events. The path is
// …/room/<group>/events for one room, or …/events for several rooms. The second form contains
// neither /room/ nor /api/.
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

// AppendEventStream appends the head of the answer to a request for events. The stream ends when
// the connection ends. The head tells proxies not to store or buffer the stream.
func AppendEventStream(b []byte, origin string) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"+
		"X-Accel-Buffering: no\r\nConnection: close\r\n"...)
	return append(appendOrigin(b, origin), "\r\n"...)
}

// Events is the codec for readers of Server-Sent Events (WHATWG HTML, 9.2). An event looks like
// this:
//
//	id: mf3k2a-58-1764234787123
//	event: message
//	data: {"room":"lobby","seq":58,…}
type Events struct{}

// AppendEvent appends an event. The event has an id if a reader can resume after it.
func (Events) AppendEvent(b []byte, e *proto.Record) ([]byte, error) {
	if e.Seq > 0 || e.State.Epoch != "" || !e.State.At.IsZero() {
		b = append(b, "id: "...)
		b = append(proto.AppendEventID(b, e.State.Epoch, e.Seq, e.State.At), '\n')
	}
	b = append(b, "event: "...)
	b = append(b, eventName(e)...)
	return appendData(append(b, '\n'), e.Payload), nil
}

// eventName returns the name of an event, which is its kind. A signal, a join and a leave have
// no kind. Their payload contains the name after the room: {"room":"lobby","signal":…
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

// AppendClose appends an event that tells a reader why its stream ends.
func (Events) AppendClose(b []byte, code proto.CloseCode, reason string) []byte {
	return append(proto.AppendClosing(append(b, "event: close\ndata: "...), code, reason), "\n\n"...)
}

// AppendPing appends a comment, which readers ignore.
func (Events) AppendPing(b []byte) []byte { return append(b, ":\n\n"...) }

// appendData appends data as the data of an event, line by line, and ends the event. It may
// change line breaks in data. In JSON, they are only white space.
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
