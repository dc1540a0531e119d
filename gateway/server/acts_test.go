package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

func TestActsOverHTTP(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	base := servertest.Serve(t, "--auth-key-file", servertest.File(t, secret), "--api-token-file", servertest.File(t, "the-operators-token"))
	token := func(id, rights string) string {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": id, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "rooms": map[string]string{"*": rights},
		}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + s
	}
	const operator = "Bearer the-operators-token"
	ann, mod := token("ann", "read say"), token("mod", "moderate")
	lobby := base + "api/rooms/lobby"
	for _, tt := range []struct {
		name, auth, method, path, body string
		status                         int
		part                           string
	}{
		{"a ban without the right", ann, "POST", "/ban", `{"member":"bob"}`, 403, "the right moderate"},
		{"an act that does not exist", operator, "POST", "/dance", "", 404, "not_found"},
		{"a ban of nobody", operator, "POST", "/ban", "", 400, "ban needs member"},
		{"a ban of a group that does not exist", operator, "POST", "/ban", `{"member":"*all"}`, 400, "bad_request"},
		{"a ban without an end that is a time", operator, "POST", "/ban", `{"member":"ann","for":"soon"}`, 400, "bad_request"},
		{"a ban for too short a time", operator, "POST", "/ban", `{"member":"ann","for":"10ms"}`, 400, "bad_request"},
		{"a ban for too long a time", operator, "POST", "/ban", `{"member":"ann","for":"99999h"}`, 400, "bad_request"},
		{"a ban that names another act", operator, "POST", "/ban", `{"member":"ann","act":"mute"}`, 400, "the path names the act"},
		{"a ban in another room", operator, "POST", "/ban", `{"member":"ann","room":"other"}`, 400, "different rooms"},
		{"a ban of oneself", mod, "POST", "/ban", `{"member":"mod"}`, 400, "yourself"},
		{"a kick that lasts", operator, "POST", "/kick", `{"member":"ann","for":"10m"}`, 400, "kick takes no for"},
		{"a kick of somebody who is not there", operator, "POST", "/kick", `{"member":"ann"}`, 404, "not_found"},
		{"a kick of all guests", operator, "POST", "/kick", `{"member":"*guests"}`, 400, "one member"},
		{"the end of a ban that does not exist", operator, "POST", "/unban", `{"member":"ann"}`, 404, "not_found"},
		{"slow without a time", operator, "POST", "/slow", `{}`, 400, "slow needs every"},
		{"slow that is too slow", operator, "POST", "/slow", `{"every":"25h"}`, 400, "bad_request"},

		{"a message before", ann, "POST", "/messages", "hi", 200, `"seq":1,`},
		{"a mute", mod, "POST", "/mute", `{"member":"ann","for":"10m","why":"loud"}`, 200, `"seq":2,`},
		{"a message of a muted member", ann, "POST", "/messages", "hi", 403, "muted"},
		{"the messages that a muted member reads", ann, "GET", "/messages", "", 200, `"kind":"muted","from":{"id":"mod"},"member":"ann","until":"`},
		{"a ban", mod, "POST", "/ban", `{"member":"ann","key":"b1"}`, 200, `"seq":3,`},
		{"the ban again", mod, "POST", "/ban", `{"member":"ann","key":"b1"}`, 200, `"seq":3,`},
		{"another ban under its key", mod, "POST", "/ban", `{"member":"bob","key":"b1"}`, 400, "bad_request"},
		{"a message of a banned member", ann, "POST", "/messages", "hi", 403, "banned"},
		{"the messages that a banned member reads", ann, "GET", "/messages", "", 403, "banned"},
		{"the members that a banned member sees", ann, "GET", "/members", "", 403, "banned"},
		{"the messages that others read", mod, "GET", "/messages", "", 200, `"seq":3,`},
		{"the end of the ban", operator, "POST", "/unban", `{"member":"ann"}`, 200, `"seq":4,`},
		{"the messages that ann reads then", ann, "GET", "/messages", "", 200, `"kind":"unbanned"`},
		{"an unmute", mod, "POST", "/unmute", `{"member":"ann"}`, 200, `"seq":5,`},
		{"an edit of an act", ann, "POST", "/edit", `{"seq":2,"text":"x"}`, 404, "not_found"},
		{"an edit without a text", ann, "POST", "/edit", `{"seq":1}`, 400, "edit needs text"},
		{"an edit without a seq", ann, "POST", "/edit", `{"text":"x"}`, 400, "edit needs seq"},
		{"an edit in another epoch", ann, "POST", "/edit", `{"seq":1,"text":"x","epoch":"nope"}`, 404, "not_found"},
		{"an edit of somebody else's message", token("bob", "say"), "POST", "/edit", `{"seq":1,"text":"x"}`, 403, "somebody else"},
		{"an edit", ann, "POST", "/edit", `{"seq":1,"text":"hi, all","key":"e1"}`, 200, `"seq":6,`},
		{"the edit again", ann, "POST", "/edit", `{"seq":1,"text":"hi, all","key":"e1"}`, 200, `"seq":6,`},
		{"the messages that others read after the edit", mod, "GET", "/messages?last=10", "", 200, `"text":"hi, all","edited":"`},
		{"a delete by somebody else", token("bob", "say"), "POST", "/delete", `{"seq":1}`, 403, "somebody else"},
		{"a delete without any right", token("bob", "read"), "POST", "/delete", `{"seq":1}`, 403, "the right say"},
		{"a delete", mod, "POST", "/delete", `{"seq":1,"why":"spam"}`, 200, `"seq":7,`},
		{"a second delete", mod, "POST", "/delete", `{"seq":1}`, 404, "not_found"},
		{"the messages that others read after the delete", mod, "GET", "/messages?last=10", "", 200, `"from":{"id":"ann"},"deleted":true}`},
		{"an edit of the deleted message", ann, "POST", "/edit", `{"seq":1,"text":"x"}`, 404, "not_found"},
		{"another mute", mod, "POST", "/mute", `{"member":"ann"}`, 200, `"seq":8,`},
		{"a message while muted again", ann, "POST", "/messages", "hi", 403, "muted"},
	} {
		header := []string{"Content-Type", "text/plain", "Authorization", tt.auth}
		if status, got := servertest.Call(t, tt.method, lobby+tt.path, tt.body, header...); status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.name, status, got, tt.status, tt.part)
		}
	}
}

