package server_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/client"
	"roomcast/gateway/server/servertest"
	"roomcast/proto"
)

// A room name must mean the same room over WebSocket, HTTP and NATS, and in every spelling of
// the URL. To achieve this, the gateway decodes a name exactly once.
func TestRoomNameMeansTheSameRoomEverywhere(t *testing.T) {
	base := servertest.Serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URLs: []string{base}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, spellings := range map[string][]string{
		"user.42":            {"user.42", "user%2E42", "%75ser.42"},
		"org:5":              {"org:5", "org%3A5"},
		"a@b+c~d=e-f_1.g":    {"a@b+c~d=e-f_1.g", "a%40b%2Bc%7Ed%3De%2Df%5F1%2Eg"},
		"re\u0301sume\u0301": {"re%CC%81sume%CC%81", "r%65%cc%81sume%cc%81"},
		"\u00e9":             {"%C3%A9"}, // not the same name as e followed by a combining accent
		"聊天室.1":              {url.PathEscape("聊天室.1")},
	} {
		room := proto.MustRoom(name)
		if _, err := c.Join(ctx, room, proto.From{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, spelling := range spellings {
			member := servertest.Join(t, base, "room/"+spelling+"/")
			for what, path := range map[string]string{"history": "/messages?last=1", "members": "/members"} {
				if status, body := servertest.Call(t, "GET", base+"api/rooms/"+spelling+path, ""); status != 200 || what == "history" && !strings.Contains(body, `"room":"`+name+`"`) {
					t.Errorf("%s as %s: %s: got %d %s", name, spelling, what, status, body)
				}
			}
			if _, err := c.Say(ctx, room, client.Text("to "+spelling)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			_, frame, err := member.Read(ctx)
			for err == nil && !strings.Contains(string(frame), "to "+spelling) {
				_, frame, err = member.Read(ctx)
			}
			if err != nil {
				t.Errorf("%s as %s: %v", name, spelling, err)
			}
			if status, _ := servertest.Call(t, "GET", base+"room/"+spelling, ""); status != 426 {
				t.Errorf("%s as %s: got %d for a plain request, want 426", name, spelling, status)
			}
		}
	}
	for _, spelling := range []string{"user%252E42", "a%2Fb", "a..b", "%CC%81a", "a%20b", "a%2Ab", "."} {
		if status, body := servertest.Call(t, "GET", base+"api/rooms/"+spelling+"/messages", ""); status == 200 {
			t.Errorf("%s: got %d %s, want a refusal", spelling, status, body)
		}
	}
}
