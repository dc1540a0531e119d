package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto"
)

// ticket returns a ticket for the given id. Its issuer is api:shop.
func (g *gateway) ticket(id, rooms string, change ...func(*auth.Ticket)) string {
	t := auth.Ticket{Issuer: "api:shop", Who: proto.Identity{ID: id, Name: "N " + id}, Rooms: []byte(rooms),
		Issued: time.Now(), Expires: time.Now().Add(time.Minute), Until: time.Now().Add(time.Hour)}
	for _, f := range change {
		f(&t)
	}
	return g.auth.SignTicket(&t)
}

func noGuests(s *settings) { s.auth.GuestRights, s.auth.Tickets = []string{}, true }

// A ticket opens one session, on one of the gateways. The session has the rights of the ticket.
// The client can reconnect with its resume string, but not with the ticket.
func TestTicketOpensOneSession(t *testing.T) {
	room := fmt.Sprintf("ticket_%d", time.Now().UnixNano())
	g, other := start(t, noGuests), start(t, noGuests)
	rooms := `{"` + room + `":"read say"}`
	ticket := g.ticket("ann", rooms)
	c := g.json("/room/" + room + "/?ticket=" + ticket)
	resume := resumeIn(t, c.want(`{"hello":{*"you":{"id":"ann","name":"N ann"}*"expires":"*`))
	for _, again := range []*gateway{g, other} {
		again.json("/room/" + room + "/?ticket=" + ticket).want("close 4003 *used before*")
	}
	c.send(`{"id":1,"say":{"text":"hi"}}`)
	c.next()
	c.next()
	c.send(`{"id":2,"moderate":{"act":"close"}}`)
	c.want(`{"id":2,"error":{"code":"forbidden"*`)
	back := other.open("/room/"+room+"/", "roomcast.v1, resume."+resume)
	back.want(`{"hello":{*"you":{"id":"ann","name":"N ann"}*`)
	other.open("/room/other_"+room+"/", "roomcast.v1, resume."+resume).want("close 4106 *")
	text := g.open("/room/"+room+"/?ticket="+g.ticket("ben", rooms), "")
	text.send("from ben")
	back.want(`*"from":{"id":"ben","name":"N ben"}*"text":"from ben"*`)

	// The client sends the ticket in its first frame. A later ticket for the same id renews the
	// session.
	first := g.json("/ws")
	first.send(`{"id":1,"auth":{"ticket":"` + g.ticket("ann", rooms) + `"}}`)
	first.want(`{"hello":{*"you":{"id":"ann"*`)
	first.want(`{"id":1,"ok":{"you":{"id":"ann"*"expires":"2*`)
	first.send(`{"id":2,"auth":{"ticket":"` + g.ticket("ann", `{"news":"read"}`) + `"}}`)
	first.want(`{"id":2,"ok":{"you":{"id":"ann"*"expires":*`)
	first.send(`{"id":3,"join":{"room":"` + room + `"}}`)
	first.want(`{"id":3,"error":{"code":"forbidden"*`)
	second := g.json("/ws")
	second.send(`{"id":1,"auth":{"ticket":"` + g.ticket("ann", rooms) + `"}}`)
	second.want(`{"hello":*`)
	second.want(`{"id":1,"ok":*`)
	second.send(`{"id":2,"auth":{"ticket":"` + g.ticket("ben", rooms) + `"}}`)
	second.want(`{"id":2,"error":{"code":"forbidden"*`)
}

// Many clients present the same ticket to different gateways at the same time. Exactly one of
// them is accepted.
func TestTicketOnManyGatewaysAtOnce(t *testing.T) {
	gateways := []*gateway{start(t, noGuests), start(t, noGuests), start(t, noGuests)}
	for range 10 {
		ticket := gateways[0].ticket("ann", `{"*":"read"}`)
		var clients []*client
		for i := range 9 {
			clients = append(clients, gateways[i%3].json("/ws?ticket="+ticket))
		}
		opened := 0
		for _, c := range clients {
			if strings.HasPrefix(c.next(), `{"hello":`) {
				opened++
			}
		}
		if opened != 1 {
			t.Fatalf("%d of nine sessions have opened with one ticket", opened)
		}
	}
}

