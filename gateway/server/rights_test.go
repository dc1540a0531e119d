package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/gateway/server/servertest"
)

// A user's token opens the HTTP API with the rights of its holder.
func TestAPIWithTheTokenOfAUser(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	base := servertest.Serve(t, "--auth-key-file", servertest.File(t, secret), "--api-token-file", servertest.File(t, "the-operators-token"))
	token := func(rooms map[string]string, lasts time.Duration) string {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": "ann", "exp": time.Now().Add(lasts).Unix(), "rooms": rooms,
		}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + s
	}
	ann := token(map[string]string{"lobby": "read say", "news": "read", "desk": "moderate"}, time.Hour)
	const operator = "Bearer the-operators-token"
	rooms := base + "api/rooms"
	for _, tt := range []struct {
		name, auth, method, path string
		status                   int
		part                     string
	}{
		{"the operator, as anybody", operator, "POST", "/secret/messages?from=boss", 200, `"seq":1`},
		{"the operator in the lobby", operator, "POST", "/lobby/messages", 200, `"seq":1`},
		{"a reserved sender", operator, "POST", "/lobby/messages?from=anon-a", 403, "only Roomcast itself uses"},
		{"say", ann, "POST", "/lobby/messages", 200, `"seq":2`},
		{"say as another id", ann, "POST", "/lobby/messages?from=boss", 403, "leave out from and name"},
		{"say under another name", ann, "POST", "/lobby/messages?name=Boss", 403, "leave out from and name"},
		{"say with read alone", ann, "POST", "/news/messages", 403, "the right say"},
		{"say with moderate alone", ann, "POST", "/desk/messages", 403, "the right say"},
		{"say without any right", ann, "POST", "/secret/messages", 403, "the right say"},
		{"read", ann, "GET", "/lobby/messages", 200, `"from":{"id":"ann"}`},
		{"read without the right", ann, "GET", "/secret/messages", 403, "the right read"},
		{"read an empty room without the right", ann, "GET", "/nothing/messages", 403, "the right read"},
		{"members", ann, "GET", "/lobby/members", 200, `"count":0`},
		{"members without the right", ann, "GET", "/secret/members", 403, "the right read"},
		{"close without the right", ann, "POST", "/lobby/close", 403, "the right moderate"},
		{"close", ann, "POST", "/desk/close", 200, `"seq":1`},
		{"a bad name before the right", ann, "GET", "/a..b/messages", 400, "bad_room"},
		{"the list", ann, "GET", "", 200, `{"room":"lobby","messages":2}`},
		{"no token", "", "GET", "/lobby/messages", 401, "unauthorized"},
		{"another scheme", "Basic YTpi", "GET", "/lobby/messages", 401, "unauthorized"},
		{"an expired token", token(nil, -time.Minute), "GET", "/lobby/messages", 401, "expired"},
		{"a bad token", "Bearer a.b.c", "GET", "/lobby/messages", 401, "not a JSON Web Token"},
	} {
		header := []string{"Content-Type", "text/plain"}
		if tt.auth != "" {
			header = append(header, "Authorization", tt.auth)
		}
		body := "hi"
		if strings.HasSuffix(tt.path, "/close") {
			body = ""
		}
		status, got := servertest.Call(t, tt.method, rooms+tt.path, body, header...)
		if status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.name, status, got, tt.status, tt.part)
		}
		if tt.name == "the list" && strings.Contains(got, "secret") {
			t.Errorf("the list names a room that ann may not read: %s", got)
		}
	}
	for range 20 {
		servertest.Call(t, "GET", rooms, "", "Authorization", "Bearer wrong.wrong.wrong")
	}
	if status, got := servertest.Call(t, "GET", rooms, "", "Authorization", ann); status != http.StatusTooManyRequests {
		t.Errorf("after too many bad tokens: got %d %s, want 429", status, got)
	}
	if status, got := servertest.Call(t, "GET", rooms, "", "Authorization", operator); status != http.StatusOK {
		t.Errorf("the operator after bad tokens of the same address: got %d %s, want 200", status, got)
	}
}

// A token of the token file has the rights of its line, speaks as api:<name>, and for another id
// only with the right as. A page of another origin may not show it.
func TestAPITokensHaveTheRightsOfTheirLine(t *testing.T) {
	base := servertest.Serve(t, "--allow-origin", "https://shop.example.org", "--api-token-file", servertest.File(t, `
root root-0123456789abcdef admin
shop shop-0123456789abcdef read:shop-* say:shop-* as:bot-*
mod  mod-0123456789abcdef  moderate:shop-1
`))
	rooms := base + "api/rooms"
	for _, tt := range []struct {
		name, token, method, path string
		status                    int
		part                      string
		header                    []string
	}{
		{"say elsewhere", "root", "POST", "/secret/messages?from=boss", 200, `"seq":1`, nil},
		{"say", "shop", "POST", "/shop-1/messages", 200, `"seq":1`, nil},
		{"say under a name", "shop", "POST", "/shop-1/messages?name=Shop", 200, `"seq":2`, nil},
		{"say as a bot", "shop", "POST", "/shop-1/messages?from=bot-1&name=Bot", 200, `"seq":3`, nil},
		{"say as ann", "shop", "POST", "/shop-1/messages?from=ann", 403, "the right as", nil},
		{"say as a reserved id", "root", "POST", "/shop-1/messages?from=api:shop", 403, "only Roomcast itself uses", nil},
		{"say without the right", "shop", "POST", "/secret/messages", 403, "the right say", nil},
		{"read", "shop", "GET", "/shop-1/messages", 200, `"from":{"id":"api:shop","name":"Shop"}`, nil},
		{"read without the right", "shop", "GET", "/secret/messages", 403, "the right read", nil},
		{"a moderator reads", "mod", "GET", "/shop-1/members", 200, `"count":0`, nil},
		{"a moderator says", "mod", "POST", "/shop-1/messages", 403, "the right say", nil},
		{"close without the right", "shop", "POST", "/shop-1/close", 403, "the right moderate", nil},
		{"close", "mod", "POST", "/shop-1/close", 200, `"seq":4`, nil},
		{"the list", "shop", "GET", "", 200, `{"rooms":[{"room":"shop-1","messages":4}]}`, nil},
		{"the list of a moderator", "mod", "GET", "", 200, `{"rooms":[{"room":"shop-1","messages":4}]}`, nil},
		{"a wrong token", "none", "GET", "", 401, "not in --api-token-file", nil},
		{"a foreign page", "root", "GET", "", 403, "another origin", []string{"Origin", "https://shop.example.org"}},
		{"an own page", "root", "GET", "", 200, `"secret"`, []string{"Origin", strings.TrimSuffix(base, "/")}},
	} {
		body := "hi"
		if strings.HasSuffix(tt.path, "/close") {
			body = ""
		}
		header := append(tt.header, "Content-Type", "text/plain", "Authorization", "Bearer "+tt.token+"-0123456789abcdef")
		status, got := servertest.Call(t, tt.method, rooms+tt.path, body, header...)
		if status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.name, status, got, tt.status, tt.part)
		}
	}
}
