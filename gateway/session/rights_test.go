package session_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/proto"
)

var tokenSecret = []byte("0123456789abcdef0123456789abcdef")

// withTokens makes a gateway accept tokens, with a key for the tests.
func withTokens(t *testing.T) func(*settings) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, tokenSecret, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(s *settings) { s.auth.KeyFiles = []string{path} }
}

// tokenOf returns a token for sub with the claim rooms. The token is valid for the duration
// lasts.
func tokenOf(sub, rooms string, lasts time.Duration) string {
	claims := jwt.MapClaims{"sub": sub, "name": "N " + sub, "iat": time.Now().Unix(), "exp": time.Now().Add(lasts).Unix()}
	if rooms != "" {
		grant := map[string]string{}
		for rule := range strings.SplitSeq(rooms, ",") {
			pattern, rights, _ := strings.Cut(rule, "=")
			grant[pattern] = rights
		}
		claims["rooms"] = grant
	}
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(tokenSecret)
	if err != nil {
		panic(err)
	}
	return s
}

// bearer opens a JSON session. It sends the token in a subprotocol.
func (g *gateway) bearer(path, token string) *client {
	g.t.Helper()
	return g.open(path, "roomcast.v1, bearer."+token)
}

func TestEveryVerbNeedsItsRight(t *testing.T) {
	g := start(t, withTokens(t))
	run := time.Now().UnixNano()
	room := func(name string) string { return fmt.Sprintf("%s_%d", name, run) }
	read, say, mod, none := room("read"), room("say"), room("mod"), room("none")
	token := tokenOf("ann", fmt.Sprintf("%s=read,%s=say,%s=moderate,*=", read, say, mod), time.Hour)
	c := g.bearer("/ws", token)
	c.want(`{"hello":{*"you":{"id":"ann","name":"N ann"}*"expires":"*`)
	for i, tt := range []struct{ frame, answer string }{
		{`"join":{"room":"%s"}`, `"error":{"code":"forbidden",*`},
		{`"say":{"room":"%s","text":"x"}`, `"error":{"code":"forbidden",*`},
		{`"history":{"room":"%s"}`, `"error":{"code":"forbidden",*`},
		{`"members":{"room":"%s"}`, `"error":{"code":"forbidden",*`},
		{`"signal":{"room":"%s","type":"typing","data":{}}`, `"error":{"code":"forbidden",*`},
		{`"moderate":{"room":"%s","act":"close"}`, `"error":{"code":"forbidden",*`},
		{`"moderate":{"room":"` + read + `","act":"close"}`, `"error":{"code":"forbidden",*`},
		{`"join":{"room":"` + say + `"}`, `"error":{"code":"forbidden",*`},
		{`"history":{"room":"` + say + `"}`, `"error":{"code":"forbidden",*`},
		{`"join":{"room":"` + read + `","last":5}`, `"ok":*`},
		{`"history":{"room":"` + read + `"}`, `"ok":*`},
		{`"members":{"room":"` + read + `"}`, `"ok":*`},
		{`"say":{"room":"` + read + `","text":"x"}`, `"error":{"code":"forbidden",*`},
		{`"signal":{"room":"` + read + `","type":"typing","data":{}}`, `"error":{"code":"forbidden",*`},
		{`"join":{"room":"` + mod + `"}`, `"ok":*`},
		{`"say":{"room":"` + mod + `","text":"x"}`, `"error":{"code":"forbidden",*`},
	} {
		frame := strings.ReplaceAll(tt.frame, "%s", none)
		c.send(fmt.Sprintf(`{"id":%d,%s}`, i, frame))
		c.want(fmt.Sprintf(`{"id":%d,%s`, i, tt.answer))
	}
	// A moderator closes the room and reopens it.
	for i, act := range []string{"close", "reopen"} {
		c.send(fmt.Sprintf(`{"id":"m%d","moderate":{"room":"%s","act":"%s","why":"tea"}}`, i, mod, act))
		frames := c.next() + c.next()
		if !strings.Contains(frames, fmt.Sprintf(`{"id":"m%d","ok":{"seq":`, i)) || !strings.Contains(frames, `"from":{"id":"ann","name":"N ann"}`) && act == "close" {
			t.Errorf("%s: got %s", act, frames)
		}
		if act == "close" {
			g.act(mod, proto.ActReopen, "")
			g.act(mod, proto.ActClose, "")
			c.send(`{"id":"again","join":{"room":"` + mod + `"}}`)
			c.want(`{"id":"again","error":{"code":"room_closed",*`)
			break // the close ends the membership, so the client does not receive the reopening
		}
	}
}

