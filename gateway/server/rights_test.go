package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/gateway/server/servertest"
)

func TestTokenOfAUserOpensTheAPIWithItsRights(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	base := servertest.Serve(t, "--auth-key-file", servertest.File(t, secret), "--api-token-file", servertest.File(t, "the-operators-token"))
	token := func(rooms map[string]string, lasts time.Duration) string {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": "ann", "iat": time.Now().Unix(), "exp": time.Now().Add(lasts).Unix(), "rooms": rooms,
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

// A program on the gateway's own machine has all rights without a credential. With a credential that
// is not accepted, its requests are refused. They have neither these rights nor those of a guest.
func TestCredentialThatIsNotAcceptedIsRefused(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	plain := servertest.Serve(t)
	keys := servertest.Serve(t, "--auth-key-file", servertest.File(t, secret), "--guest-rights", "read say")
	file := servertest.Serve(t, "--api-token-file", servertest.File(t, "the-operators-token"), "--guest-rights", "read say")
	routes := []struct{ method, path, body string }{
		{"GET", "rooms", ""},
		{"GET", "nothing", ""},
		{"GET", "rooms/lobby/members", ""},
		{"GET", "rooms/lobby/messages", ""},
		{"POST", "rooms/lobby/messages", `{"text":"hi"}`},
		{"POST", "rooms/lobby/signal", `{"type":"x"}`},
		{"POST", "rooms/lobby/ban", `{"member":"zed"}`},
		{"POST", "rooms/lobby/close", ""},
		{"POST", "tickets", `{"id":"ann","rooms":["lobby"]}`},
		{"POST", "revoke", `{"id":"ann"}`},
	}
	for _, tt := range []struct {
		name, query string
		header      []string
		status      int
	}{
		{"a wrong token", "", []string{"Authorization", "Bearer garbage"}, 401},
		{"a token that no key has signed", "", []string{"Authorization", "Bearer a.b.c"}, 401},
		{"a scheme in lower case", "", []string{"Authorization", "bearer garbage"}, 401},
		{"a tab behind the scheme", "", []string{"Authorization", "Bearer\tgarbage"}, 401},
		{"an empty token", "", []string{"Authorization", "Bearer "}, 401},
		{"a wrong resume string", "", []string{"Roomcast-Resume", "garbage"}, 401},
		{"an empty resume string", "", []string{"Roomcast-Resume", ""}, 401},
		{"a wrong token beside a resume string", "", []string{"Authorization", "Bearer garbage", "Roomcast-Resume", "garbage"}, 401},
		{"another scheme beside a resume string", "", []string{"Authorization", "Basic YTpi", "Roomcast-Resume", "garbage"}, 401},
		{"a token in the URL", "?token=garbage", nil, 401},
		{"a ticket in the URL", "?ticket=garbage", nil, 401},
		{"a resume string in the URL", "?resume=garbage", nil, 401},
		{"an empty token in the URL", "?token", nil, 401},
		{"a malformed token in the URL", "?token=%zz", nil, 400},
	} {
		for name, base := range map[string]string{"default": plain, "keys": keys, "token file": file} {
			for _, route := range routes {
				header := append(tt.header[:len(tt.header):len(tt.header)], "Content-Type", "application/json")
				status, got := servertest.Call(t, route.method, base+"api/"+route.path+tt.query, route.body, header...)
				if status != tt.status && status != http.StatusTooManyRequests { // of one address, only some failures have an answer
					t.Errorf("%s, %s, %s %s: got %d %s, want %d", tt.name, name, route.method, route.path, status, got, tt.status)
				}
			}
		}
	}
	if status, got := servertest.Call(t, "GET", plain+"api/rooms", ""); status != 200 || strings.Contains(got, "lobby") {
		t.Errorf("without a credential: got %d %s, want 200 without a room", status, got)
	}
	// The server ignores other schemes, because a proxy or the backend may use them.
	for _, other := range []string{"Basic YTpi", "garbage", ""} {
		for base, want := range map[string]int{plain: 200, keys: 401, file: 401} {
			if status, got := servertest.Call(t, "GET", base+"api/rooms", "", "Authorization", other); status != want {
				t.Errorf("Authorization: %s: got %d %s, want %d as without a credential", other, status, got, want)
			}
		}
	}
}

// A token in the token file has the rights of its line. It sends messages as api:<name>, or as
// another id if it has the right "as". A page of another origin must not use it.
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

// The gateway asks the backend about the requests of a user, but not about the requests of a
// program with an API token.
func TestAPIAsksTheBackend(t *testing.T) {
	asked := make(chan string, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		question, _ := io.ReadAll(r.Body)
		asked <- strings.TrimSpace(string(question))
		switch text := string(question); {
		case strings.Contains(text, `"id":"ben"`):
			io.WriteString(w, `{"allow":false,"why":"not ben"}`)
		case strings.Contains(text, `"ask":"connect"`):
			io.WriteString(w, `{"allow":true,"id":"nick","rooms":{"lobby":"say read"}}`)
		default:
			io.WriteString(w, `{"allow":true,"content":{"text":"***"}}`)
		}
	}))
	defer app.Close()
	secret := strings.Repeat("0123456789abcdef", 2)
	base := servertest.Serve(t, "--ask", "connect,say", "--ask-url", app.URL, "--ask-header", "X-App", "--ask-header", "Cookie",
		"--auth-key-file", servertest.File(t, secret), "--api-token-file", servertest.File(t, "0123456789abcdef"))
	call := func(sub, method, path string) (int, string) {
		t.Helper()
		token := "0123456789abcdef"
		if sub != "" {
			var err error
			if token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": sub, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret)); err != nil {
				t.Fatal(err)
			}
		}
		return servertest.Call(t, method, base+"api/rooms"+path, "damn", "Authorization", "Bearer "+token, "Content-Type", "text/plain", "X-App", "7", "Cookie", "a=b")
	}
	for _, tt := range []struct {
		sub, method, path string
		status            int
		part              string
		asked             []string
	}{
		{"", "POST", "/lobby/messages", 200, `"seq":1`, nil},
		{"ann", "POST", "/lobby/messages", 200, `"seq":2`, []string{
			`{"ask":"connect","id":"ann","headers":{"X-App":"7"}}`,
			`{"ask":"say","id":"nick","room":"lobby","headers":{"X-App":"7"},"content":{"text":"damn"}}`}},
		{"ann", "GET", "/lobby/messages", 200, `"from":{"id":"nick"},"text":"***"`, []string{`{"ask":"connect","id":"ann","headers":{"X-App":"7"}}`}},
		{"ann", "GET", "/other/messages", 403, "the right read", []string{`{"ask":"connect","id":"ann","headers":{"X-App":"7"}}`}},
		{"ben", "GET", "/lobby/messages", 403, "not ben", []string{`{"ask":"connect","id":"ben","headers":{"X-App":"7"}}`}},
	} {
		status, got := call(tt.sub, tt.method, tt.path)
		if status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s %s %s: got %d %s, want %d with %s", tt.sub, tt.method, tt.path, status, got, tt.status, tt.part)
		}
		var questions []string
		for len(asked) > 0 {
			questions = append(questions, <-asked)
		}
		if !slices.Equal(questions, tt.asked) {
			t.Errorf("%s %s %s: got the questions %q, want %q", tt.sub, tt.method, tt.path, questions, tt.asked)
		}
	}
}

