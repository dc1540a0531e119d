package session_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// hostileRooms are room names that have a special meaning to NATS, to a log, to a page or to a
// parser.
var hostileRooms = []string{
	"*", ">", "a.*", "a.>", "*.a", "a*b", ".", "..", ".a", "a.", "a..b",
	"$SYS", "$JS.API", "a b", " a", "a\t", "a\r\nPUB room.x 1\r\nx", "a\x00b", "\x00",
	"\xff\xfe", "a\xc0\xafb", "\xed\xa0\x80", "<img onerror=x>", "'; DROP TABLE", "../../etc/passwd", "%2e%2e", "a/b", "a\\b",
	"\u202Eabc", "\u200B", "\u0301e", "a\u3164", "\uffa0", "a\ufe0f", "\ufeffa", "👍", "a,b", "a;b", "a!b", "a%2Eb", "",
	strings.Repeat("x", 65), strings.Repeat("x", 5000), strings.Repeat("房", 67),
}

// A hostile name never becomes part of a NATS subject, and never reaches another room or user.
// The sender receives a refusal with the reason.
func TestHostileRoomsAreRefused(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate.PerSecond = 0 })
	witness := g.text("/room/witness/")
	var heard []string
	service := []string{".witness", "room.own.", "room.ack.", "room.state.", "room.gw."} // subjects that roomsvc and gateways use by themselves
	nc, err := dialNATS("witness")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	c := g.json("/ws")
	c.want(`{"hello":*`)
	for _, name := range hostileRooms {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			if name != "" && name != "." && name != ".." {
				h := g.connect()
				h.write([]byte(handshakeOf("/room/"+url.PathEscape(name)+"/", "")))
				if got := h.status(); got != 400 && got != 404 {
					t.Errorf("in the path: got status %d, want 400", got)
				}
			}
			quoted, err := json.Marshal(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{`"join":{"room":%s}`, `"say":{"room":%s,"text":"x"}`, `"leave":{"room":%s}`,
				`"history":{"room":%s}`, `"members":{"room":%s}`, `"signal":{"room":%s,"type":"t"}`} {
				c.send(`{"id":1,` + fmt.Sprintf(verb, quoted) + `}`)
				if got := c.next(); !strings.HasPrefix(got, `{"id":1,"error":{"code":"bad_room"`) {
					t.Errorf(verb+": got %s, want bad_room", quoted, got)
				}
			}
		})
	}
	witness.silent()
	witness.send("still here")
	witness.hears("still here")
	for {
		m, err := sub.NextMsg(100 * time.Millisecond)
		if err == nats.ErrTimeout {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(m.Subject, "room.") && !slices.ContainsFunc(service, func(part string) bool { return strings.Contains(m.Subject, part) }) {
			heard = append(heard, m.Subject)
		}
	}
	if len(heard) > 0 {
		t.Errorf("got messages on %q, want none", heard)
	}
}

// The gateway answers each malformed command once, and the session continues.
func TestMalformedCommandsGetOneTypedAnswer(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate.PerSecond = 0 })
	c := g.json("/room/bad/")
	c.want(`{"hello":*`)
	for _, row := range []struct{ frame, want string }{
		{``, `{"error":{"code":"bad_request",*}}`},
		{`x`, `{"error":{"code":"bad_request",*}}`},
		{`null`, `{"error":{"code":"bad_request",*}}`},
		{`[]`, `{"error":{"code":"bad_request",*}}`},
		{`{}`, `{"error":{"code":"bad_request",*}}`},
		{`{"id":1}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"shout":{}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":"a"},"join":{}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":5}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":5}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":"a","text":"b"}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":"a","bin":"AA=="}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"bin":"!"}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":"a","key":"a b"}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":"a","type":"a/b"}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":"a"}} {}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":9007199254740992,"say":{"text":"a"}}`, `{"error":{"code":"bad_request",*}}`},
		{`{"id":1.5,"say":{"text":"a"}}`, `{"error":{"code":"bad_request",*}}`},
		{`{"id":"` + strings.Repeat("i", 100) + `","say":{"text":"a"}}`, `{"error":{"code":"too_large",*}}`},
		{`{"id":1,"history":{"before":9007199254740992}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"history":{"before":1,"since":1}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"join":{"room":"x","since":1,"last":1}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"data":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}}`, `{"id":1,"error":{"code":"bad_request",*}}`},
		{`{"id":1,"say":{"text":"` + strings.Repeat("x", 65<<10) + `"}}`, `{"id":1,"error":{"code":"too_large",*}}`},
		{`{"id":1,"say":{"text":"` + strings.Repeat("x", 380<<10) + `"}}`, `{"id":1,"error":{"code":"too_large",*}}`},
		{`{"id":1,"say":{"data":"` + strings.Repeat(`\n`, 60_000) + `"}}`, `{"id":1,"error":{"code":"too_large",*}}`},
		{`{"id":1,"signal":{"room":"other","type":"t"}}`, `{"id":1,"error":{"code":"not_joined",*}}`},
		{`{"id":1,"leave":{"room":"other"}}`, `{"id":1,"error":{"code":"not_joined",*}}`},
		{`{"id":1,"moderate":{"act":"close"}}`, `{"id":1,"error":{"code":"forbidden",*}}`},
		{`{"id":1,"auth":{"token":"x"}}`, `{"id":1,"error":{"code":"forbidden",*}}`},
	} {
		c.send(row.frame)
		if got := c.next(); !matches(row.want, got) {
			t.Errorf("%.60s: got %s, want %s", row.frame, got, row.want)
		}
	}
	c.send(`{"id":"last","say":{"text":"still here"}}`)
	for range 2 {
		c.want(`*`)
	}
	c.silent()
}

