package grant

import (
	"strings"
	"testing"

	"roomcast/proto"
	"roomcast/proto/grant/granttest"
)

func parse(t *testing.T, claim string) *Grant {
	t.Helper()
	g, err := Parse([]byte(claim))
	if err != nil {
		t.Fatalf("%s: %v", claim, err)
	}
	return g
}

func TestTheLongestPatternDecidesAlone(t *testing.T) {
	for _, tt := range []struct {
		claim, id, room string
		want            proto.Rights
	}{
		{`{"lobby":"read say"}`, "ann", "lobby", proto.MayRead | proto.MaySay},
		{`{"lobby":"read say"}`, "ann", "lobby2", 0},
		{`{"lobby":"read say"}`, "ann", "Lobby", 0},
		{`{"lobby":"say"}`, "ann", "lobby", proto.MaySay},
		{`{"lobby":"moderate"}`, "ann", "lobby", proto.MayRead | proto.MayModerate},
		{`{"lobby":"  moderate   say "}`, "ann", "lobby", proto.MayRead | proto.MaySay | proto.MayModerate},
		{`{"*":"read"}`, "ann", "anything", proto.MayRead},
		{`{"*":"read say","team-*":"read","team-7:*":"read say moderate"}`, "ann", "team-7:x", proto.MayRead | proto.MaySay | proto.MayModerate},
		{`{"*":"read say","team-*":"read"}`, "ann", "team-7:x", proto.MayRead},
		{`{"*":"read say","team-*":""}`, "ann", "team-7", 0},
		{`{"lobby*":"read say","lobby":"read"}`, "ann", "lobby", proto.MayRead},
		{`{"lobby*":"read say","lobby":""}`, "ann", "lobby", 0},
		{`{"lobby*":"read say","lobby":""}`, "ann", "lobby2", proto.MayRead | proto.MaySay},
		{`{"org.*":"read"}`, "ann", "org.5", proto.MayRead},
		{`{"org.*":"read"}`, "ann", "org", 0},
		{`["lobby","team-*"]`, "ann", "team-1", proto.MayRead | proto.MaySay},
		{`["lobby","team-*"]`, "ann", "news", 0},
		{`{}`, "ann", "lobby", 0},
		{`[]`, "ann", "lobby", 0},
		{`{"聊天*":"read"}`, "ann", "聊天室", proto.MayRead},
		{`{"\u6d4b":"read"}`, "ann", "测", proto.MayRead},
		{`{"é":"read"}`, "ann", "e\u0301", 0}, // names are compared byte by byte, without normalisation

		{`{"user:{id}":"read say"}`, "ann", "user:ann", proto.MayRead | proto.MaySay},
		{`{"user:{id}":"read say"}`, "ann", "user:anna", 0},
		{`{"user:{id}":"read say"}`, "ann", "user:bob", 0},
		{`{"user:{id}*":"read"}`, "ann", "user:anna", proto.MayRead},
		{`{"{id}":"read"}`, "auth0|5f", "auth0=7C5f", proto.MayRead},
		{`{"{id}":"read"}`, "auth0=7C5f", "auth0=7C5f", 0},
		{`{"{id}":"read"}`, "auth0=7C5f", "auth0=3D7C5f", proto.MayRead},
		{`{"{id}":"read"}`, "a*", "a=2A", proto.MayRead},
		{`{"{id}":"read"}`, "a*", "anna", 0},
		{`{"{id}":"read"}`, "a@b.org", "a@b.org", proto.MayRead},
		{`{"{id}":"read"}`, "安娜", "安娜", proto.MayRead},
		{`{"{id}":"read"}`, "€", "=E2=82=AC", proto.MayRead},
		{`{"{id}-{id}":"read"}`, "7", "7-7", proto.MayRead},
		{`{"{id}-{id}":"read"}`, "7", "7-8", 0},
		{`{"user:*":"read","user:{id}":"read say"}`, "ann", "user:ann", proto.MayRead | proto.MaySay},
		{`{"user:ann":"read","user:{id}":"read say"}`, "ann", "user:ann", proto.MayRead},
		{`{"a{id}":"read say","{id}a":"read"}`, "a", "aa", proto.MayRead},
		{`{"{id}*":"read","a*":"say"}`, "a", "ab", 0},
		{`{"u:{id}":"read"}`, "", "u:x", 0},
	} {
		if got := parse(t, tt.claim).Of(proto.MustRoom(tt.room), tt.id); got != tt.want {
			t.Errorf("%s for %q in %q: got %b, want %b", tt.claim, tt.id, tt.room, got, tt.want)
		}
	}
}