// The refusal is the same whether the room exists, is closed or has members, because the gateway
// checks the right before the membership.
func TestARefusalTellsNothingAboutTheRoom(t *testing.T) {
	g := start(t, withTokens(t))
	run := time.Now().UnixNano()
	busy, closed, empty := fmt.Sprintf("busy_%d", run), fmt.Sprintf("closed_%d", run), fmt.Sprintf("empty_%d", run)
	member := g.bearer("/room/"+busy+"/", tokenOf("ben", busy+"=read say", time.Hour))
	member.want(`{"hello":*`)
	member.send(`{"id":1,"say":{"text":"secret"}}`)
	member.next()
	member.next()
	g.act(closed, proto.ActClose, "why")
	c := g.bearer("/ws", tokenOf("ann", "other=read", time.Hour))
	c.want(`{"hello":*`)
	answers := map[string]bool{}
	for _, room := range []string{busy, closed, empty} {
		for _, verb := range []string{"join", "history", "members"} {
			c.send(fmt.Sprintf(`{"id":1,"%s":{"room":"%s"}}`, verb, room))
			answers[c.next()] = true
		}
		path := g.bearer("/room/"+room+"/?last=5", tokenOf("ann", "other=read", time.Hour))
		path.want("close 4106 *")
		path.ended()
	}
	if len(answers) != 1 {
		t.Errorf("got different refusals: %v", answers)
	}
	member.silent()
}

// If a fresh token contains fewer rights, the memberships that it no longer allows must end.
func TestALostRightEndsTheMembership(t *testing.T) {
	g := start(t, withTokens(t))
	run := time.Now().UnixNano()
	keep, lose := fmt.Sprintf("keep_%d", run), fmt.Sprintf("lose_%d", run)
	witness := g.bearer("/room/"+lose+"/", tokenOf("ben", "*=read say", time.Hour))
	witness.want(`{"hello":*`)
	auth := func(c *client, rooms string) {
		c.send(`{"id":"a","auth":{"token":"` + tokenOf("ann", rooms, time.Hour) + `"}}`)
	}

	c := g.bearer("/ws", tokenOf("ann", "*=read say", time.Hour))
	c.want(`{"hello":*`)
	for _, room := range []string{keep, lose} {
		c.send(`{"id":1,"join":{"room":"` + room + `"}}`)
		c.want(`{"id":1,"ok":*`)
	}
	auth(c, keep+"=read")
	c.want(`{"id":"a","ok":{"you":{"id":"ann",*"expires":"*`)
	c.want(`{"room":"` + lose + `","ended":{"code":4106,"reason":"*`)
	c.send(`{"id":2,"say":{"room":"` + keep + `","text":"x"}}`)
	c.want(`{"id":2,"error":{"code":"forbidden",*`)
	witness.send(`{"id":1,"say":{"text":"among us"}}`)
	witness.next()
	witness.next()
	c.silent()

	home := g.bearer("/room/"+lose+"/", tokenOf("ann", lose+"=read say", time.Hour))
	home.want(`{"hello":*`)
	auth(home, keep+"=read")
	home.want(`{"id":"a","ok":*`)
	home.want("close 4106 *")

	// A text session that has only the right to read is closed when it says something.
	h := g.connect()
	h.write([]byte(strings.Replace(handshakeOf("/room/"+keep+"/", ""), "Host:", "Authorization: Bearer "+tokenOf("ann", keep+"=read", time.Hour)+"\r\nHost:", 1)))
	if got := h.status(); got != 101 {
		t.Fatalf("got status %d, want 101", got)
	}
	h.send("hello")
	h.want("close 4106 *")
}

