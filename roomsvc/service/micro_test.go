package service

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
)

func TestMicroAPI(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		_, stop := startService(t, srv)
		defer stop()
		_, stopSecond := startService(t, srv)
		defer stopSecond()
		nc := srv.Connect(t)
		request := func(subject, body string) proto.Reply {
			t.Helper()
			got, err := nc.Request(subject, []byte(body), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			r, err := proto.ParseReply(got.Data)
			if err != nil {
				t.Fatalf("%s: %v", got.Data, err)
			}
			return r
		}
		for _, room := range rooms {
			say(t, nc, room, "u", "1", "hi")
			body := `{"room":"` + room + `","why":"done for today"}`
			if r := request(proto.SubjectClose, body); r.Seq != 2 {
				t.Errorf("close %s: got %+v, want seq 2", room, r)
			}
			if r := say(t, nc, room, "u", "2", "hi"); code(r.Refusal) != proto.RoomClosed {
				t.Errorf("say in closed %s: got %+v", room, r)
			}
			if r := request(proto.SubjectReopen, body); r.Seq != 3 {
				t.Errorf("reopen %s: got %+v, want seq 3", room, r)
			}
		}
		for body, want := range map[string]proto.Code{
			``:                proto.BadRequest,
			`lobby`:           proto.BadRequest,
			`{"room":"a b"}`:  proto.BadRoom,
			`{"room":">"}`:    proto.BadRoom,
			`{"room":["a"]}`:  proto.BadRequest,
			`{"why":"no"}`:    proto.BadRoom,
			`{"room":"room"}`: proto.BadRequest, // the room is not closed
		} {
			if r := request(proto.SubjectReopen, body); code(r.Refusal) != want {
				t.Errorf("reopen %s: got %+v, want %s", body, r, want)
			}
		}
		if r := request(proto.SubjectClose, `{"room":"lobby","why":"`+strings.Repeat("x", 1000)+`"}`); code(r.Refusal) != proto.TooLarge {
			t.Errorf("close with a reason that is too long: got %+v", r)
		}
		got, err := nc.Request(proto.SubjectInfo, nil, 5*time.Second)
		var i info
		if err == nil {
			err = json.Unmarshal(got.Data, &i)
		}
		if err != nil || i.Instance == "" || i.Partitions == 0 || !i.Ready {
			t.Errorf("info: got %+v, %v", i, err)
		}
		ping, err := nc.Request(micro.APIPrefix+".PING.roomsvc", nil, 5*time.Second)
		if err != nil || !strings.Contains(string(ping.Data), `"name":"roomsvc"`) {
			t.Errorf("ping: got %v, %v", ping, err)
		}
	})
}

// The connection to NATS may deliver a request after Run has begun to stop. The service must not
// begin to handle it, because nobody would wait for its end.
func TestServiceThatHasStoppedStartsNothing(t *testing.T) {
	s, stop := startService(t, startNATS(t, true))
	stop()
	if (api{s}).start(func(context.Context) {}) {
		t.Error("a request is handled after the end of Run")
	}
}
