package session_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// audits is an io.Writer for a log that keeps the audit lines.
type audits struct {
	mu    sync.Mutex
	lines []map[string]any
	all   strings.Builder
}

func (a *audits) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var line map[string]any
	if err := json.Unmarshal(p, &line); err == nil && line["msg"] == "audit" {
		a.lines = append(a.lines, line)
	}
	return a.all.Write(p)
}

func (a *audits) log(s *settings) {
	log := slog.New(slog.NewJSONHandler(a, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.session.Log, s.bridge.Log = log, log
}

// has reports whether the audit has a line with exactly these fields besides the time and the
// address. The fields are given as names and values in turn.
func (a *audits) has(fields ...string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, line := range a.lines {
		n := len(line) - 3 // without time, level and msg
		if peer, _ := line["peer"].(string); peer != "" {
			n--
		}
		same := 2*n == len(fields) && line["time"] != ""
		for i := 0; same && i < len(fields); i += 2 {
			same = fmt.Sprint(line[fields[i]]) == fields[i+1]
		}
		if same {
			return true
		}
	}
	return false
}

// The log has a line for each act, also for refused acts. The line names the moderator, the act
// and the member. It contains neither message texts nor credentials.
func TestActsAreAudited(t *testing.T) {
	var log audits
	g := start(t, withTokens(t), log.log, func(s *settings) { s.auth.Tickets, s.auth.GuestRights = true, []string{"read say"} })
	room := fmt.Sprintf("audit_%d", time.Now().UnixNano())
	modToken, ticket := tokenOf("mod", "*=read say moderate", time.Hour), g.ticket("tom", `{"*":"read say"}`)
	mod := g.bearer("/room/"+room+"/", modToken)
	mod.want(`{"hello":*`)
	tom := g.json("/room/" + room + "/?ticket=" + ticket)
	tom.want(`{"hello":*`)
	guest := g.json("/room/" + room + "/")
	guestID := idIn(guest.want(`{"hello":*`))
	answered := func(c *client, id int) {
		t.Helper()
		for prefix := fmt.Sprintf(`{"id":%d,`, id); ; {
			if frame := c.next(); strings.HasPrefix(frame, prefix) {
				return
			}
		}
	}
	for i, step := range []struct {
		c     *client
		frame string
		want  []string // fields without the room; nil = no line
	}{
		{tom, `"say":{"text":"a secret text"}`, nil},
		{mod, `"moderate":{"act":"mute","member":"tom","for":"10m","why":"too loud"}`,
			[]string{"act", "mute", "by", "mod", "credential", "token", "target", "tom", "seq", "2", "reason", "too loud"}},
		{tom, `"moderate":{"act":"ban","member":"mod","why":"revenge"}`,
			[]string{"act", "ban", "by", "tom", "credential", "ticket", "holder", "api:shop", "target", "mod", "reason", "revenge", "refused", "forbidden"}},
		{tom, `"edit":{"seq":1,"text":"another secret text"}`,
			[]string{"act", "edit", "by", "tom", "credential", "ticket", "holder", "api:shop", "of", "1", "refused", "muted"}},
		{mod, `"moderate":{"act":"ban","member":"mod"}`,
			[]string{"act", "ban", "by", "mod", "credential", "token", "target", "mod", "refused", "bad_request"}},
		{mod, `"moderate":{"act":"delete","seq":1}`, []string{"act", "delete", "by", "mod", "credential", "token", "seq", "3", "of", "1"}},
		{guest, `"moderate":{"act":"close"}`, []string{"act", "close", "by", guestID, "credential", "guest", "refused", "forbidden"}},
	} {
		step.c.send(fmt.Sprintf(`{"id":%d,%s}`, i+1, step.frame))
		answered(step.c, i+1)
		before := len(step.want) > 0
		if want := append(step.want, "room", room); before && !log.has(want...) {
			t.Errorf("%s: no line has %v:\n%s", step.frame, want, log.all.String())
		}
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if len(log.lines) != 6 {
		t.Errorf("got %d lines, want one for each of six acts", len(log.lines))
	}
	for _, secret := range []string{"secret text", modToken, ticket} {
		if strings.Contains(log.all.String(), secret) {
			t.Errorf("the log contains %s", secret)
		}
	}
}
