package session_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// application plays the application's backend. It answers questions over HTTP.
type application struct {
	url string

	mu     sync.Mutex
	asked  []map[string]any
	answer func(q map[string]any) (status int, body string)
}

func startApplication(t *testing.T, answer func(q map[string]any) (int, string)) *application {
	t.Helper()
	app := &application{answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var q map[string]any
		if err != nil || json.Unmarshal(body, &q) != nil {
			t.Errorf("got the question %q, %v", body, err)
		}
		app.mu.Lock()
		app.asked = append(app.asked, q)
		answer := app.answer
		app.mu.Unlock()
		status, text := answer(q)
		w.WriteHeader(status)
		io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	app.url = server.URL
	return app
}

// answers sets the function that answers later questions, and forgets the earlier questions.
func (app *application) answers(answer func(q map[string]any) (int, string)) {
	app.mu.Lock()
	defer app.mu.Unlock()
	app.answer, app.asked = answer, nil
}

func always(status int, body string) func(map[string]any) (int, string) {
	return func(map[string]any) (int, string) { return status, body }
}

// questions returns all questions of the given kind so far.
func (app *application) questions(kind string) (list []map[string]any) {
	app.mu.Lock()
	defer app.mu.Unlock()
	for _, q := range app.asked {
		if q["ask"] == kind {
			list = append(list, q)
		}
	}
	return list
}

func (app *application) of(kinds ...string) func(*settings) {
	return func(s *settings) { s.ask.Ask, s.ask.URL = kinds, app.url }
}

func resumeIn(t *testing.T, frame string) string {
	t.Helper()
	_, rest, ok := strings.Cut(frame, `"resume":"`)
	resume, _, _ := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("got %s without resume", frame)
	}
	return resume
}

func inAnHour() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }

// The backend recognises the client by a header of its handshake, and answers with the client's
// identity. When the client reconnects with a resume string, the gateway does not ask the
// backend.
func TestBackendDecidesWhoMayConnect(t *testing.T) {
	room := fmt.Sprintf("asked_%d", time.Now().UnixNano())
	app := startApplication(t, nil)
	app.answers(func(q map[string]any) (int, string) {
		if headers, _ := q["headers"].(map[string]any); headers["X-Session"] == "ann's" {
			return 200, `{"allow":true,"id":"ann","name":"Ann","rooms":{"` + room + `":"read say"},"until":"` + inAnHour() + `"}`
		}
		return 200, `{"allow":false,"why":"log in first"}`
	})
	g := start(t, app.of("connect"), func(s *settings) { s.ask.Headers = []string{"X-Session"} })
	open := func(path, protocols, header string) *client {
		c := g.connect()
		c.write([]byte(strings.Replace(handshakeOf(path, protocols), "Host:", header+"Host:", 1)))
		if got := c.status(); got != 101 {
			t.Fatalf("got status %d, want 101", got)
		}
		return c
	}
	ann := open("/room/"+room+"/", "roomcast.v1", "X-Session: ann's\r\n")
	resume := resumeIn(t, ann.want(`{"hello":{*"you":{"id":"ann","name":"Ann"}*"expires":"*`))
	if q := app.questions("connect"); len(q) != 1 || !strings.HasPrefix(q[0]["id"].(string), "anon-") || q[0]["session"] == "" {
		t.Errorf("got the questions %v, want one about a guest's session", q)
	}
	ann.send(`{"id":1,"say":{"text":"hi"}}`)
	if frames := ann.next() + ann.next(); !strings.Contains(frames, `"from":{"id":"ann","name":"Ann"}`) {
		t.Errorf("got %s, want a message of ann", frames)
	}
	for range 3 {
		again := open("/room/"+room+"/", "roomcast.v1, resume."+resume, "")
		resume = resumeIn(t, again.want(`{"hello":{*"you":{"id":"ann","name":"Ann"}*`))
		again.send(`{"id":1,"say":{"text":"hi"}}`)
		again.next()
		again.next()
	}
	if q := app.questions("connect"); len(q) != 1 {
		t.Errorf("got %d questions after three sessions with resume, want 1", len(q))
	}
	open("/room/other_"+room+"/", "roomcast.v1, resume."+resume, "").want("close 4106 *")
	open("/room/"+room+"/", "roomcast.v1", "").want("close 4106 log in first")
	open("/room/"+room+"/", "roomcast.v1, resume."+strings.Replace(resume, resume[40:44], "AAAA", 1), "").want("close 4106 log in first")
	open("/room/"+room+"/", "", "X-Session: ann's\r\n").write([]byte{0x88, 0x80, 0, 0, 0, 0})
}

