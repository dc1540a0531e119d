// Package grant reads what a credential permits: patterns of room names, and the rights in the
// rooms that match. Tokens, tickets, answers of a backend and flags follow the same rules.
package grant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"roomcast/proto"
)

// Bounds for one grant.
const (
	maxPatterns   = 256
	maxGrantBytes = 4 << 10 // length of the JSON text
)

// ownID stands in a pattern for the id of the grant's holder.
const ownID = "{id}"

// Grant says what its holder may do in which rooms. It is immutable and safe for concurrent use,
// and many sessions share one. The zero Grant allows nothing.
type Grant struct {
	all      proto.Rights            // rights of the pattern *
	exact    map[string]proto.Rights // rights of patterns that name exactly one room
	patterns []pattern               // all other patterns
	limit    *Grant                  // a right counts only if this grant contains it too; nil = no limit
}

// pattern is a pattern that ends in * or contains {id}.
type pattern struct {
	parts  []string // the texts before, between and after the {id}, without the *
	prefix bool     // the pattern ends in *
	rights proto.Rights
}

// Everywhere returns a Grant with the same rights in all rooms.
func Everywhere(rights proto.Rights) *Grant { return &Grant{all: rights} }

// Within returns a Grant with the rights that both g and limit contain.
func (g *Grant) Within(limit *Grant) *Grant {
	both := *g
	if both.limit = limit; g.limit != nil {
		both.limit = g.limit.Within(limit)
	}
	return &both
}

// Of returns the rights that a holder with the given id has in the room. If several patterns match,
// only the longest counts. For example, * and team-* match team-1, and only team-* counts. A
// pattern without * or {id} counts as longer than all other patterns.
func (g *Grant) Of(room proto.Room, id string) proto.Rights {
	rights := g.own(room, id)
	if g.limit != nil {
		rights &= g.limit.Of(room, id)
	}
	return rights
}

// own returns the rights without applying the limit.
func (g *Grant) own(room proto.Room, id string) proto.Rights {
	name := room.String()
	if rights, ok := g.exact[name]; ok {
		return rights
	}
	best, rights := 0, g.all
	escaped := ""
	for i := range g.patterns {
		p := &g.patterns[i]
		if len(p.parts) > 1 && escaped == "" {
			escaped = proto.EscapeID(id)
		}
		switch n, ok := p.match(name, escaped); {
		case !ok || n < best:
		case n == best: // two patterns match with the same length, because of {id}: only rights in both count
			rights &= p.rights
		default:
			best, rights = n, p.rights
		}
	}
	return rights
}

// Check returns the refusal for a holder without the right in the room. It returns nil if the
// holder has the right.
func (g *Grant) Check(room proto.Room, id string, right proto.Right) *proto.Refusal {
	if right == "" || g.Of(room, id).Allow(right) {
		return nil
	}
	return proto.Lacks(right)
}

// match reports whether p matches the name of a room, and how many bytes of the name. If the
// pattern does not end in *, match adds one to this number, so that the pattern counts as longer.
func (p *pattern) match(name, id string) (n int, ok bool) {
	rest := name
	for i, part := range p.parts {
		if i > 0 {
			if rest, ok = strings.CutPrefix(rest, id); !ok || id == "" {
				return 0, false
			}
		}
		if rest, ok = strings.CutPrefix(rest, part); !ok {
			return 0, false
		}
	}
	if p.prefix {
		return len(name) - len(rest), true
	}
	return len(name) + 1, rest == ""
}

// Permits reports whether g contains the right in every possible room: in the rooms that its
// patterns name and in all other rooms.
func (g *Grant) Permits(right proto.Right) bool {
	all := g.all
	for _, rights := range g.exact {
		all &= rights
	}
	for i := range g.patterns {
		all &= g.patterns[i].rights
	}
	return all.Allow(right) && (g.limit == nil || g.limit.Permits(right))
}

// IsEmpty reports whether g contains no right in any room.
func (g *Grant) IsEmpty() bool {
	any := g.all
	for _, rights := range g.exact {
		any |= rights
	}
	for i := range g.patterns {
		any |= g.patterns[i].rights
	}
	return any == 0
}

// add adds a pattern to a grant that is being made.
func (g *Grant) add(text string, rights proto.Rights) error {
	name, prefix := strings.CutSuffix(text, "*")
	if text == "*" {
		g.all = rights
		return nil
	}
	parts := strings.Split(name, ownID)
	if err := CheckPattern(strings.Join(parts, "x"), prefix); err != nil {
		return fmt.Errorf("%.80q: %w", text, err)
	}
	if prefix || len(parts) > 1 {
		g.patterns = append(g.patterns, pattern{parts, prefix, rights})
		return nil
	}
	if g.exact == nil {
		g.exact = make(map[string]proto.Rights)
	}
	g.exact[name] = rights
	return nil
}