// When a session presents a fresh token, it stays in its rooms, and no other member receives a
// leave.
func TestAuthRefreshesWithoutALeave(t *testing.T) {
	g := start(t, withTokens(t), func(s *settings) { s.session.PingAfter = time.Second })
	room := fmt.Sprintf("fresh_%d", time.Now().UnixNano())
	witness := g.bearer("/room/"+room+"/", tokenOf("wit", "", time.Hour))
	witness.want(`{"hello":*`)
	brief := g.bearer("/room/"+room+"/", tokenOf("ann", "", time.Second))
	lasting := g.bearer("/room/"+room+"/", tokenOf("ben", "", time.Second))
	for _, c := range []*client{brief, lasting} {
		c.want(`{"hello":*`)
	}
	lasting.send(`{"id":1,"auth":{"token":"` + tokenOf("ben", "", time.Hour) + `"}}`)
	lasting.want(`{"id":1,"ok":{"you":{"id":"ben","name":"N ben"},"expires":"*`)
	lasting.send(`{"id":2,"auth":{"token":"` + tokenOf("ben", "", time.Hour) + `"}}`)
	lasting.want(`{"id":2,"error":{"code":"rate_limited",*"retry_ms":*`)
	other := g.bearer("/room/"+room+"/", tokenOf("cat", "", time.Hour))
	other.want(`{"hello":*`)
	other.send(`{"id":1,"auth":{"token":"` + tokenOf("ann", "", time.Hour) + `"}}`)
	other.want(`{"id":1,"error":{"code":"forbidden",*`)
	other.silent()
	var presence []string
	for {
		witness.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		m, err := witness.read()
		if err != nil {
			t.Fatal(err)
		}
		if m.op == 1 {
			presence = append(presence, m.body)
		}
		if strings.Contains(m.body, `"left":`) {
			break
		}
	}
	if last := presence[len(presence)-1]; !strings.Contains(last, `"left":{"id":"ann"`) {
		t.Errorf("got %v, want the leave of the session whose token ended", presence)
	}
	for {
		m, err := brief.read()
		if err != nil {
			t.Fatal(err)
		}
		if m.op == 8 {
			if m.code != 4003 {
				t.Errorf("got %v, want close 4003", m)
			}
			break
		}
	}
	lasting.silentButPings()
}

// silentButPings is like silent, but also skips pings.
func (c *client) silentButPings() {
	c.t.Helper()
	c.write(maskedFrame(0x89, "silent?"))
	for {
		m, err := c.read()
		switch {
		case err != nil:
			c.t.Fatal(err)
		case m.op == 10 && m.body == "silent?":
			return
		case m.op == 8 || m.op == 1 && !strings.Contains(m.body, `"joined":`) && !strings.Contains(m.body, `"left":`):
			c.t.Fatalf("got %v", m)
		}
	}
}

// If guests have no rights, a JSON session receives nothing and is in no room until it has sent
// auth.
func TestTheFirstFrameMustContainTheToken(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		g := start(t, portable, withTokens(t), func(s *settings) { s.session.AuthTime = 2 * time.Second })
		room := fmt.Sprintf("first_%d", time.Now().UnixNano())
		witness := g.bearer("/room/"+room+"/", tokenOf("wit", "", time.Hour))
		witness.want(`{"hello":*`)
		witness.send(`{"id":1,"say":{"text":"before"}}`)
		witness.next()
		witness.next()

		c := g.json("/room/" + room + "/?last=5")
		c.silent()
		witness.silent()
		c.send(`{"auth":{"token":"` + tokenOf("ann", "", time.Hour) + `"}}`)
		c.want(`{"hello":{*"you":{"id":"ann"*"room":"` + room + `","seq":1,*`)
		c.want(`{"room":"` + room + `","seq":1,*`)
		ws := g.json("/ws")
		ws.silent()
		ws.send(`{"id":1,"auth":{"token":"` + tokenOf("ann", "", time.Hour) + `"}}`)
		ws.want(`{"hello":{*"you":{"id":"ann"*`)
		ws.want(`{"id":1,"ok":{"you":{"id":"ann"*"expires":"2*`)
		named := g.json("/room/" + room + "/?last=5")
		named.send(`{"id":"a","auth":{"token":"` + tokenOf("ann", "", time.Hour) + `"}}`)
		named.want(`{"hello":{*"you":{"id":"ann"*`)
		named.want(`{"id":"a","ok":{"you":{"id":"ann"*"expires":"2*`)
		named.want(`{"room":"` + room + `","seq":1,*`)

		late := g.json("/ws")
		text := g.text("/room/" + room + "/")
		text.want("close 4107 *")
		for first, code := range map[string]string{
			`{"id":1,"join":{"room":"` + room + `"}}`: "4107",
			`not JSON`: "4107",
			`{"auth":{"token":"` + tokenOf("ann", "*=write", time.Hour) + `"}}`: "4103",
			`{"auth":{"token":"` + tokenOf("ann", "x=read", time.Hour) + `"}}`:  "4106",
			`{"auth":{"token":"` + tokenOf("ann", "", -time.Minute) + `"}}`:     "4003",
			`{"auth":{"token":"a.b.c"}}`:                                        "4103",
			`{"auth":{"token":"` + strings.Repeat("a", 13<<10) + `"}}`:          "4103",
			`{"auth":{"token":"` + strings.Repeat("a", 21<<10) + `"}}`:          "1009",
		} {
			c := g.json("/room/" + room + "/")
			c.send(first)
			c.want("close " + code + " *")
		}
		late.want("close 4107 *")
		witness.silent()
	})
}

