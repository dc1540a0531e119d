package server

import (
	"net/http"
	"time"

	"roomcast/gateway/auth"
	"roomcast/proto"
	"roomcast/proto/daemon"
)

// revoke makes the credentials of an id or of a session invalid, if they were issued before now.
// The body is {"id":"ann"} or {"session":"…"}, optionally with "reconnect":true. The answer is
// {"ok":{"at":"…"}}.
func (a *api) revoke(r *http.Request, by *caller) (answer, error) {
	var asked struct {
		ID        string `json:"id"`
		Session   string `json:"session"`
		Reconnect bool   `json:"reconnect"`
	}
	if err := readObject(r, &asked, `{"id":"ann"} or {"session":"…"}`); err != nil {
		return nil, err
	}
	e := proto.Revocation{ID: asked.ID, Session: asked.Session, Reconnect: asked.Reconnect}
	if refusal := e.Check(); refusal != nil {
		return nil, refusal
	}
	var at time.Time
	err := by.mayRevoke(asked.ID)
	if err == nil {
		at, err = a.bridge.Revoke(r.Context(), e)
	}
	daemon.Audit(a.log, by.describe(r, a.auth.IssuerOf, daemon.Act{Name: "revoke", Target: e.ID + e.Session}), err)
	if err != nil {
		return nil, err
	}
	return appendJSON(nil, map[string]any{"ok": map[string]time.Time{"at": at.UTC()}}), nil
}

// mayRevoke returns a refusal if the caller may not revoke the credentials of an id. For a
// session, the id is "". The gateway does not know to which id the session belongs, so the caller
// needs the right for all ids.
func (c *caller) mayRevoke(id string) error {
	switch {
	case c.local:
		return nil
	case c.token == nil:
		return proto.Refuse(proto.Forbidden, "only a token of --api-token-file can revoke")
	case id == "":
		id = "*"
	}
	if refusal := c.token.CheckID(id, auth.RightRevoke); refusal != nil {
		return refusal
	}
	return nil
}