// A frame that violates RFC 6455 or a limit closes the connection, with the close code for this
// error.
func TestBadFramesCloseTheConnection(t *testing.T) {
	g := start(t)
	big := strings.Repeat("x", 64<<10+1)
	for _, row := range []struct {
		name     string
		protocol string
		frame    []byte
		want     string
	}{
		{"a message over the limit", "", maskedFrame(0x81, big), "close 1009 *"},
		{"a binary message over the limit", "", maskedFrame(0x82, big), "close 1009 *"},
		{"a command far over the limit", "roomcast.v1", maskedFrame(0x81, strings.Repeat(big, 7)), "close 1009 *"},
		{"a binary frame", "roomcast.v1", maskedFrame(0x82, "x"), "close 1003 *"},
		{"no mask", "", []byte{0x81, 1, 'x'}, "close 1002 *"},
		{"reserved bits", "", maskedFrame(0xC1, "x"), "close 1002 *"},
		{"not UTF-8", "", maskedFrame(0x81, "\xff"), "close 1007 *"},
		{"not UTF-8 in JSON", "roomcast.v1", maskedFrame(0x81, "{\"say\":{\"text\":\"\xff\"}}"), "close 1007 *"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := g.open("/room/badframes/", row.protocol)
			if row.protocol != "" {
				c.want(`{"hello":*`)
			}
			go c.nc.Write(row.frame)
			c.want(row.want)
		})
	}
	c := g.text("/room/badframes/")
	c.send(strings.Repeat("x", 64<<10))
	c.hears(strings.Repeat("x", 64<<10))
}

// The gateway answers all commands, also the malformed ones, and the session stays open.
func TestRandomCommandsAreAllAnswered(t *testing.T) {
	g := start(t, func(s *settings) { s.session.Rate.PerSecond = 0 })
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	c := g.json("/ws")
	c.want(`{"hello":*`)
	for i := range 400 {
		room := pick("fuzz1", "fuzz2", "fuzz3", "a.b", "", "*")
		frame := fmt.Sprintf(`{"id":%d,"%s":{"room":"%s"%s}}`, i, pick("say", "join", "leave", "history", "members", "signal", "moderate", "x"), room,
			pick("", `,"text":"a"`, `,"last":5`, `,"since":0`, `,"type":"t"`, `,"before":3`, `,"bin":"AA=="`, `,"data":[1]`, `,"x":1`))
		if r.IntN(5) == 0 {
			b := []byte(frame)
			b[len(`{"id":1000,`)+r.IntN(len(b)-20)] = byte(' ' + r.IntN(90))
			frame = string(b)
		}
		c.send(frame)
		answered := false
		for !answered {
			got := c.next()
			answered = strings.Contains(got, `"ok":`) || strings.Contains(got, `"error":{"code":"`)
			if strings.HasPrefix(got, "close") {
				t.Fatalf("%s: got %s", frame, got)
			}
			if strings.Contains(got, string(proto.Internal)) {
				t.Fatalf("%s: got %s", frame, got)
			}
		}
	}
}