// The backend may know another scheme of the header Authorization, if --ask-header names it.
func TestBackendDecidesAboutAnotherScheme(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		question, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"allow":%v,"id":"ann","rooms":{"lobby":"read"}}`, strings.Contains(string(question), `"Basic YTpi"`))
	}))
	defer app.Close()
	base := servertest.Serve(t, "--ask", "connect", "--ask-url", app.URL, "--ask-header", "authorization")
	for header, want := range map[string]int{"Basic YTpi": 200, "Basic Yjph": 403, "Bearer garbage": 401} {
		if status, got := servertest.Call(t, "GET", base+"api/rooms/lobby/messages", "", "Authorization", header); status != want {
			t.Errorf("%s: got %d %s, want %d", header, status, got, want)
		}
	}
}

// A program can make tickets only with rights that its own token has. Each ticket opens one
// session.
func TestAPITickets(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	base := servertest.Serve(t, "--auth-key-file", servertest.File(t, secret), "--api-token-file", servertest.File(t, `
root root-0123456789abcdef admin
shop shop-0123456789abcdef read:shop-* say:shop-* tickets:shop-*
read read-0123456789abcdef read say
`))
	user, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		token, body string
		status      int
		part        string
	}{
		{"shop", `{"id":"ann","rooms":{"shop-1":"read say"}}`, 200, `"ticket":"`},
		{"shop", `{"id":"ann","name":"Ann","rooms":{"shop-1*":"read","shop-2":""},"ttl":"5s","until":"` + time.Now().Add(time.Minute).Format(time.RFC3339) + `"}`, 200, `"expires":"`},
		{"shop", `{"id":"ann","rooms":["shop-1"]}`, 200, `"ticket":"`},
		{"root", `{"id":"ann","rooms":{"*":"moderate"}}`, 200, `"ticket":"`},
		{"root", `{"id":"ann","rooms":{"*":"moderate"}}}`, 400, "but more follows the object"},
		{"root", `{"id":"ann","room":{"*":"moderate"}}`, 400, `but unknown field \"room\"`},
		{"root", `{"id":7,"rooms":{"*":"moderate"}}`, 400, "but id must be a string"},
		{"root", `{"id":"ann","rooms":{"*":"moderate"},"until":"tomorrow"}`, 400, "until must be a time"},
		{"root", ``, 400, "but it is empty"},
		{"shop", `{"id":"ann","rooms":{"*":"read"}}`, 403, "the right read in *"},
		{"shop", `{"id":"ann","rooms":{"shop*":"read"}}`, 403, "the right read"},
		{"shop", `{"id":"ann","rooms":{"shop-1":"moderate"}}`, 403, "the right moderate"},
		{"shop", `{"id":"ann","rooms":{"lobby":""}}`, 403, "the right tickets"},
		{"read", `{"id":"ann","rooms":{"lobby":"read"}}`, 403, "the right tickets"},
		{"user", `{"id":"ann","rooms":{"lobby":"read"}}`, 403, "only a token of --api-token-file"},
		{"none", `{"id":"ann","rooms":{"lobby":"read"}}`, 401, "neither in --api-token-file nor a JSON Web Token"},
		{"root", `{"id":"anon-x","rooms":{"lobby":"read"}}`, 403, "only Roomcast itself uses"},
		{"root", `{"id":"","rooms":{"lobby":"read"}}`, 400, "the id is missing or empty"},
		{"root", `{"id":7,"rooms":{"lobby":"read"}}`, 400, "the body must be"},
		{"root", `{"id":"ann"}`, 400, "name the rooms"},
		{"root", `{"id":"ann","rooms":null}`, 400, "rooms"},
		{"root", `{"id":"ann","rooms":{"lobby":"own"}}`, 400, "unknown right"},
		{"root", `{"id":"ann","rooms":{"lobby":"read"},"ttl":"2m"}`, 400, "ttl is from 1s to 60s"},
		{"root", `{"id":"ann","rooms":{"lobby":"read"},"ttl":30}`, 400, "but ttl must be a string"},
		{"root", `[]`, 400, "but the body must be an object"},
		{"root", `{x}`, 400, "but it is not valid JSON"},
		{"root", `{"id":"ann","rooms":{"lobby":"read"},"until":"2020-01-01T00:00:00Z"}`, 400, "in the next 24 hours"},
		{"root", `{"id":"ann","rooms":{"lobby":"read"},"until":"2099-01-01T00:00:00Z"}`, 400, "in the next 24 hours"},
		{"root", `{"id":"ann","rooms":{"lobby":"read"},"admin":true}`, 400, "the body must be"},
		{"root", `{"id":"ann","rooms":{"lobby":"read"}}{}`, 400, "the body must be"},
	} {
		token := tt.token + "-0123456789abcdef"
		if tt.token == "user" {
			token = user
		}
		status, got := servertest.Call(t, "POST", base+"api/tickets", tt.body, "Authorization", "Bearer "+token, "Content-Type", "application/json")
		if status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s %s: got %d %s, want %d with %s", tt.token, tt.body, status, got, tt.status, tt.part)
		}
		if status != 200 || tt.token != "shop" {
			continue
		}
		_, rest, _ := strings.Cut(got, `"ticket":"`)
		ticket, _, _ := strings.Cut(rest, `"`)
		if frame, code := servertest.Next(t, servertest.Join(t, base, "room/shop-1/?ticket="+ticket, "roomcast.v1")); code != 0 || !strings.Contains(frame, `"you":{"id":"ann"`) {
			t.Errorf("%s: got %s, close code %d", tt.body, frame, code)
		}
		if frame, code := servertest.Next(t, servertest.Join(t, base, "room/shop-1/?ticket="+ticket, "roomcast.v1")); code != 4003 {
			t.Errorf("%s again: got %s, close code %d, want 4003", tt.body, frame, code)
		}
	}
}

