package proto

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Metrics count refusals by these codes.
func TestCodesListsEveryCode(t *testing.T) {
	b, err := os.ReadFile("refusal.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\t\w+ +Code = "(\w+)"`).FindAllSubmatch(b, -1)
	for _, m := range constants {
		if !slices.Contains(Codes, Code(m[1])) {
			t.Errorf("the list lacks %s", m[1])
		}
	}
	if len(constants) == 0 || len(constants) != len(Codes) {
		t.Errorf("got %d codes for %d constants", len(Codes), len(constants))
	}
}

// The test looks for the entries of all tables in this package: codes, headers, verbs and acts.
func TestProtocolDocumentNamesEveryTableRow(t *testing.T) {
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, m := range CloseCodes {
		reconnect := "no"
		if m.Reconnect {
			reconnect = "yes"
		}
		if row := fmt.Sprintf("| %d | %s | %s |", m.Code, m.Name, reconnect); !strings.Contains(doc, row) {
			t.Errorf("no row %q", row)
		}
	}
	for _, c := range Codes {
		if row := fmt.Sprintf("| `%s` |", c); !strings.Contains(doc, row) {
			t.Errorf("no row %q", row)
		}
		if c.Status() == 500 && c != Internal {
			t.Errorf("%s has no HTTP status of its own", c)
		}
	}
	for _, h := range []string{HeaderKind, HeaderFrom, HeaderName, HeaderKey, HeaderOnce, HeaderType, HeaderSent, HeaderEnc, HeaderRecord,
		HeaderRights, HeaderMember, HeaderFor, HeaderEvery, HeaderSeq, HeaderEpoch, HeaderAbsent} {
		if !strings.Contains(doc, "`"+h+"`") {
			t.Errorf("header %s is not described", h)
		}
	}
	for _, rule := range Verbs {
		row := ""
		for line := range strings.Lines(doc) {
			if strings.HasPrefix(line, "| `"+string(rule.Verb)+"` |") {
				row = line
			}
		}
		if row == "" {
			t.Errorf("verb %s is not described", rule.Verb)
		}
		for _, name := range append(slices.Clone(rule.Fields), rule.Answer...) {
			if !strings.Contains(row, "`"+name+"`") && !strings.Contains(row, `"`+name+`"`) {
				t.Errorf("the row of %s does not name %s: %q", rule.Verb, name, row)
			}
		}
	}
	for _, right := range []Right{RightRead, RightSay, RightModerate} {
		if row := fmt.Sprintf("| the right `%s` |", right); !strings.Contains(doc, row) {
			t.Errorf("no row %q", row)
		}
	}
	for _, act := range Acts {
		if !strings.Contains(doc, "`"+string(act.Act)+"`") || !strings.Contains(doc, "`"+string(act.Kind)+"`") {
			t.Errorf("act %s is not described", act.Act)
		}
	}
}

// Each link to a part of a document names a heading.
func TestLinksToHeadingsResolve(t *testing.T) {
	headings := regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchors := make(map[string]map[string]bool)
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("got the documents %v, %v", files, err)
	}
	files = append(files, "PROTOCOL.md", "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md", "../SECURITY.md",
		"../gateway/client/js/README.md", "../gateway/client/python/README.md", "../scripts/examples/README.md")
	text := make(map[string]string)
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join("proto", path)
		text[path], anchors[path] = string(b), make(map[string]bool)
		for _, h := range headings.FindAllStringSubmatch(text[path], -1) {
			name := strings.ToLower(h[1])
			name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
			anchors[path][strings.ReplaceAll(name, " ", "-")] = true
		}
	}
	links := regexp.MustCompile(`\]\(([^():]*)#([^()]+)\)`)
	for path, doc := range text {
		for _, link := range links.FindAllStringSubmatch(doc, -1) {
			to := path
			if link[1] != "" {
				to = filepath.Join(filepath.Dir(path), link[1])
			}
			if known := anchors[to]; known == nil || !known[link[2]] {
				t.Errorf("%s has a link to %s#%s, which does not exist", path, to, link[2])
			}
		}
	}
}
