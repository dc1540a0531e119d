package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"roomcast/gateway/auth"
	"roomcast/proto"
)

// issuedToken returns a token with the given iat that is valid for an hour.
func issuedToken(sub string, issued time.Time) string {
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": sub, "iat": issued.Unix(), "exp": issued.Add(time.Hour).Unix(), "rooms": map[string]string{"*": "read say"},
	}).SignedString(tokenSecret)
	if err != nil {
		panic(err)
	}
	return s
}

func (g *gateway) revoke(e proto.Revocation) {
	g.t.Helper()
	// Times of credentials and revocations have whole milliseconds. A credential of the same
	// millisecond is not revoked.
	before := time.Now().UnixMilli()
	eventually(g.t, "the next millisecond", func() bool { return time.Now().UnixMilli() > before })
	if _, err := g.bridge.Revoke(g.t.Context(), e); err != nil {
		g.t.Fatal(err)
	}
}

// A revocation ends the sessions of an id on every gateway. Every gateway refuses older
// credentials of the id, even a gateway that starts later. Newer credentials and other ids are
// not affected.
func TestRevocationTakesEffectOnEveryGateway(t *testing.T) {
	run := time.Now().UnixNano()
	ann, ben, room := fmt.Sprintf("ann_%d", run), fmt.Sprintf("ben_%d", run), fmt.Sprintf("revoked_%d", run)
	gateways := []*gateway{start(t, withTokens(t)), start(t, withTokens(t)), start(t, withTokens(t))}
	old := issuedToken(ann, time.Now().Add(-time.Minute))
	var sessions []*client
	for _, g := range gateways {
		for _, path := range []string{"/ws", "/room/" + room + "/"} {
			c := g.bearer(path, old)
			c.want(`{"hello":*`)
			sessions = append(sessions, c)
		}
	}
	other := gateways[1].bearer("/ws", issuedToken(ben, time.Now().Add(-time.Minute)))
	other.want(`{"hello":*`)
	gateways[0].revoke(proto.Revocation{ID: ann})
	for _, c := range sessions {
		for frame := ""; !matches("close 4103 *revoked*", frame); {
			if frame = c.next(); strings.HasPrefix(frame, "close") && !matches("close 4103 *revoked*", frame) {
				t.Fatalf("got %s, want 4103", frame)
			}
		}
	}
	other.send(`{"id":1,"ping":{}}`)
	other.want(`{"id":1,"ok":{}}`)
	other.send(`{"id":2,"auth":{"token":"` + issuedToken(ben, time.Now()) + `"}}`)
	other.want(`{"id":2,"ok":*`)
	for _, g := range append(gateways, start(t, withTokens(t))) {
		g.bearer("/ws", old).want("close 4103 *revoked*")
		g.bearer("/ws", issuedToken(ann, time.Now().Add(2*time.Second))).want(`{"hello":*`)
	}
}

// sessionIn returns the id of the session in a hello.
func sessionIn(hello string) string {
	_, rest, _ := strings.Cut(hello, `"session":"`)
	session, _, _ := strings.Cut(rest, `"`)
	return session
}

// The id of each session that continues another one leads to all of them. So a revocation by any
// of these ids ends all of these sessions, and no gateway accepts their resume strings.
func TestAnySessionOfAFamilyRevokesTheFamily(t *testing.T) {
	g, other := start(t, noGuests), start(t, noGuests)
	for revoked := range 4 {
		first := g.json("/ws?ticket=" + g.ticket("ann", `{"*":"read"}`))
		chain, hellos := []*client{first}, []string{first.want(`{"hello":*`)}
		for i := range 3 {
			c := []*gateway{other, g}[i%2].open("/ws", "roomcast.v1, resume."+resumeIn(t, hellos[i]))
			chain, hellos = append(chain, c), append(hellos, c.want(`{"hello":*`))
		}
		bystander := g.json("/ws?ticket=" + g.ticket("ann", `{"*":"read"}`))
		bystander.want(`{"hello":*`)
		other.revoke(proto.Revocation{Session: sessionIn(hellos[revoked])})
		for i, c := range chain {
			c.want("close 4103 *revoked*")
			g.open("/ws", "roomcast.v1, resume."+resumeIn(t, hellos[i])).want("close 4103 *revoked*")
		}
		bystander.send(`{"id":1,"ping":{}}`)
		bystander.want(`{"id":1,"ok":{}}`)
	}
}

// After a session was revoked, no resume string of this session or of its successors admits a
// client. If the revocation says reconnect, the client may come back with a newer credential.
func TestRevokedSessionCannotResume(t *testing.T) {
	g, other := start(t), start(t)
	bystander := resumeIn(t, g.json("/ws").want(`{"hello":*`))
	first := g.json("/ws").want(`{"hello":*`)
	resume := resumeIn(t, first)
	second := other.open("/ws", "roomcast.v1, resume."+resume)
	following := resumeIn(t, second.want(`{"hello":*`))
	g.revoke(proto.Revocation{Session: sessionIn(first)})
	second.want("close 4103 *revoked*")
	for _, s := range []string{resume, following} {
		g.open("/ws", "roomcast.v1, resume."+s).want("close 4103 *revoked*")
		other.open("/ws", "roomcast.v1, resume."+s).want("close 4103 *revoked*")
	}
	g.open("/ws", "roomcast.v1, resume."+bystander).want(`{"hello":*`)

	id := fmt.Sprintf("tina_%d", time.Now().UnixNano())
	shop := start(t, noGuests)
	c := shop.json("/ws?ticket=" + shop.ticket(id, `{"*":"read"}`))
	resume = resumeIn(t, c.want(`{"hello":*`))
	unused := shop.ticket(id, `{"*":"read"}`, func(t *auth.Ticket) { t.Issued = t.Issued.Add(-time.Second) })
	shop.revoke(proto.Revocation{ID: id, Reconnect: true})
	c.want("close 4003 *revoked; get a new one")
	shop.open("/ws", "roomcast.v1, resume."+resume).want("close 4003 *revoked*")
	shop.json("/ws?ticket=" + unused).want("close 4003 *revoked*")
	shop.json("/ws?ticket=" + shop.ticket(id, `{"*":"read"}`)).want(`{"hello":*`)
}
