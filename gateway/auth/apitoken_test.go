package auth

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roomcast/proto"
)

func TestAPITokenFilesAreChecked(t *testing.T) {
	for text, want := range map[string]string{
		"short":                                          "needs at least 16",
		"":                                               "no token",
		"# only a comment\n":                             "no token",
		"shop 0123456789abcdef":                          "line 1: a line has a name, a token and rights",
		"shop short read":                                "line 1: the token has 5 characters",
		"# c\n\nshop 0123456789abcdef all":               `line 3: unknown right "all"`,
		"shop 0123456789abcdef read:":                    "line 1: \"read:\"",
		"shop 0123456789abcdef read:a*b":                 "only at the end",
		"shop 0123456789abcdef read:a..b":                "line 1",
		"shop 0123456789abcdef as:a*b":                   "only at the end",
		"shop 0123456789abcdef as:a\x01":                 "line 1",
		"a:b 0123456789abcdef read":                      "the name",
		"a 0123456789abcdef read\nb 0123456789abcdef as": "line 2: another line has the same token",
		strings.Repeat("a 0123456789abcdef read\n", 2):   "line 2: another line has the same token",
	} {
		if _, err := parseAPITokens([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestAPITokenHasTheRightsOfItsLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(text string, changed time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	write(`# name token rights
shop  shop-0123456789abcdef  read:shop-* say:shop-* say:news as:bot-* tickets:shop-1
mod   mod-0123456789abcdef   moderate revoke:acme:*
part  part-0123456789abcdef  admin:team.*
root  root-0123456789abcdef  admin
`, time.Now())
	tokens, err := OpenAPITokens(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		token, right, of string
		want             bool
	}{
		{"shop", "read", "shop-7", true},
		{"shop", "read", "news", false},
		{"shop", "say", "news", true},
		{"shop", "say", "newspaper", false},
		{"shop", "moderate", "shop-7", false},
		{"shop", "tickets", "shop-1", true},
		{"shop", "tickets", "shop-12", false},
		{"shop", "as", "bot-1", true},
		{"shop", "as", "ann", false},
		{"shop", "revoke", "bot-1", false},
		{"mod", "read", "any", true},
		{"mod", "moderate", "any", true},
		{"mod", "say", "any", false},
		{"mod", "revoke", "acme:ann", true},
		{"mod", "revoke", "ann", false},
		{"mod", "as", "ann", false},
		{"part", "say", "team.1", true},
		{"part", "tickets", "team.1", true},
		{"part", "say", "lobby", false},
		{"part", "as", "team.1", false},
		{"part", "revoke", "team.1", false},
		{"root", "moderate", "lobby", true},
		{"root", "as", "ann", true},
		{"root", "revoke", "ann", true},
	} {
		token := tokens.Find(tt.token + "-0123456789abcdef")
		if token == nil {
			t.Fatalf("%s is not found", tt.token)
		}
		check := func() *proto.Refusal { return token.Check(proto.MustRoom(tt.of), proto.Right(tt.right)) }
		if tt.right == "as" || tt.right == "revoke" {
			check = func() *proto.Refusal { return token.CheckID(tt.of, proto.Right(tt.right)) }
		}
		if got := check() == nil; got != tt.want {
			t.Errorf("%s has %s of %s: got %v, want %v", tt.token, tt.right, tt.of, got, tt.want)
		}
		if got := token.ID(); got != "api:"+tt.token {
			t.Errorf("got the id %s of %s", got, tt.token)
		}
	}
	for _, wrong := range []string{"", "shop", "shop-0123456789abcde", "shop-0123456789abcdef ", "#"} {
		if tokens.Find(wrong) != nil {
			t.Errorf("%q is a token", wrong)
		}
	}
	reread := func() {
		tokens.file.mu.Lock()
		defer tokens.file.mu.Unlock()
		tokens.file.checked = time.Time{}
	}
	write("one-0123456789abcdef\n", time.Now().Add(time.Minute))
	reread()
	if token := tokens.Find("one-0123456789abcdef"); token == nil || token.ID() != "api" || token.CheckID("ann", RightRevoke) != nil {
		t.Errorf("got %+v, want the only token of the changed file with all rights", token)
	}
	if tokens.Find("root-0123456789abcdef") != nil {
		t.Error("a token that was removed still works")
	}
	write("bad", time.Now().Add(2*time.Minute))
	reread()
	if tokens.Find("one-0123456789abcdef") == nil {
		t.Error("a bad file removed the tokens before it")
	}
}
