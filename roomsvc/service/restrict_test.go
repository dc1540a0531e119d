package service

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/proto/natstest"
)

// restrict requests an act on a member.
func restrict(t *testing.T, nc *nats.Conn, act proto.Act, member string) {
	t.Helper()
	m := actOn("lobby", "mod", "", act)
	m.Header.Set(proto.HeaderMember, member)
	if r := askUntil(t, nc, m, final); r.Refusal != nil {
		t.Fatalf("%s %s: %v", act, member, r.Refusal)
	}
}

// dropSnapshot removes the snapshot of the lobby, as if the owner had died before writing it.
func dropSnapshot(t *testing.T, nc *nats.Conn) {
	t.Helper()
	natstest.Purge(t, nc, proto.StateStream, proto.MustRoom("lobby").StateSubject())
}

// refusedAs checks that a message of the sender is refused with the code. The empty code stands for
// a message that is stored.
func refusedAs(t *testing.T, nc *nats.Conn, from string, want proto.Code) {
	t.Helper()
	if r := askUntil(t, nc, message("lobby", from, "", "hi"), final); code(r.Refusal) != want {
		t.Errorf("%s says hi: got %+v, want %q", from, r, want)
	}
}

// limitsOf returns the restrictions of the lobby as gateways read them.
func limitsOf(t *testing.T, nc *nats.Conn) *proto.Restrictions {
	t.Helper()
	log := history.New(nc, nil)
	page, err := log.Read(t.Context(), history.Query{Room: proto.MustRoom("lobby")})
	if err == nil {
		err = log.Complete(t.Context(), proto.MustRoom("lobby"), &page.Head)
	}
	if err != nil {
		t.Fatal(err)
	}
	return page.Head.Limits
}

func TestRestrictionsSurviveTheirOwner(t *testing.T) {
	for name, lost := range map[string]bool{"snapshot written": false, "owner died before the snapshot": true} {
		t.Run(name, func(t *testing.T) {
			srv := startNATS(t, true)
			nc := srv.Connect(t)
			_, stop := startService(t, srv)
			say(t, nc, "lobby", "ann", "", "hi")
			restrict(t, nc, proto.ActBan, "ann")
			restrict(t, nc, proto.ActMute, "bob")
			restrict(t, nc, proto.ActBan, "cid")
			restrict(t, nc, proto.ActUnban, "cid")
			refusedAs(t, nc, "ann", proto.CodeBanned)
			stop()
			if lost {
				dropSnapshot(t, nc)
			}
			check := func(who string) {
				now := time.Now()
				if l := limitsOf(t, nc); !l.Banned("ann", now) || l.Banned("cid", now) || !l.Muted("bob", now) || l.Seq != 5 {
					t.Errorf("%s: readers see %+v", who, l)
				}
			}
			check("without an owner")
			_, stop = startService(t, srv)
			defer stop()
			refusedAs(t, nc, "ann", proto.CodeBanned)
			refusedAs(t, nc, "bob", proto.CodeMuted)
			refusedAs(t, nc, "cid", "")
			check("with the next owner")
		})
	}
}

// The log of the room is empty. Its owner tells gateways about the ban. The next owner reads the ban
// from the snapshot. Invalid questions get no answer.
func TestOwnerTellsTheStateOfAnEmptyRoom(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	restrict(t, nc, proto.ActBan, "ann")
	natstest.Purge(t, nc, proto.StreamName, proto.MustRoom("lobby").LogSubject())
	log := history.New(nc, nil)
	log.Owners = true
	lobby, fresh := proto.MustRoom("lobby"), proto.MustRoom("fresh")
	check := func(who string) {
		t.Helper()
		heads := history.Empty(t.Context(), log, []proto.Room{lobby, fresh})
		page, err := log.Read(t.Context(), history.Query{Room: lobby})
		if now := time.Now(); err != nil || !heads[lobby].Limits.Banned("ann", now) || !page.Head.Limits.Banned("ann", now) {
			t.Errorf("%s: got %+v and %+v, %v, want a ban", who, heads[lobby], page.Head, err)
		}
		if heads[fresh] != (history.Head{}) {
			t.Errorf("%s: a room without restrictions has the head %+v", who, heads[fresh])
		}
	}
	check("owner")
	stop()
	_, stop = startService(t, srv)
	defer stop()
	check("next owner")
	wrong, err := nc.SubscribeSync(nc.NewRespInbox())
	if err != nil {
		t.Fatal(err)
	}
	own := proto.AskStatesSubject(lobby.Partition())
	for _, q := range [][2]string{
		{own, ""}, {own, "[]"}, {own, "{}"}, {own, `{"rooms":"lobby"}`}, {own, `{"rooms":["a b"]}`}, {own, `{"rooms":["lobby","fresh"]}`},
		{proto.AskStatesSubject(fresh.Partition()), `{"rooms":["lobby"]}`},
		{"room.svc.state.256", `{"rooms":["lobby"]}`}, {"room.svc.state.-1", `{"rooms":["lobby"]}`}, {"room.svc.state.x", `{"rooms":["lobby"]}`},
	} {
		if err := nc.PublishRequest(q[0], wrong.Subject, []byte(q[1])); err != nil {
			t.Fatal(err)
		}
	}
	history.Empty(t.Context(), log, []proto.Room{lobby}) // the service answers in the order of the questions
	if n, _, err := wrong.Pending(); n > 0 || err != nil {
		t.Errorf("got %d answers to invalid questions, %v", n, err)
	}
}

