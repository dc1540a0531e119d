package server

import (
	"encoding/json"
	"net/http"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/grant"
)

// Limits for the session that a ticket opens.
const (
	ticketSession    = time.Hour // default, if the request has no until
	maxTicketSession = 24 * time.Hour
)

// ticket makes a ticket: {"id":"ann","name":"Ann","rooms":{"lobby":"read say"},"ttl":"30s",
// "until":"…"}. The answer is {"ok":{"ticket":"…","expires":"…"}}.
func (a *api) ticket(r *http.Request, by *caller) (answer, error) {
	var asked ticketRequest
	if err := readObject(r, &asked, `{"id":"ann","rooms":{"lobby":"read say"}}`); err != nil {
		return nil, err
	}
	t, err := asked.ticket(by)
	daemon.Audit(a.log, by.describe(r, a.auth.IssuerOf, daemon.Act{Name: "ticket", Target: asked.ID}), err)
	if err != nil {
		return nil, err
	}
	return appendJSON(nil, map[string]any{"ok": map[string]any{
		"ticket": a.auth.SignTicket(t), "expires": t.Expires.UTC().Truncate(time.Second),
	}}), nil
}

// ticketRequest is the body of a request for a ticket.
type ticketRequest struct {
	ID    string          `json:"id"`
	Name  string          `json:"name"`
	Rooms json.RawMessage `json:"rooms"`
	TTL   string          `json:"ttl"`
	Until string          `json:"until"`
}

// ticket returns the ticket for this request, or a refusal if the caller gets none.
func (asked *ticketRequest) ticket(by *caller) (*auth.Ticket, error) {
	if refusal := proto.CheckID(asked.ID); refusal != nil {
		return nil, refusal
	}
	if proto.ReservedID(asked.ID) {
		return nil, proto.Refuse(proto.Forbidden, "%.80s is an id that only Roomcast itself uses; choose another", asked.ID)
	}
	if refusal := proto.CheckName(asked.Name); refusal != nil {
		return nil, refusal
	}
	if asked.Rooms == nil {
		return nil, proto.Refuse(proto.BadRequest, `name the rooms and rights: "rooms":{"lobby":"read say"}`)
	}
	if err := by.mayGrant(asked.Rooms); err != nil {
		return nil, err
	}
	now, ttl := time.Now(), proto.MaxTicket
	if asked.TTL != "" {
		var err error
		if ttl, err = time.ParseDuration(asked.TTL); err != nil || ttl < time.Second || ttl > proto.MaxTicket {
			return nil, proto.Refuse(proto.BadRequest, "ttl is from 1s to 60s, such as 30s")
		}
	}
	until := now.Add(ticketSession)
	if asked.Until != "" {
		var err error
		if until, err = proto.ParseTime(asked.Until); err != nil || !until.After(now) || until.After(now.Add(maxTicketSession)) {
			return nil, proto.Refuse(proto.BadRequest, "until must be a time in the next 24 hours, such as %s", now.Add(ticketSession).UTC().Format(time.RFC3339))
		}
	}
	return &auth.Ticket{
		Issuer: by.who.ID, Who: proto.Identity{ID: asked.ID, Name: asked.Name}, Rooms: asked.Rooms,
		Issued: now, Expires: now.Add(ttl), Until: until,
	}, nil
}

// mayGrant returns a refusal if the caller may not put these rights into a ticket.
func (c *caller) mayGrant(rooms json.RawMessage) error {
	rules, err := grant.Rules(rooms)
	switch {
	case err != nil:
		return proto.Refuse(proto.BadRequest, "%v", err)
	case c.local:
		return nil
	case c.token == nil:
		return proto.Refuse(proto.Forbidden, "only a token of --api-token-file can make tickets")
	}
	for pattern, rights := range rules {
		for _, right := range append(rights, auth.RightTickets) {
			if refusal := c.token.CheckPattern(pattern, right); refusal != nil {
				return refusal
			}
		}
	}
	return nil
}
