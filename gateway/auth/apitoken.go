package auth

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"roomcast/proto"
	"roomcast/proto/grant"
)

// Rights that only an API token can have, in addition to the rights in a Grant.
const (
	RightTickets proto.Right = "tickets" // may make tickets
	RightRevoke  proto.Right = "revoke"  // may revoke the credentials of an id
	RightAs      proto.Right = "as"      // may send messages under another id
	rightAdmin   proto.Right = "admin"   // all rights
)

// apiRights lists the rights that a line of an API token file may contain. A pattern of ids may
// follow the rights "as" and "revoke". A pattern of rooms may follow the other rights.
var apiRights = []proto.Right{proto.RightRead, proto.RightSay, proto.RightModerate, RightTickets, RightRevoke, RightAs, rightAdmin}

// Bounds for an API token file.
const (
	minAPIToken  = 16 // shortest token in bytes; a shorter one could be guessed
	maxAPITokens = 1000
)

// APIToken lets a program use the HTTP API. It is immutable and safe for concurrent use.
type APIToken struct {
	name   string            // "" = the only token of its file
	hash   [sha256.Size]byte // hash of the token; hashes have the same length, so comparing them takes constant time
	rights []apiRight
}

type apiRight struct {
	right   proto.Right
	pattern string // * matches everything
}

// ID returns the sender's id for messages and acts of the token.
func (t *APIToken) ID() string {
	if t.name == "" {
		return "api"
	}
	return "api:" + t.name
}

// Check returns a refusal if the token does not have the right in the room, and nil if it has. In
// the token's line, a pattern of rooms follows the right. The pattern must match the room.
func (t *APIToken) Check(room proto.Room, right proto.Right) *proto.Refusal {
	if t.holds(right, room.String()) {
		return nil
	}
	return proto.Refuse(proto.Forbidden, "your token does not have the right %s in this room; add it to the token's line in --api-token-file", right)
}

// CheckPattern is like Check, but the token must have the right in all rooms that the pattern
// matches.
func (t *APIToken) CheckPattern(pattern string, right proto.Right) *proto.Refusal {
	if t.holds(right, pattern) {
		return nil
	}
	return proto.Refuse(proto.Forbidden, "your token does not have the right %s in %.80s; add it to the token's line in --api-token-file", right, pattern)
}

// CheckID returns a refusal if the token does not have the right, "as" or "revoke", for the given
// id.
func (t *APIToken) CheckID(id string, right proto.Right) *proto.Refusal {
	if t.holds(right, id) {
		return nil
	}
	return proto.Refuse(proto.Forbidden, "your token does not have the right %s for this id; add it to the token's line in --api-token-file", right)
}

// holds reports whether the token has the right for all names that the pattern matches. A
// pattern is a name, or a prefix followed by *.
func (t *APIToken) holds(right proto.Right, pattern string) bool {
	return slices.ContainsFunc(t.rights, func(r apiRight) bool { return r.gives(right) && covers(r.pattern, pattern) })
}

// gives reports whether r contains the right. The right "admin" contains all rights. With a
// pattern of rooms, such as admin:shop-*, it leaves out the rights for ids, "as" and "revoke".
func (r *apiRight) gives(right proto.Right) bool {
	switch r.right {
	case right:
		return true
	case rightAdmin:
		return r.pattern == "*" || right != RightAs && right != RightRevoke
	case proto.RightModerate:
		return right == proto.RightRead
	}
	return false
}

// covers reports whether the pattern matches all names that the pattern other matches. For
// example, shop-* covers shop-1 and shop-eu-*.
func covers(pattern, other string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return pattern == other || open && strings.HasPrefix(other, prefix)
}

// APITokens contains the tokens in a file. It is safe for concurrent use.
type APITokens struct{ file *File[[]*APIToken] }

// OpenAPITokens reads the tokens in a file.
func OpenAPITokens(path string, log *slog.Logger) (*APITokens, error) {
	f, err := OpenFile(path, parseAPITokens, log)
	return &APITokens{f}, err
}

// Find returns the token whose text a client has sent, or nil.
func (a *APITokens) Find(shown string) (found *APIToken) {
	hash := sha256.Sum256([]byte(shown))
	for _, t := range a.file.Get() {
		if subtle.ConstantTimeCompare(hash[:], t.hash[:]) == 1 {
			found = t
		}
	}
	return found
}

// MakeTickets reports whether a line of the file contains the right "tickets".
func (a *APITokens) MakeTickets() bool {
	return slices.ContainsFunc(a.file.Get(), func(t *APIToken) bool {
		return slices.ContainsFunc(t.rights, func(r apiRight) bool { return r.right == RightTickets })
	})
}

// apiTokenName matches the valid names of tokens. The name becomes a part of an id.
var apiTokenName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// parseAPITokens reads lines that contain a name, a token and rights. It ignores empty lines and
// lines that begin with #. If the file contains only one word, this word is a token with all
// rights.
func parseAPITokens(b []byte) (list []*APIToken, err error) {
	if words := bytes.Fields(b); len(words) == 1 {
		t, err := newAPIToken("", string(words[0]), []string{string(rightAdmin)})
		return []*APIToken{t}, err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) < 3 {
			return nil, fmt.Errorf("line %d: a line has a name, a token and rights: shop 0123456789abcdef read:shop-* say:shop-*", n)
		}
		t, err := newAPIToken(words[0], words[1], words[2:])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if slices.ContainsFunc(list, func(other *APIToken) bool { return other.hash == t.hash }) {
			return nil, fmt.Errorf("line %d: another line has the same token", n)
		}
		if list = append(list, t); len(list) > maxAPITokens {
			return nil, fmt.Errorf("there are more than %d tokens", maxAPITokens)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("there is no token in it")
	}
	return list, nil
}

func newAPIToken(name, token string, rights []string) (*APIToken, error) {
	if len(token) < minAPIToken {
		return nil, fmt.Errorf("the token has %d characters and could be guessed; it needs at least %d", len(token), minAPIToken)
	}
	if name != "" && !apiTokenName.MatchString(name) {
		return nil, fmt.Errorf("the name %.80q is not 1 to 64 of A-Z a-z 0-9 _ . and -", name)
	}
	t := &APIToken{name: name, hash: sha256.Sum256([]byte(token))}
	for _, word := range rights {
		right, pattern, limited := strings.Cut(word, ":")
		r := apiRight{proto.Right(right), pattern}
		if !limited {
			r.pattern = "*"
		}
		if !slices.Contains(apiRights, r.right) {
			return nil, fmt.Errorf("unknown right %.40q; the rights are read, say, moderate, tickets, revoke, as and admin", right)
		}
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("%.80q: %w", word, err)
		}
		t.rights = append(t.rights, r)
	}
	return t, nil
}

// check returns an error if the pattern of the right is not valid.
func (r *apiRight) check() error {
	if r.pattern == "*" {
		return nil
	}
	name, prefix := strings.CutSuffix(r.pattern, "*")
	if r.right != RightAs && r.right != RightRevoke {
		return grant.CheckPattern(name, prefix)
	}
	if strings.Contains(name, "*") {
		return errors.New("a * may be only at the end of a pattern")
	}
	if refusal := proto.CheckID(name); refusal != nil {
		return errors.New(refusal.Message)
	}
	return nil
}
