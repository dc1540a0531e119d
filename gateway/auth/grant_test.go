package auth

import (
	"fmt"
	"strings"
	"testing"

	"roomcast/proto"
)

func parse(t *testing.T, claim string) *Grant {
	t.Helper()
	g, err := ParseGrant([]byte(claim))
	if err != nil {
		t.Fatalf("%s: %v", claim, err)
	}
	return g
}

func TestTheLongestPatternDecidesAlone(t *testing.T) {
	for _, tt := range []struct {
		claim, id, room string
		want            Rights
	}{
		{`{"lobby":"read say"}`, "ann", "lobby", Read | Say},
		{`{"lobby":"read say"}`, "ann", "lobby2", 0},
		{`{"lobby":"read say"}`, "ann", "Lobby", 0},
		{`{"lobby":"say"}`, "ann", "lobby", Say},
		{`{"lobby":"moderate"}`, "ann", "lobby", Read | Moderate},
		{`{"lobby":"  moderate   say "}`, "ann", "lobby", Read | Say | Moderate},
		{`{"*":"read"}`, "ann", "anything", Read},
		{`{"*":"read say","team-*":"read","team-7:*":"read say moderate"}`, "ann", "team-7:x", Read | Say | Moderate},
		{`{"*":"read say","team-*":"read"}`, "ann", "team-7:x", Read},
		{`{"*":"read say","team-*":""}`, "ann", "team-7", 0},
		{`{"lobby*":"read say","lobby":"read"}`, "ann", "lobby", Read},
		{`{"lobby*":"read say","lobby":""}`, "ann", "lobby", 0},
		{`{"lobby*":"read say","lobby":""}`, "ann", "lobby2", Read | Say},
		{`{"org.*":"read"}`, "ann", "org.5", Read},
		{`{"org.*":"read"}`, "ann", "org", 0},
		{`["lobby","team-*"]`, "ann", "team-1", Read | Say},
		{`["lobby","team-*"]`, "ann", "news", 0},
		{`{}`, "ann", "lobby", 0},
		{`[]`, "ann", "lobby", 0},
		{`{"聊天*":"read"}`, "ann", "聊天室", Read},
		{`{"\u6d4b":"read"}`, "ann", "测", Read},
		{`{"é":"read"}`, "ann", "e\u0301", 0}, // names are not normalised

		{`{"user:{id}":"read say"}`, "ann", "user:ann", Read | Say},
		{`{"user:{id}":"read say"}`, "ann", "user:anna", 0},
		{`{"user:{id}":"read say"}`, "ann", "user:bob", 0},
		{`{"user:{id}*":"read"}`, "ann", "user:anna", Read},
		{`{"{id}":"read"}`, "auth0|5f", "auth0=7C5f", Read},
		{`{"{id}":"read"}`, "auth0=7C5f", "auth0=7C5f", 0},
		{`{"{id}":"read"}`, "auth0=7C5f", "auth0=3D7C5f", Read},
		{`{"{id}":"read"}`, "a*", "a=2A", Read},
		{`{"{id}":"read"}`, "a*", "anna", 0},
		{`{"{id}":"read"}`, "a@b.org", "a@b.org", Read},
		{`{"{id}":"read"}`, "安娜", "安娜", Read},
		{`{"{id}":"read"}`, "€", "=E2=82=AC", Read},
		{`{"{id}-{id}":"read"}`, "7", "7-7", Read},
		{`{"{id}-{id}":"read"}`, "7", "7-8", 0},
		{`{"user:*":"read","user:{id}":"read say"}`, "ann", "user:ann", Read | Say},
		{`{"user:ann":"read","user:{id}":"read say"}`, "ann", "user:ann", Read},
		{`{"a{id}":"read say","{id}a":"read"}`, "a", "aa", Read},
		{`{"{id}*":"read","a*":"say"}`, "a", "ab", 0},
		{`{"u:{id}":"read"}`, "", "u:x", 0},
	} {
		if got := parse(t, tt.claim).Of(proto.MustRoom(tt.room), tt.id); got != tt.want {
			t.Errorf("%s for %q in %q: got %b, want %b", tt.claim, tt.id, tt.room, got, tt.want)
		}
	}
}