// To revoke the credentials of an id, an API token needs the right "revoke" with a pattern that
// matches the id. A session never has this right.
func TestAPIRevokes(t *testing.T) {
	base := servertest.Serve(t, "--guest-rights", "read say", "--api-token-file", servertest.File(t, `
root root-0123456789abcdef admin
acme acme-0123456789abcdef revoke:acme:*
`))
	guest := servertest.Join(t, base, "ws", "roomcast.v1")
	frame, _ := servertest.Next(t, guest)
	_, rest, _ := strings.Cut(frame, `"session":"`)
	session, _, _ := strings.Cut(rest, `"`)
	for _, tt := range []struct {
		token, body string
		status      int
		part        string
	}{
		{"acme", `{"id":"acme:ann"}`, 200, `{"ok":{"at":"`},
		{"root", `{"id":"ann","reconnect":true}`, 200, `{"ok":{"at":"`},
		{"acme", `{"id":"ann"}`, 403, "the right revoke"},
		{"acme", `{"session":"` + session + `"}`, 403, "the right revoke"},
		{"none", `{"id":"ann"}`, 401, "unauthorized"},
		{"root", `{}`, 400, "name an id or a session"},
		{"root", `{"id":"ann","session":"x"}`, 400, "name an id or a session"},
		{"root", `{"id":"a\u0000"}`, 400, "cannot be printed"},
		{"root", `{"id":"*guests"}`, 400, "no credential has the id"},
		{"root", `{"id":"api:root"}`, 400, "no credential has the id"},
		{"root", `{"id":"anon-1"}`, 200, `{"ok":{"at":"`},
		{"root", `{"session":"nonsense"}`, 400, "not one that a hello has named"},
		{"root", `{"session":"a-b c"}`, 400, "not one that a hello has named"},
		{"root", `{"ids":["ann"]}`, 400, "the body must be"},
		{"root", `{"session":"` + session + `"}`, 200, `{"ok":{"at":"`},
	} {
		status, got := servertest.Call(t, "POST", base+"api/revoke", tt.body, "Authorization", "Bearer "+tt.token+"-0123456789abcdef", "Content-Type", "application/json")
		if status != tt.status || !strings.Contains(got, tt.part) {
			t.Errorf("%s %s: got %d %s, want %d with %s", tt.token, tt.body, status, got, tt.status, tt.part)
		}
	}
	if frame, code := servertest.Next(t, guest); code != 4103 {
		t.Errorf("got %s, close code %d, want 4103", frame, code)
	}
}

// All requests of a user share one rate. A program with an API token has no rate limit.
func TestRequestsOfAUserAreLimited(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	base := servertest.Serve(t, "--auth-key-file", servertest.File(t, secret), "--api-token-file", servertest.File(t, "the-operators-token"),
		"--rate", "0.001", "--burst", "3")
	ann, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		for token, want := range map[string]int{ann: 200, "the-operators-token": 200} {
			if token == ann && i >= 3 {
				want = 429
			}
			status, answer := servertest.Call(t, "POST", base+"api/rooms/lobby/messages", "hi", "Content-Type", "text/plain", "Authorization", "Bearer "+token)
			if status != want {
				t.Errorf("message %d of %.3s: got %d %s, want %d", i+1, token, status, answer, want)
			}
		}
	}
}