// A client may do only what both its token and the backend allow. The session gets the id in the
// backend's answer. A token in a later auth must still have the first token's id.
func TestBackendNeverGrantsMoreThanTheToken(t *testing.T) {
	run := time.Now().UnixNano()
	both, token, backend := fmt.Sprintf("both_%d", run), fmt.Sprintf("token_%d", run), fmt.Sprintf("backend_%d", run)
	app := startApplication(t, always(200, `{"allow":true,"id":"nick","until":"`+inAnHour()+`","rooms":{"`+both+`":"read say moderate","`+backend+`":"read"}}`))
	g := start(t, withTokens(t), app.of("connect"))
	grant := both + "=read," + token + "=read"
	check := func(c *client) {
		t.Helper()
		for i, tt := range []struct{ room, answer string }{
			{both, `"ok":*`}, {token, `"error":{"code":"forbidden"*`}, {backend, `"error":{"code":"forbidden"*`},
		} {
			c.send(fmt.Sprintf(`{"id":%d,"join":{"room":"%s"}}`, i, tt.room))
			c.want(fmt.Sprintf(`{"id":%d,`, i) + tt.answer)
		}
		c.send(`{"id":7,"say":{"room":"` + both + `","text":"x"}}`)
		c.want(`{"id":7,"error":{"code":"forbidden"*`)
	}
	c := g.bearer("/ws", tokenOf("ann", grant, time.Hour))
	resume := resumeIn(t, c.want(`{"hello":{*"you":{"id":"nick","name":"N ann"}*`))
	if q := app.questions("connect"); len(q) != 1 || q[0]["id"] != "ann" {
		t.Errorf("got the questions %v, want one about ann", q)
	}
	check(c)
	c.send(`{"id":8,"auth":{"token":"` + tokenOf("ann", grant, time.Hour) + `"}}`)
	c.want(`{"id":8,"ok":{"you":{"id":"nick"*`)
	check(c)
	c.send(`{"id":9,"auth":{"token":"` + tokenOf("nick", "*=read say moderate", time.Hour) + `"}}`)
	c.want(`{"id":9,"error":*`)

	// The resume string contains the backend's answer, but is valid only together with a token
	// of the same id.
	again := g.open("/ws", "roomcast.v1, bearer."+tokenOf("ann", grant, time.Hour)+", resume."+resume)
	again.want(`{"hello":{*"you":{"id":"nick"*`)
	check(again)
	first := g.json("/ws")
	first.send(`{"id":1,"auth":{"token":"` + tokenOf("ann", grant, time.Hour) + `","resume":"` + resume + `"}}`)
	first.want(`{"hello":{*"you":{"id":"nick"*`)
	if q := app.questions("connect"); len(q) != 1 {
		t.Errorf("got %d questions, want 1", len(q))
	}
	app.answers(always(200, `{"allow":false,"why":"not you"}`))
	g.open("/ws", "roomcast.v1, bearer."+tokenOf("ben", "*=read say", time.Hour)+", resume."+resume).want("close 4106 not you")
	if q := app.questions("connect"); len(q) != 1 || q[0]["id"] != "ben" {
		t.Errorf("got the questions %v, want one about ben", q)
	}
	// Without the token, the resume string does not even admit a guest.
	g.open("/ws", "roomcast.v1, resume."+resume).want("close 4003 *")
}

// When the backend allows a join, the resume string contains the permission from then on. A
// refused join reveals nothing about the room, and may be tried again.
func TestBackendDecidesWhoMayJoin(t *testing.T) {
	room := fmt.Sprintf("joins_%d", time.Now().UnixNano())
	app := startApplication(t, always(200, `{"allow":true,"until":"`+inAnHour()+`"}`))
	g := start(t, app.of("join"))
	c := g.json("/ws")
	c.want(`{"hello":*`)
	c.send(`{"id":1,"join":{"room":"` + room + `"}}`)
	ok := c.want(`{"id":1,"ok":{*"resume":"*`)
	again := g.open("/room/"+room+"/", "roomcast.v1, resume."+resumeIn(t, ok))
	again.want(`{"hello":*`)
	if q := app.questions("join"); len(q) != 1 || q[0]["room"] != room {
		t.Errorf("got the questions %v, want one about the room", q)
	}
	app.answers(always(200, `{"allow":false,"why":"members only"}`))
	c.send(`{"id":2,"join":{"room":"other_` + room + `"}}`)
	c.want(`{"id":2,"error":{"code":"forbidden","message":"members only"}}`)
	g.json("/room/other_" + room + "/").want("close 4106 members only")
	app.answers(always(200, `{"allow":true}`))
	c.send(`{"id":3,"join":{"room":"other_` + room + `"}}`)
	c.want(`{"id":3,"ok":{"room":"other_` + room + `","seq":0,"epoch":"",*`)
}

