package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// presence reads the next notice of a join or leave. It returns the name and the count of people
// in the notice.
func (c *client) presence() string {
	c.t.Helper()
	for {
		c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		m, err := c.read()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		for _, what := range []string{"joined", "left"} {
			if strings.Contains(m.body, `,"`+what+`":{`) {
				_, count, _ := strings.Cut(m.body, `"count":`)
				return what + " " + strings.Trim(count, "}")
			}
		}
	}
}

// A client that joins a room and leaves it immediately must not remain in the list of members.
func TestLeaveDuringTheJoinLeavesNoMember(t *testing.T) {
	g := start(t, func(s *settings) { s.loop.Loops = 1 })
	a := g.json("/room/breath/")
	see := func(want string) {
		t.Helper()
		if got := a.presence(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	see("joined 1")
	b := g.json("/ws")
	b.want(`{"hello":*`)
	b.write(append(maskedFrame(0x81, `{"id":1,"join":{"room":"breath"}}`), maskedFrame(0x81, `{"id":2,"leave":{"room":"breath"}}`)...))
	b.want(`{"id":2,"error":{"code":"not_joined",*`)
	b.want(`{"id":1,"ok":{"room":"breath",*`)
	see("joined 2")
	b.send(`{"id":3,"leave":{"room":"breath"}}`)
	b.want(`{"id":3,"ok":{"room":"breath"}}`)
	see("left 1")
	b.send(`{"id":4,"leave":{"room":"breath"}}`)
	b.want(`{"id":4,"error":{"code":"not_joined","message":"you are not in the room breath"}}`)
	b.send(`{"id":5,"members":{"room":"breath"}}`)
	b.want(`{"id":5,"error":{"code":"not_joined","message":"join the room first*`)
}

// If the gateway follows the room already, it knows the result of a join at once. Even then, commands
// that the client has sent behind the join must not be answered as if the join had been.
func TestCommandsBehindAJoinDoNotOvertakeIt(t *testing.T) {
	g := start(t, func(s *settings) { s.loop.Loops = 1 })
	g.json("/room/warm/").want(`{"hello":*`)
	b := g.json("/ws")
	b.want(`{"hello":*`)
	var frames []byte
	for id, verb := range []string{"join", "join", "members", "signal", "leave"} {
		fields := `"room":"warm"`
		if verb == "signal" {
			fields += `,"type":"typing","data":1`
		}
		frames = append(frames, maskedFrame(0x81, fmt.Sprintf(`{"id":%d,"%s":{%s}}`, id, verb, fields))...)
	}
	b.write(frames)
	b.want(`{"id":1,"error":{"code":"bad_request","message":"the room is being joined already; wait for the answer"}}`)
	for id := 2; id < 5; id++ {
		b.want(fmt.Sprintf(`{"id":%d,"error":{"code":"not_joined","message":"the room is still being joined;*`, id))
	}
	b.want(`{"id":0,"ok":{"room":"warm",*`)
}