// CheckPattern checks the part of a pattern in front of the *, by the rules for room names.
func CheckPattern(name string, prefix bool) error {
	if strings.Contains(name, "*") {
		return errors.New("a * may be only at the end of a pattern")
	}
	if prefix && !strings.HasSuffix(name, "..") {
		name = strings.TrimSuffix(name, ".") // a dot may be the last character, because * stands for the next part
	}
	_, err := proto.ParseRoom(name)
	return err
}

// Parse reads the claim "rooms" of a token. The claim is either an object of patterns and
// rights, or a list of patterns. Each pattern in a list gives the rights to read and to say.
func Parse(claim []byte) (*Grant, error) {
	if len(claim) > maxGrantBytes {
		return nil, fmt.Errorf("rooms has %d bytes; the limit is %d", len(claim), maxGrantBytes)
	}
	b := builder{seen: make(map[string]bool)}
	var list []*string
	switch claim = bytes.TrimSpace(claim); {
	case len(claim) > 0 && claim[0] == '{':
		members, err := ObjectMembers(claim)
		if err != nil {
			return nil, fmt.Errorf("rooms: %w", err)
		}
		for _, m := range members {
			var rights *string
			if err := json.Unmarshal(m.Value, &rights); err != nil || rights == nil {
				return nil, fmt.Errorf("rooms: the rights of %.80q must be text", m.Name)
			}
			if err := b.add(m.Name, *rights); err != nil {
				return nil, fmt.Errorf("rooms: %w", err)
			}
		}
	case len(claim) > 0 && claim[0] == '[' && json.Unmarshal(claim, &list) == nil:
		for _, text := range list {
			if text == nil {
				return nil, errors.New("rooms: a pattern must be text")
			}
			if err := b.add(*text, "read say"); err != nil {
				return nil, fmt.Errorf("rooms: %w", err)
			}
		}
	default:
		return nil, errors.New("rooms must be an object of patterns and rights, or a list of patterns")
	}
	return &b.grant, nil
}

// Rules returns the patterns in the claim "rooms", with the rights of each.
func Rules(claim []byte) (map[string][]proto.Right, error) {
	if _, err := Parse(claim); err != nil {
		return nil, err
	}
	rules := make(map[string][]proto.Right)
	var list []string
	if json.Unmarshal(claim, &list) == nil {
		for _, pattern := range list {
			rules[pattern] = []proto.Right{proto.RightRead, proto.RightSay}
		}
		return rules, nil
	}
	var object map[string]string
	if err := json.Unmarshal(claim, &object); err != nil {
		return nil, err
	}
	for pattern, rights := range object {
		rules[pattern] = nil
		for right := range strings.FieldsSeq(rights) {
			rules[pattern] = append(rules[pattern], proto.Right(right))
		}
	}
	return rules, nil
}

// FromFlag reads a grant from the values of a flag. A value is either pattern=rights, or only
// the rights, for all rooms. If there is no value, or if the value is empty, the grant contains
// nothing.
func FromFlag(values []string) (*Grant, error) {
	b := builder{seen: make(map[string]bool)}
	for _, value := range values {
		text, rights := SplitRule(value)
		if err := b.add(text, rights); err != nil {
			return nil, fmt.Errorf("%w; a value is a pattern and rights, such as 'team-*=read say', or rights alone for all rooms", err)
		}
	}
	return &b.grant, nil
}

// SplitRule splits pattern=rights at the last =, because a room name may contain a =. A value
// without = contains only rights, and its pattern is *.
func SplitRule(value string) (pattern, rights string) {
	if i := strings.LastIndexByte(value, '='); i >= 0 {
		return value[:i], value[i+1:]
	}
	return "*", value
}

// builder makes a grant. It refuses a pattern that is repeated.
type builder struct {
	grant Grant
	seen  map[string]bool
}

func (b *builder) add(text, rights string) error {
	set, err := proto.ParseRights(rights)
	switch {
	case err != nil:
		return err
	case b.seen[text]:
		return fmt.Errorf("the pattern %.80q is repeated", text)
	case len(b.seen) == maxPatterns:
		return fmt.Errorf("there are more than %d patterns", maxPatterns)
	}
	b.seen[text] = true
	return b.grant.add(text, set)
}

// Member is one member of a JSON object.
type Member struct {
	Name  string
	Value json.RawMessage
}

// ObjectMembers returns the members of a JSON object in order. It refuses repeated names. For a
// repeated name, encoding/json would silently use the last value.
func ObjectMembers(object []byte) ([]Member, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var list []Member
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		m := Member{Name: t.(string)} // the decoder returns only strings as names
		if seen[m.Name] {
			return nil, fmt.Errorf("%.80q is repeated", m.Name)
		}
		seen[m.Name] = true
		if err := dec.Decode(&m.Value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		list = append(list, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) { // More returns false at a superfluous closing brace
		return nil, errors.New("more follows the JSON object")
	}
	return list, nil
}