// The whole log of the room ages out. The next message begins a new epoch. Readers see the ban,
// although the new epoch has no act.
func TestRestrictionsSurviveTheLog(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	restrict(t, nc, proto.ActBan, "ann")
	natstest.Purge(t, nc, proto.StreamName, proto.MustRoom("lobby").LogSubject())
	stop()
	natstest.Eventually(t, "the log of the room to be empty", func() bool { return logOf(t, nc, "lobby") == 0 })
	if l := limitsOf(t, nc); !l.Banned("ann", time.Now()) {
		t.Errorf("without records readers see %+v", l)
	}
	_, stop = startService(t, srv)
	defer stop()
	refusedAs(t, nc, "ann", proto.CodeBanned)
	refusedAs(t, nc, "bob", "")
	if l := limitsOf(t, nc); !l.Banned("ann", time.Now()) {
		t.Errorf("in the new epoch readers see %+v", l)
	}
	refusedAs(t, nc, "ann", proto.CodeBanned)
}

// An act that is sent over NATS reaches the owner with all its terms, such as the member and the
// duration.
func TestActsOverNATSCarryTheirTerms(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	defer stop()
	for _, tt := range []struct {
		act    proto.Act
		header map[string]string
		want   proto.Code
	}{
		{proto.ActBan, map[string]string{proto.HeaderMember: "%E5%AE%89", proto.HeaderFor: "10m"}, ""},
		{proto.ActBan, map[string]string{proto.HeaderMember: "ann", proto.HeaderFor: "0"}, proto.BadRequest},
		{proto.ActBan, map[string]string{proto.HeaderMember: "ann", proto.HeaderFor: "100000h"}, proto.BadRequest},
		{proto.ActBan, map[string]string{proto.HeaderFor: "10m"}, proto.BadRequest},
		{proto.ActBan, map[string]string{proto.HeaderMember: "*all"}, proto.BadRequest},
		{proto.ActBan, map[string]string{proto.HeaderMember: "mod"}, proto.BadRequest},
		{proto.ActKick, map[string]string{proto.HeaderMember: proto.EscapeHeader(proto.Guests)}, proto.BadRequest},
		{proto.ActKick, map[string]string{proto.HeaderMember: "ann", proto.HeaderFor: "10m"}, proto.BadRequest},
		{proto.ActUnmute, map[string]string{proto.HeaderMember: "ann"}, proto.NotFound},
		{proto.ActSlow, map[string]string{proto.HeaderEvery: "30s"}, ""},
		{proto.ActSlow, nil, proto.BadRequest},
		{proto.ActSlow, map[string]string{proto.HeaderEvery: "0"}, ""},
		{proto.ActBan, map[string]string{proto.HeaderMember: "ann", proto.HeaderRights: "read say"}, proto.Forbidden},
		{proto.ActBan, map[string]string{proto.HeaderMember: "ann", proto.HeaderRights: "none"}, proto.Forbidden},
		{proto.ActBan, map[string]string{proto.HeaderMember: "ann", proto.HeaderRights: "all"}, proto.BadRequest},
	} {
		m := actOn("lobby", "mod", "", tt.act)
		for name, value := range tt.header {
			m.Header.Set(name, value)
		}
		if r := askUntil(t, nc, m, final); code(r.Refusal) != tt.want {
			t.Errorf("%s with %v: got %+v, want %q", tt.act, tt.header, r, tt.want)
		}
	}
	m := message("lobby", "%E5%AE%89", "", "hi")
	if r := askUntil(t, nc, m, final); code(r.Refusal) != proto.CodeBanned {
		t.Errorf("got %+v, want the member whose id was escaped to be banned", r)
	}
}
