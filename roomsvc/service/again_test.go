package service

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// A resent act with its key gets the first answer again, from the same owner and from the next one.
// This holds even if the same act with a new key would be refused now. For example, the member of a
// kick has left already.
func TestActsHaveTheSameAnswerUnderTheirKeys(t *testing.T) {
	srv := startNATS(t, true)
	nc := srv.Connect(t)
	_, stop := startService(t, srv)
	var gone atomic.Bool
	if _, err := nc.Subscribe(proto.SubjectAnyWho, func(m *nats.Msg) { // as a gateway does
		if gone.Load() {
			m.Respond([]byte(`{"gateway":"g1","count":0}`))
		} else {
			m.Respond([]byte(`{"gateway":"g1","count":1,"total":1,"list":[{"id":"bob","sessions":1}]}`))
		}
	}); err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{"one", "two", "three"} {
		say(t, nc, "lobby", "ann", fmt.Sprint("s", i), text)
	}
	restrict(t, nc, proto.ActBan, "eve")
	restrict(t, nc, proto.ActMute, "kim")
	act := func(act proto.Act, from, key string, terms ...string) *nats.Msg {
		m := actOn("lobby", from, key, act)
		for i := 0; i < len(terms); i += 2 {
			m.Header.Set(terms[i], terms[i+1])
		}
		return m
	}
	first := make(map[proto.Act]proto.Reply)
	acts := []*nats.Msg{
		act(proto.ActKick, "mod", "k1", proto.HeaderMember, "bob"),
		act(proto.ActBan, "mod", "k2", proto.HeaderMember, "zoe", proto.HeaderFor, "1h"),
		act(proto.ActUnban, "mod", "k3", proto.HeaderMember, "eve"),
		act(proto.ActMute, "mod", "k4", proto.HeaderMember, "zoe"),
		act(proto.ActUnmute, "mod", "k5", proto.HeaderMember, "kim"),
		act(proto.ActSlow, "mod", "k6", proto.HeaderEvery, "1h"),
		act(proto.ActDelete, "mod", "k7", proto.HeaderSeq, "1"),
		act(proto.ActDelete, "ann", "k8", proto.HeaderSeq, "2", proto.HeaderRights, "read say"),
		act(proto.ActEdit, "ann", "k9", proto.HeaderSeq, "3"),
		act(proto.ActClose, "mod", "k10"),
	}
	again := func(when string) {
		t.Helper()
		for _, m := range acts {
			want := first[proto.Act(m.Header.Get(proto.HeaderKind)+m.Header.Get(proto.HeaderKey))]
			want.Duplicate = true
			if got := askUntil(t, nc, m, final); got != want {
				t.Errorf("%s: %v again: got %+v, want %+v", when, m.Header, got, want)
			}
		}
	}
	for _, m := range acts {
		r := askUntil(t, nc, m, final)
		if r.Refusal != nil || r.Seq == 0 || r.Duplicate {
			t.Fatalf("%v: got %+v", m.Header, r)
		}
		first[proto.Act(m.Header.Get(proto.HeaderKind)+m.Header.Get(proto.HeaderKey))] = r
	}
	gone.Store(true)
	again("at the same owner")
	stop()
	_, stop = startService(t, srv)
	defer stop()
	again("at the next owner")
	if r := askUntil(t, nc, act(proto.ActKick, "mod", "k11", proto.HeaderMember, "bob"), final); code(r.Refusal) != proto.NotFound {
		t.Errorf("another kick of somebody who is gone: got %+v, want %s", r, proto.NotFound)
	}
}