func TestHostileTicketsAreRefused(t *testing.T) {
	g := start(t, noGuests, withTokens(t))
	good := func() string { return g.ticket("ann", `{"*":"read"}`) }
	resume := resumeIn(t, g.json("/ws?ticket="+good()).want(`{"hello":*`))
	forged := good()
	stranger, err := auth.New(auth.NewSigningKeys([]byte(strings.Repeat("x", 32))), auth.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ ticket, want string }{
		"expired":            {g.ticket("ann", `{"*":"read"}`, func(t *auth.Ticket) { t.Expires = time.Now().Add(-time.Second) }), "close 4003 *"},
		"its session over":   {g.ticket("ann", `{"*":"read"}`, func(t *auth.Ticket) { t.Until = time.Now().Add(-time.Second) }), "close 4003 *"},
		"too long":           {g.ticket("ann", `{"*":"read"}`, func(t *auth.Ticket) { t.Expires = time.Now().Add(time.Hour) }), "close 4003 *"},
		"changed":            {strings.Replace(forged, forged[20:24], "AAAA", 1), "close 4103 *"},
		"half":               {forged[:len(forged)/2], "close 4103 *"},
		"of another cluster": {stranger.SignTicket(&auth.Ticket{Who: proto.Identity{ID: "ann"}, Rooms: []byte(`{"*":"read"}`), Expires: time.Now().Add(time.Minute), Until: time.Now().Add(time.Hour)}), "close 4103 *"},
		"a resume string":    {resume, "close 4103 *"},
		"a token":            {tokenOf("ann", "*=read", time.Hour), "close 4103 *"},
		"long":               {strings.Repeat("A", 9000), "close 4103 *"},
		"nothing granted":    {g.ticket("ann", `{}`), `{"hello":*`},
	} {
		c := g.json("/ws?ticket=" + tt.ticket)
		if frame := c.next(); !matches(tt.want, frame) {
			t.Errorf("%s: got %s, want %s", name, frame, tt.want)
		}
	}
	// A ticket is not accepted as a resume string, and a resume string is not accepted as a
	// ticket.
	c := g.open("/ws", "roomcast.v1, resume."+good())
	c.send(`{"id":1,"ping":{}}`)
	c.want("close 4107 *")
	token := g.bearer("/ws", tokenOf("ann", "*=read", time.Hour))
	token.want(`{"hello":*`)
	token.send(`{"id":1,"auth":{"ticket":"` + good() + `"}}`)
	token.want(`{"id":1,"error":{"code":"forbidden"*`)
}

// A session that was opened with a resume string has not sent auth. So it may renew itself at once,
// and only the next auth must wait.
func TestResumedSessionRenewsAtOnce(t *testing.T) {
	g := start(t, noGuests)
	first := g.json("/ws?ticket=" + g.ticket("ann", `{"*":"read"}`))
	c := g.open("/ws", "roomcast.v1, resume."+resumeIn(t, first.want(`{"hello":*`)))
	c.want(`{"hello":*`)
	c.send(`{"id":1,"auth":{"ticket":"` + g.ticket("ann", `{"*":"read say"}`) + `"}}`)
	c.want(`{"id":1,"ok":{"you":{"id":"ann"*`)
	c.send(`{"id":2,"auth":{"ticket":"` + g.ticket("ann", `{"*":"read say"}`) + `"}}`)
	c.want(`{"id":2,"error":{"code":"rate_limited",*`)
}

// When the time of a ticket's session is over, the refusal of its resume string says what the
// client needs.
func TestResumeOfAnEndedTicketAsksForANewTicket(t *testing.T) {
	g := start(t, noGuests)
	c := g.json("/ws?ticket=" + g.ticket("ann", `{"*":"read"}`, func(t *auth.Ticket) { t.Until = time.Now().Add(2 * time.Second) }))
	resume := resumeIn(t, c.want(`{"hello":*`))
	c.want("close 4003 *")
	g.open("/ws", "roomcast.v1, resume."+resume).want("close 4003 *get a new ticket")
}