func TestHostileGrantsAreRefused(t *testing.T) {
	for name, claim := range granttest.Hostile() {
		if g, err := Parse([]byte(claim)); err == nil {
			t.Errorf("%s: %.60s is accepted as %+v", name, claim, g)
		}
	}
}

func TestGrantsOfFlagsAreRead(t *testing.T) {
	lobby, other := proto.MustRoom("a=b"), proto.MustRoom("other")
	for _, tt := range []struct {
		values     []string
		in, beside proto.Rights
	}{
		{nil, 0, 0},
		{[]string{""}, 0, 0},
		{[]string{"read say"}, proto.MayRead | proto.MaySay, proto.MayRead | proto.MaySay},
		{[]string{"read", "a=b=moderate"}, proto.MayRead | proto.MayModerate, proto.MayRead},
		{[]string{"a=b="}, 0, 0},
		{[]string{"*=read", "a=*=say"}, proto.MaySay, proto.MayRead},
	} {
		g, err := FromFlag(tt.values)
		if err != nil {
			t.Fatalf("%q: %v", tt.values, err)
		}
		if in, beside := g.Of(lobby, "x"), g.Of(other, "x"); in != tt.in || beside != tt.beside {
			t.Errorf("%q: got %b and %b, want %b and %b", tt.values, in, beside, tt.in, tt.beside)
		}
		if empty := tt.in|tt.beside == 0; g.IsEmpty() != empty {
			t.Errorf("%q: IsEmpty is %v", tt.values, !empty)
		}
	}
	for _, bad := range [][]string{{"lobby"}, {"=read"}, {"read", "say"}, {"*a=read"}, {"a=read", "a=say"}} {
		if _, err := FromFlag(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// FuzzParse compares each accepted grant with a simple implementation of the rules. An empty
// grant must allow nothing, and the right to moderate must include the right to read.
func FuzzParse(f *testing.F) {
	for _, claim := range granttest.Hostile() {
		f.Add(claim, "ann", "lobby")
	}
	f.Add(`{"*":"read","user:{id}":"say","team-*":"moderate"}`, "auth0|5", "user:auth0=7C5")
	f.Add(`["a*","{id}*"]`, "a", "ab")
	f.Fuzz(func(t *testing.T, claim, id, name string) {
		g, err := Parse([]byte(claim))
		if err != nil {
			return
		}
		room, err := proto.ParseRoom(name)
		if err != nil || proto.CheckID(id) != nil {
			return
		}
		got := g.Of(room, id)
		if got != 0 && g.IsEmpty() || got&proto.MayModerate != 0 && got&proto.MayRead == 0 {
			t.Fatalf("%s allows %b", claim, got)
		}
		if want := expected(g, room.String(), proto.EscapeID(id)); got != want {
			t.Fatalf("%s for %q in %q: got %b, want %b", claim, id, name, got, want)
		}
	})
}

// expected is a simple implementation of Of, which tries every pattern.
func expected(g *Grant, name, id string) proto.Rights {
	if rights, ok := g.exact[name]; ok {
		return rights
	}
	longest, rights := -1, g.all
	for _, p := range g.patterns {
		text := strings.Join(p.parts, id)
		length := len(text)
		switch {
		case p.prefix && !strings.HasPrefix(name, text), !p.prefix && text != name:
			continue
		case !p.prefix:
			length++
		}
		if length == longest {
			rights &= p.rights
		} else if length > longest {
			longest, rights = length, p.rights
		}
	}
	return rights
}