// If guests have rights, a session may still replace its guest identity with its first command.
func TestTheFirstCommandReplacesTheGuest(t *testing.T) {
	g := start(t, withTokens(t), func(s *settings) { s.auth.GuestRights = []string{"read"} })
	room := fmt.Sprintf("guest_%d", time.Now().UnixNano())
	c := g.json("/room/" + room + "/")
	c.want(`{"hello":{*"you":{"id":"anon-*`)
	c.send(`{"id":1,"auth":{"token":"` + tokenOf("ann", "", time.Hour) + `"}}`)
	c.want(`{"hello":{*"you":{"id":"ann"*"room":"` + room + `"*`)
	c.want(`{"id":1,"ok":{"you":{"id":"ann"*"expires":"2*`)
	c.send(`{"id":2,"members":{}}`)
	c.want(`{"id":2,"ok":{"room":"` + room + `","count":1,"members":[{"id":"ann",*`)
	c.send(`{"id":3,"say":{"text":"x"}}`)
	if got := c.next() + c.next(); !strings.Contains(got, `{"id":3,"ok":`) {
		t.Errorf("got %s", got)
	}

	guest := g.json("/room/" + room + "/")
	guest.want(`{"hello":*`)
	guest.send(`{"id":1,"say":{"text":"x"}}`)
	guest.want(`{"id":1,"error":{"code":"forbidden",*`)
	guest.send(`{"id":2,"auth":{"token":"` + tokenOf("ann", "", time.Hour) + `"}}`)
	guest.want(`{"id":2,"error":{"code":"forbidden",*`)
	guest.silent()
	bad := g.json("/room/" + room + "/")
	bad.want(`{"hello":*`)
	bad.send(`{"id":1,"auth":{"token":"a.b.c"}}`)
	bad.want("close 4103 *")
}

