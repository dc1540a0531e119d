package session_test

import (
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