// A kick is sent twice with the same key. The second answer equals the first, although the member
// has left the room by then.
func TestAKickIsAnsweredAgainUnderItsKey(t *testing.T) {
	base := servertest.Serve(t, "--api-token-file", servertest.File(t, "the-operators-token"))
	bob := servertest.Join(t, base, "room/lobby/", "roomcast.v1")
	frame, _ := servertest.Next(t, bob)
	_, rest, _ := strings.Cut(frame, `"you":{"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	kick := func(key string) (int, string) {
		return patient(t, "POST", base+"api/rooms/lobby/kick", `{"member":"`+id+`","key":"`+key+`"}`, "Authorization", "Bearer the-operators-token")
	}
	if status, first := kick("k1"); status != 200 || !strings.Contains(first, `"seq":1,`) {
		t.Fatalf("got %d %s", status, first)
	}
	for code := websocket.StatusCode(0); code != 4101; {
		if frame, code = servertest.Next(t, bob); code != 0 && code != 4101 {
			t.Fatalf("got %s, close code %d", frame, code)
		}
	}
	natstest.Eventually(t, "the member to be gone", func() bool {
		_, members := servertest.Call(t, "GET", base+"api/rooms/lobby/members", "", "Authorization", "Bearer the-operators-token")
		return strings.Contains(members, `"count":0`)
	})
	if status, again := kick("k1"); status != 200 || !strings.Contains(again, `"seq":1,`) || !strings.Contains(again, `"duplicate":true`) {
		t.Errorf("the kick again: got %d %s", status, again)
	}
	if status, other := kick("k2"); status != 404 || !strings.Contains(other, "not_found") {
		t.Errorf("another kick: got %d %s", status, other)
	}
}
