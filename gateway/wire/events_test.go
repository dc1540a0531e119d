package wire_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"roomcast/gateway/wire"
	"roomcast/proto"
)

func TestEventsAreNamedAndHaveAnIDToResumeFrom(t *testing.T) {
	at := time.UnixMilli(1764234787123)
	room := proto.MustRoom("lobby")
	for _, tt := range []struct {
		e    proto.Record
		want string
	}{
		{proto.Record{Room: room, Seq: 58, State: proto.State{Epoch: "mf3k2a", At: at}, Payload: []byte(`{"seq":58}`)},
			"id: mf3k2a-58-1764234787123\nevent: message\ndata: {\"seq\":58}\n\n"},
		{proto.Record{Room: room, Seq: 9, Kind: proto.Closed, State: proto.State{Epoch: "e"}, Payload: []byte(`{}`)},
			"id: e-9\nevent: closed\ndata: {}\n\n"},
		{proto.Record{Room: room, Kind: wire.KindGap, State: proto.State{Epoch: "e"}, Payload: []byte(`{}`)},
			"id: e-0\nevent: gap\ndata: {}\n\n"},
		{proto.Record{Room: room, Payload: proto.AppendSignal(nil, room, "typing", proto.Identity{ID: "a", Name: "A"}, nil)},
			"event: signal\ndata: {\"room\":\"lobby\",\"signal\":{\"type\":\"typing\",\"from\":{\"id\":\"a\",\"name\":\"A\"}}}\n\n"},
		{proto.Record{Room: room, Payload: []byte(`{"room":"lobby","left":{}}`)},
			"event: left\ndata: {\"room\":\"lobby\",\"left\":{}}\n\n"},
		{proto.Record{Room: room, Seq: 1, State: proto.State{Epoch: "e"}, Payload: []byte("{\"data\":\r\n[\n]}")},
			"id: e-1\nevent: message\ndata: {\"data\":\ndata: \ndata: [\ndata: ]}\n\n"},
	} {
		if got, err := (wire.Events{}).AppendEvent(nil, &tt.e); err != nil || string(got) != tt.want {
			t.Errorf("got %q, %v, want %q", got, err, tt.want)
		}
	}
	if got := string((wire.Events{}).AppendClose(nil, 4000, `too "slow"`)); got != "event: close\ndata: {\"code\":4000,\"reason\":\"too \\\"slow\\\"\"}\n\n" {
		t.Errorf("got the close event %q", got)
	}
}

// ParseRequest and WantsStream must find the same requests for events. Otherwise an event loop and net/http
// could pass a request to each other again and again.
func TestParseRequestAndWantsStreamFindTheSameRequests(t *testing.T) {
	for target, want := range map[string]bool{
		"/room/lobby/events":                     true,
		"/chat/room/lobby/events?since=1":        true,
		"/room/%E8%81%8A%E5%A4%A9/events":        true,
		"http://localhost/room/lobby/events":     true,
		"/room/lobby/events/":                    false,
		"/room/events":                           false,
		"/room/lobby/":                           false,
		"/room/a/b/events":                       false,
		"/events":                                true,
		"/chat/events?room=lobby":                true,
		"/api/rooms/lobby/events":                false,
		"/room//events":                          true, // refused because of its room
		"/api/rooms/lobby/messages?x=/events":    false,
		"/elsewhere?x=/room/lobby/events":        false,
		"/room/lobby%2Fevents":                   true,
		"/room/lobby%2Fevents/events":            false,
		"http://localhost/?q=/room/lobby/events": false,
	} {
		for _, method := range []string{"GET", "POST"} {
			want := want && method == "GET"
			req, n, err := wire.ParseRequest([]byte(method+" "+target+" HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: e-1\r\n\r\n"), wire.MaxRequest)
			if err != nil || n == 0 || (req.Stream != nil) != want {
				t.Errorf("%s %s: got %v, %v, want %v", method, target, req.Stream, err, want)
			}
			if want && string(req.LastEventID) != "e-1" {
				t.Errorf("%s: got the Last-Event-ID %q", target, req.LastEventID)
			}
			u, err := url.ParseRequestURI(target)
			if err != nil {
				t.Fatal(err)
			}
			if got := wire.WantsStream(&http.Request{Method: method, URL: u}); got != want {
				t.Errorf("WantsStream of %s %s: got %v, want %v", method, target, got, want)
			}
		}
	}
}

func TestEventIDsAreParsedAsTheyAreWritten(t *testing.T) {
	at := time.UnixMilli(1764234787123).UTC()
	for id, want := range map[string]proto.From{
		"e-58-1764234787123": {HasSince: true, Since: 58, Epoch: "e", At: at},
		"e-58":               {HasSince: true, Since: 58, Epoch: "e"},
		"-0":                 {HasSince: true},
	} {
		if got, err := proto.ParseEventID(id); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", id, got, err, want)
		}
		if got := string(proto.AppendEventID(nil, want.Epoch, want.Since, want.At)); got != id {
			t.Errorf("got the id %s, want %s", got, id)
		}
	}
	for _, id := range []string{"", "e", "58", "e-", "e-x", "e--1", "e-1-", "e-1-x", "e-1-2-3", "e-18446744073709551616"} {
		if got, err := proto.ParseEventID(id); err == nil {
			t.Errorf("%q: got %+v, want a refusal", id, got)
		}
	}
}
