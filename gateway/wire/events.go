package wire

import (
	"bytes"

	"roomcast/proto"
)

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