// hostileClaims are values of the claim rooms that refuse the whole token.
func hostileClaims() map[string]string {
	many := make([]string, maxPatterns+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"%d"`, i)
	}
	return map[string]string{
		"null":                    `null`,
		"text":                    `"*"`,
		"number":                  `1`,
		"true":                    `true`,
		"unknown right":           `{"lobby":"read write"}`,
		"right in upper case":     `{"lobby":"READ"}`,
		"rights with commas":      `{"lobby":"read,say"}`,
		"rights as a list":        `{"lobby":["read"]}`,
		"rights are null":         `{"lobby":null}`,
		"rights are an object":    `{"lobby":{"read":true}}`,
		"repeated":                `{"lobby":"","lobby":"read"}`,
		"repeated by an escape":   `{"lobby":"","lobb\u0079":"read"}`,
		"repeated in a list":      `["lobby","lobby"]`,
		"star in the middle":      `{"a*b":"read"}`,
		"star at the beginning":   `{"*a":"read"}`,
		"two stars":               `{"**":"read"}`,
		"empty pattern":           `{"":"read"}`,
		"not a room name":         `{"a b":"read"}`,
		"NATS wildcard":           `{"a.>":"read"}`,
		"two dots":                `{"a..*":"read"}`,
		"only a dot":              `{".*":"read"}`,
		"begins with a dot":       `{".a":"read"}`,
		"ends with a dot":         `{"a.":"read"}`,
		"another placeholder":     `{"{name}":"read"}`,
		"placeholder cut":         `{"user:{id":"read"}`,
		"placeholder upper case":  `{"user:{ID}":"read"}`,
		"nested placeholder":      `{"{{id}}":"read"}`,
		"percent-encoded":         `{"a%2A":"read"}`,
		"invisible":               `{"a\u200b":"read"}`,
		"lone surrogate":          `{"a\ud800":"read"}`,
		"not UTF-8":               "{\"a\xff\":\"read\"}",
		"pattern is null":         `[null]`,
		"pattern is a number":     `[1]`,
		"nested list":             `[["a"]]`,
		"too many":                `[` + strings.Join(many, ",") + `]`,
		"too long":                `{"lobby":"` + strings.Repeat(" ", maxGrantBytes) + `"}`,
		"longer than a room name": `{"` + strings.Repeat("a", 65) + `":"read"}`,
		"cut short":               `{"lobby":"read"`,
		"more follows":            `{"lobby":"read"}{}`,
	}
}

func TestHostileGrantsAreRefused(t *testing.T) {
	for name, claim := range hostileClaims() {
		if g, err := ParseGrant([]byte(claim)); err == nil {
			t.Errorf("%s: %.60s is accepted as %+v", name, claim, g)
		}
	}
}

func TestGrantOfFlags(t *testing.T) {
	lobby, other := proto.MustRoom("a=b"), proto.MustRoom("other")
	for _, tt := range []struct {
		values     []string
		in, beside Rights
	}{
		{nil, 0, 0},
		{[]string{""}, 0, 0},
		{[]string{"read say"}, Read | Say, Read | Say},
		{[]string{"read", "a=b=moderate"}, Read | Moderate, Read},
		{[]string{"a=b="}, 0, 0},
		{[]string{"*=read", "a=*=say"}, Say, Read},
	} {
		g, err := GrantOf(tt.values)
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
		if _, err := GrantOf(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Whatever a claim holds, a grant that is accepted never allows more than the union of its
// rights, and never more in a room that no pattern can match.
func FuzzParseGrant(f *testing.F) {
	for _, claim := range hostileClaims() {
		f.Add(claim, "ann", "lobby")
	}
	f.Add(`{"*":"read","user:{id}":"say","team-*":"moderate"}`, "auth0|5", "user:auth0=7C5")
	f.Add(`["a*","{id}*"]`, "a", "ab")
	f.Fuzz(func(t *testing.T, claim, id, name string) {
		g, err := ParseGrant([]byte(claim))
		if err != nil {
			return
		}
		room, err := proto.ParseRoom(name)
		if err != nil || proto.CheckID(id) != nil {
			return
		}
		got := g.Of(room, id)
		if got != 0 && g.IsEmpty() || got&Moderate != 0 && got&Read == 0 {
			t.Fatalf("%s allows %b", claim, got)
		}
		if want := expected(g, room.String(), proto.EscapeID(id)); got != want {
			t.Fatalf("%s for %q in %q: got %b, want %b", claim, id, name, got, want)
		}
	})
}

// expected is the rule of Of in the plainest form: it writes every pattern out.
func expected(g *Grant, name, id string) Rights {
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