// While the backend is asked about some joins, the session may not exceed its limit of rooms.
func TestJoinsThatAskTheBackendAreLimited(t *testing.T) {
	app := startApplication(t, always(200, `{"allow":true}`))
	g := start(t, app.of("join"), func(s *settings) { s.session.MaxRooms = 2 })
	c := g.json("/ws")
	c.want(`{"hello":*`)
	var frames []byte
	for i := range 4 {
		frames = append(frames, maskedFrame(0x81, fmt.Sprintf(`{"id":%d,"join":{"room":"asked%d"}}`, i, i))...)
	}
	c.write(frames)
	refused := 0
	for range 4 {
		if matches(`{"id":*,"error":{"code":"too_many",*`, c.next()) {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d of 4 joins were refused, want 2", refused)
	}
}

// Messages that wait for the backend are not stored after a revocation, although the session that has
// sent them has ended.
func TestRevocationEndsMessagesThatWaitForTheBackend(t *testing.T) {
	run := time.Now().UnixNano()
	ann, room := fmt.Sprintf("ann_%d", run), fmt.Sprintf("waits_%d", run)
	answered := make(chan bool)
	app := startApplication(t, func(q map[string]any) (int, string) {
		if q["id"] == ann {
			<-answered
		}
		return 200, `{"allow":true}`
	})
	g := start(t, withTokens(t), app.of("say"))
	c := g.bearer("/room/"+room+"/", issuedToken(ann, time.Now().Add(-time.Minute)))
	c.want(`{"hello":*`)
	for i := range 3 {
		c.send(fmt.Sprintf(`{"id":%d,"say":{"text":"waits"}}`, i))
	}
	eventually(t, "a question", func() bool { return len(app.questions("say")) > 0 })
	g.revoke(proto.Revocation{ID: ann})
	c.wantSoon("close 4103 *revoked*")
	close(answered)
	eventually(t, "all questions", func() bool { return len(app.questions("say")) == 3 })
	ben := g.bearer("/room/"+room+"/", issuedToken("ben", time.Now().Add(-time.Minute)))
	ben.want(`{"hello":*`)
	ben.send(`{"id":1,"say":{"text":"first"}}`)
	ben.wantSoon(`{"id":1,"ok":{"seq":1,*`)
}

// The backend changes one message, refuses another, and does not answer for a third. While a
// message waits for the backend, later messages wait too, so that they keep their order. A
// message that is sent again with its key is stored once, even if the backend answers
// differently.
func TestBackendDecidesWhatIsSaid(t *testing.T) {
	room := fmt.Sprintf("says_%d", time.Now().UnixNano())
	asked := 0
	app := startApplication(t, func(q map[string]any) (int, string) {
		asked++ // the backend gets one question at a time
		text := q["content"].(map[string]any)["text"].(string)
		switch {
		case text == "bad":
			return 200, `{"allow":false,"why":"mind your words"}`
		case text == "rude":
			return 200, fmt.Sprintf(`{"allow":true,"content":{"text":"%d stars"}}`, asked)
		case text == "malformed":
			return 200, `{"allow":true,"content":{"text":"a","data":1}}`
		case text == "silence":
			return 500, ""
		}
		return 200, `{"allow":true}`
	})
	g := start(t, app.of("say"))
	c := g.json("/room/" + room + "/")
	c.want(`{"hello":*`)
	for i, text := range []string{"one", "bad", "rude", "two"} {
		c.send(fmt.Sprintf(`{"id":%d,"say":{"text":"%s","key":"k%d"}}`, i, text, i))
	}
	var texts, answers []string
	for len(texts) < 3 || len(answers) < 4 {
		frame := c.next()
		if _, rest, is := strings.Cut(frame, `"text":"`); is {
			text, _, _ := strings.Cut(rest, `"`)
			texts = append(texts, text)
		} else {
			answers = append(answers, frame)
		}
	}
	if got := strings.Join(texts, ","); got != "one,3 stars,two" {
		t.Errorf("got the messages %s, want one,3 stars,two", got)
	}
	if got := strings.Join(answers, " "); !strings.Contains(got, `{"id":1,"error":{"code":"forbidden","message":"mind your words"}}`) {
		t.Errorf("got the answers %s", got)
	}
	c.send(`{"id":8,"say":{"text":"rude","key":"k2"}}`)
	c.want(`{"id":8,"ok":{"seq":2,*"duplicate":true}}`)
	c.send(`{"id":9,"say":{"text":"two","key":"k2"}}`)
	c.want(`{"id":9,"error":{"code":"bad_request"*`)
	c.send(`{"id":10,"say":{"text":"silence","key":"s"}}`)
	c.send(`{"id":11,"say":{"text":"after","key":"a"}}`)
	c.want(`{"id":10,"error":{"code":"unavailable"*"retry_ms":*`)
	c.want(`{"id":11,"error":{"code":"unavailable"*"retry_ms":*`)

	editor := g.json("/room/" + room + "/")
	editor.want(`{"hello":*`)
	editor.send(`{"id":1,"edit":{"seq":1,"text":"malformed"}}`)
	editor.want(`{"id":1,"error":{"code":"unavailable"*"retry_ms":*`)
	editor.send(`{"id":2,"say":{"text":"malformed"}}`)
	editor.want(`{"id":2,"error":{"code":"unavailable"*"retry_ms":*`)

	text := g.open("/room/"+room+"/", "")
	text.send("bad")
	text.want("close 4106 mind your words")
}

// If the backend does not answer, the gateway closes the session with a code after which the
// client reconnects. With --ask-fail=allow, the gateway admits the client without the right to
// moderate. The client's resume string then contains no permission.
func TestBackendThatDoesNotAnswer(t *testing.T) {
	app := startApplication(t, always(302, ""))
	g := start(t, withTokens(t), app.of("connect"))
	g.bearer("/ws", tokenOf("ann", "", time.Hour)).want("close 4004 *")
	g.bearer("/room/x/", tokenOf("ann", "", time.Hour)).want("close 4004 *")
	allows := start(t, withTokens(t), app.of("connect"), func(s *settings) { s.ask.Fail = "allow" })
	room := fmt.Sprintf("fail_%d", time.Now().UnixNano())
	c := allows.bearer("/room/"+room+"/", tokenOf("ann", "*=read say moderate", time.Hour))
	resume := resumeIn(t, c.want(`{"hello":{*"you":{"id":"ann"*`))
	c.send(`{"id":1,"moderate":{"act":"close"}}`)
	c.want(`{"id":1,"error":{"code":"forbidden"*`)
	c.send(`{"id":2,"say":{"text":"hi"}}`)
	c.next()
	c.next()
	app.answers(always(403, ""))
	allows.open("/ws", "roomcast.v1, bearer."+tokenOf("ann", "", time.Hour)+", resume."+resume).want("close 4106 *")
}

// If no URL is configured, any NATS client in the backend's account may answer.
func TestBackendAnswersOverNATS(t *testing.T) {
	nc, err := dialNATS("application")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	subject := make(chan string, 8)
	_, err = nc.QueueSubscribe(proto.PrefixAsk+"*", "application", func(m *nats.Msg) {
		subject <- m.Subject
		m.Respond([]byte(`{"allow":true,"id":"ann"}`))
	})
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	g := start(t, func(s *settings) { s.ask.Ask = []string{"connect", "join"} })
	c := g.json("/room/nats/")
	c.want(`{"hello":{*"you":{"id":"ann"}*`)
	if first, second := <-subject, <-subject; first != "room.ask.connect" || second != "room.ask.join" {
		t.Errorf("got the subjects %s and %s", first, second)
	}
}

// When the backend's permission to be in a room ends, the gateway asks again. If the answer is yes,
// the member notices nothing. If it is no, the membership ends.
func TestGatewayAsksAgainWhenThePermissionToJoinEnds(t *testing.T) {
	run := time.Now().UnixNano()
	room, forever := fmt.Sprintf("lapse_%d", run), fmt.Sprintf("forever_%d", run)
	app := startApplication(t, nil)
	app.answers(func(q map[string]any) (int, string) {
		if q["room"] == forever {
			return 200, `{"allow":true}`
		}
		return 200, `{"allow":true,"until":"` + time.Now().Add(2*time.Second).UTC().Format(time.RFC3339Nano) + `"}`
	})
	g := start(t, app.of("join"))
	home, many, text := g.json("/room/"+room+"/"), g.json("/ws"), g.text("/room/"+room+"/")
	home.want(`{"hello":*`)
	many.want(`{"hello":*`)
	many.send(`{"id":1,"join":{"room":"` + room + `"}}`)
	many.want(`{"id":1,"ok":*`)
	many.send(`{"id":2,"join":{"room":"` + forever + `"}}`)
	many.want(`{"id":2,"ok":*`)
	eventually(t, "three questions to be asked again", func() bool { return len(app.questions("join")) >= 7 })
	for _, c := range []*client{home, many} {
		c.silent()
	}
	app.answers(always(200, `{"allow":false,"why":"the show is over"}`))
	home.want("close 4106 the show is over")
	text.want("close 4106 the show is over")
	many.want(`{"room":"` + room + `","ended":{"code":4106,"reason":"the show is over"}}`)
	many.send(`{"id":3,"join":{"room":"` + room + `"}}`)
	many.want(`{"id":3,"error":{"code":"forbidden","message":"the show is over"}}`)
	many.send(`{"id":4,"members":{"room":"` + forever + `"}}`)
	many.want(`{"id":4,"ok":*`)
}

// A member leaves while the gateway asks the backend again whether it may stay. The answer is then
// of no use, and the gateway must not keep it.
func TestPermissionEndsWithTheMembership(t *testing.T) {
	run := time.Now().UnixNano()
	room, other := fmt.Sprintf("left_%d", run), fmt.Sprintf("other_%d", run)
	app := startApplication(t, nil)
	app.answers(func(q map[string]any) (int, string) {
		return 200, `{"allow":true,"until":"` + time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano) + `"}`
	})
	g := start(t, app.of("join"))
	c := g.json("/ws")
	c.want(`{"hello":*`)
	c.send(`{"id":1,"join":{"room":"` + room + `"}}`)
	c.want(`{"id":1,"ok":*`)
	left := make(chan bool)
	app.answers(func(q map[string]any) (int, string) {
		if q["room"] == room {
			<-left
		}
		return 200, `{"allow":true,"until":"` + inAnHour() + `"}`
	})
	eventually(t, "the gateway to ask again", func() bool { return len(app.questions("join")) == 1 })
	c.send(`{"id":2,"leave":{"room":"` + room + `"}}`)
	c.want(`{"id":2,"ok":*`)
	close(left)
	c.send(`{"id":3,"join":{"room":"` + other + `"}}`) // this answer comes after the other one
	c.want(`{"id":3,"ok":*`)
	c.nc.Close()
	eventually(t, "the sessions to leave nothing", func() bool { return g.leftovers() == "[]" })
}