// If a request contains several credentials, the gateway looks only at the strongest. If it
// refuses this credential, it neither tries a weaker one nor admits the client as a guest.
func TestOnlyTheStrongestCredentialCounts(t *testing.T) {
	g := start(t, withTokens(t), func(s *settings) {
		s.session.QueryToken, s.session.Cookie = true, "login"
		s.auth.GuestRights, s.auth.AllowOrigins = []string{"read say"}, []string{"https://app.example"}
	})
	good := func(id string) string { return tokenOf(id, "", time.Hour) }
	const bad = "a.b.c"
	header := func(token string) string { return "Authorization: Bearer " + token + "\r\n" }
	cookie := func(token, origin string) string {
		return "Cookie: a=b; login=" + token + "\r\nOrigin: " + origin + "\r\n"
	}
	for _, tt := range []struct{ name, offer, headers, query, want string }{
		{"subprotocol before header", ", bearer." + good("sub"), header(good("head")), "", `{"hello":{*"you":{"id":"sub"*`},
		{"header before cookie", "", header(good("head")) + cookie(good("cook"), "https://app.example"), "", `{"hello":{*"you":{"id":"head"*`},
		{"cookie before query", "", cookie(good("cook"), "https://app.example"), "?token=" + good("query"), `{"hello":{*"you":{"id":"cook"*`},
		{"query", "", "", "?token=" + good("query"), `{"hello":{*"you":{"id":"query"*`},
		{"bad subprotocol", ", bearer." + bad, header(good("head")), "", "close 4103 *"},
		{"bad header", "", header(bad), "?token=" + good("query"), "close 4103 *"},
		{"bad cookie", "", cookie(bad, "https://app.example"), "?token=" + good("query"), "close 4103 *"},
		{"bad query", "", "", "?token=" + bad, "close 4103 *"},
		{"empty offer", ", bearer.", header(good("head")), "", "close 4103 *empty"},
		{"bad cookie behind a malformed one", "", cookie("\x80; x y; login="+bad, "https://app.example"), "", "close 4103 *"},
		{"bad cookie behind an empty one", "", cookie("; login="+bad, "https://app.example"), "", "close 4103 *"},
		{"bad malformed cookie", "", cookie("a b", "https://app.example"), "?token=" + good("query"), "close 4103 *"},
		{"good cookie beside a malformed one", "", cookie(good("cook")+"; a=\x80", "https://app.example"), "", `{"hello":{*"you":{"id":"cook"*`},
		{"bad header with a tab", "", "Authorization: Bearer\t" + bad + "\r\n", "", "close 4103 *"},
		{"another scheme", "", "Authorization: Basic YTpi\r\n", "", `{"hello":{*"you":{"id":"anon-*`},
		{"cookie of the same host", "", cookie(good("cook"), "http://localhost"), "", `{"hello":{*"you":{"id":"cook"*`},
		{"cookie from another local page", "", cookie(good("cook"), "http://localhost:3000"), "", `{"hello":{*"you":{"id":"anon-*`},
		{"cookie without origin", "", "Cookie: login=" + good("cook") + "\r\n", "", `{"hello":{*"you":{"id":"anon-*`},
		{"bad cookie that does not count", "", "Cookie: login=" + bad + "\r\n", "", `{"hello":{*"you":{"id":"anon-*`},
		{"another cookie", "", "Cookie: Login=" + bad + "\r\nOrigin: https://app.example\r\n", "", `{"hello":{*"you":{"id":"anon-*`},
		{"a name beside a token", ", bearer." + good("sub"), "", "?name=Root", `{"hello":{*"you":{"id":"sub","name":"N sub"}*`},
		{"a resume string beside a token", ", bearer." + good("sub") + ", resume.xyz", "", "", `{"hello":{*"you":{"id":"sub"*`},
	} {
		c := g.connect()
		c.write([]byte(strings.Replace(handshakeOf("/ws"+tt.query, "roomcast.v1"+tt.offer), "Sec-WebSocket-Key", tt.headers+"Sec-WebSocket-Key", 1)))
		answer, err := c.r.Peek(200)
		if head := string(answer); strings.Contains(head, "bearer.") || strings.Contains(head, "resume.") || !strings.Contains(head, "101") {
			t.Errorf("%s: the answer is %s, %v", tt.name, head, err)
		}
		c.status()
		if got := c.next(); !matches(tt.want, got) {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	// A token in a subprotocol needs the subprotocol roomcast.v1 too. A token in a URL needs the
	// flag --allow-query-token.
	strict := start(t, withTokens(t))
	c := strict.json("/ws?token=" + good("ann"))
	c.want("close 4103 tokens in the URL*")
	none := start(t)
	c = none.bearer("/ws", good("ann"))
	c.want("close 4103 this server accepts no tokens*")
}

// After too many bad tokens, an address must wait. Other addresses need not wait, even if they
// use the same ids.
func TestBadTokensOfAnAddressAreLimited(t *testing.T) {
	g := start(t, withTokens(t))
	waiting := g.json("/ws")
	for i := range 20 {
		c := g.bearer("/ws", "a.b."+base64.RawURLEncoding.EncodeToString([]byte{byte(i)}))
		c.want("close 4103 *")
		c.ended()
	}
	c := g.connect()
	c.write([]byte(handshakeOf("/ws", "roomcast.v1, bearer."+tokenOf("ann", "", time.Hour))))
	if got := c.status(); got != 429 {
		t.Errorf("got status %d, want 429", got)
	}
	waiting.send(`{"auth":{"token":"` + tokenOf("ann", "", time.Hour) + `"}}`)
	waiting.want("close 4002 *")
	proxied := g.connect()
	proxied.write([]byte(strings.Replace(handshakeOf("/ws", "roomcast.v1, bearer."+tokenOf("ann", "", time.Hour)), "Host:", "X-Forwarded-For: 192.0.2.1\r\nHost:", 1)))
	if got := proxied.status(); got != 101 {
		t.Errorf("through a proxy: got status %d, want 101", got)
	}
	proxied.want(`{"hello":*`)
}

// The room user:<id> belongs to the person with this id. Other people have no rights in it.
func TestARoomOfAUserIsOnlyForThisUser(t *testing.T) {
	g := start(t, withTokens(t), func(s *settings) { s.auth.Rights = []string{"user:{id}=read say"} })
	own := g.bearer("/room/user:auth0=7C5f/", tokenOf("auth0|5f", "", time.Hour))
	own.want(`{"hello":{*"you":{"id":"auth0|5f"*`)
	for _, id := range []string{"auth0=7C5f", "auth0|5", "auth0|5f7", "*"} {
		c := g.bearer("/room/user:auth0=7C5f/", tokenOf(id, "", time.Hour))
		c.want("close 41*")
	}
}

// A credential that is empty or in an incomplete place is refused. It never makes a guest.
func TestIncompleteCredentialIsNeverAGuest(t *testing.T) {
	g := start(t, withTokens(t), func(s *settings) { s.auth.GuestRights = []string{"*=read say"}; s.session.QueryToken = true })
	room := fmt.Sprintf("incomplete_%d", time.Now().UnixNano())
	path, good := "/room/"+room+"/", tokenOf("ann", "", time.Hour)
	for _, protocols := range []string{"bearer." + good, "resume.x", "bearer."} {
		c := g.connect()
		c.write([]byte(handshakeOf(path, protocols)))
		if got := c.status(); got != 400 {
			t.Errorf("the subprotocols %.10s: got status %d, want 400", protocols, got)
		}
	}
	for _, tt := range []struct{ path, protocols, header string }{
		{path, "roomcast.v1, bearer.", ""},
		{path, "roomcast.v1", "Authorization: Bearer \r\n"},
		{path, "", "Authorization: bearer\r\n"},
		{path + "?ticket=", "roomcast.v1", ""},
		{path + "?ticket", "", ""},
		{path + "?token=", "", ""},
	} {
		c := g.connect()
		c.write([]byte(strings.Replace(handshakeOf(tt.path, tt.protocols), "Host:", tt.header+"Host:", 1)))
		if got := c.status(); got != 101 {
			t.Fatalf("%v: got status %d, want 101", tt, got)
		}
		c.want("close 4103 *empty")
	}
	g.open(path, "roomcast.v1, Bearer."+good).want(`{"hello":*"you":{"id":"ann"*`)
	g.open(path, "").send("a guest without a credential is welcome")
}

// Where a token is needed, the reason of the close tells what is wrong with the first frame, or
// where a client that cannot send auth may present its token.
func TestReasonTellsWhereATokenIsNeeded(t *testing.T) {
	g := start(t, withTokens(t))
	for frame, want := range map[string]string{
		`{"auth":{"token":5}}`:    "close 4107 token must be a string",
		`{"auth":{"resume":"x"}}`: "close 4107 *token*ticket*",
		`{"ping":{}}`:             `close 4107 *send {"auth":*`,
	} {
		c := g.json("/ws")
		c.send(frame)
		c.want(want)
	}
	g.text("/room/lobby/").want("close 4107 *Authorization: Bearer*?ticket=")
	g.bearer("/ws", "an-api-token").want("close 4103 *not an API token")
}

// After auth with a token that has another name, messages and the list of members have this name.
func TestAuthWithAnotherNameRenamesTheMember(t *testing.T) {
	g := start(t, withTokens(t))
	c := g.bearer("/room/"+fmt.Sprintf("name_%d", time.Now().UnixNano())+"/", tokenOf("ann", "", time.Hour))
	c.want(`{"hello":{*"name":"N ann"*`)
	c.send(`{"id":1,"auth":{"token":"` + issuedToken("ann", time.Now()) + `"}}`) // this token has no name
	c.want(`{"id":1,"ok":{"you":{"id":"ann"}*`)
	eventually(t, "the list to have the new name", func() bool {
		c.send(`{"id":2,"members":{}}`)
		return matches(`{"id":2,"ok":{*"count":1,"members":[{"id":"ann","sessions":1}]}}`, c.next())
	})
	c.send(`{"id":3,"say":{"text":"hi"}}`)
	if frames := c.next() + c.next(); !strings.Contains(frames, `"from":{"id":"ann"},`) {
		t.Errorf("got %s, want a message without a name", frames)
	}
}