// If the backend's answer to connect has no until, it is for one session. Then the answer to a join
// promises nothing for later sessions, and the gateway asks about a later session again.
func TestAnswerWithoutUntilIsForOneSession(t *testing.T) {
	app := startApplication(t, nil)
	app.answers(func(q map[string]any) (int, string) {
		if q["ask"] == "connect" {
			return 200, `{"allow":true,"id":"ann"}`
		}
		return 200, `{"allow":true,"until":"` + inAnHour() + `"}`
	})
	g := start(t, app.of("connect", "join"))
	room := fmt.Sprintf("once_%d", time.Now().UnixNano())
	c := g.json("/ws")
	resume := resumeIn(t, c.want(`{"hello":{*"you":{"id":"ann"*`))
	c.send(`{"id":1,"join":{"room":"` + room + `"}}`)
	if ok := c.want(`{"id":1,"ok":*`); strings.Contains(ok, `"resume"`) {
		t.Errorf("got %s, want no resume", ok)
	}
	again := g.open("/ws", "roomcast.v1, resume."+resume)
	again.want(`{"hello":{*"you":{"id":"ann"*`)
	if q := app.questions("connect"); len(q) != 2 {
		t.Errorf("got the questions %v, want two about connect", q)
	}
	if _, err := g.auth.ReadPass(resume, ""); !strings.Contains(fmt.Sprint(err), "for one session") {
		t.Errorf("got %v, want a refusal that says why", err)
	}
}
