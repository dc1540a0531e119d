package daemon

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// found returns what the pattern's group matches in a file of the repository, up to n times.
func found(t *testing.T, file, pattern string, n int) (all []string) {
	t.Helper()
	b, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)`+pattern).FindAllStringSubmatch(string(b), n) {
		all = append(all, m[1])
	}
	if len(all) != n {
		t.Fatalf("%s: got %q, want %d versions", file, all, n)
	}
	return all
}

func TestAllPartsHaveTheSameVersion(t *testing.T) {
	js := "gateway/client/js/package"
	versions := found(t, js+".json", `^  "version": "(.*)",$`, 1)
	versions = append(versions, found(t, js+"-lock.json", `^ +"version": "(.*)",$`, 2)...)
	versions = append(versions, found(t, "gateway/client/python/pyproject.toml", `^version = "(.*)"$`, 1)...)
	if slices.ContainsFunc(versions, func(v string) bool { return v != Version }) {
		t.Errorf("got %q, want %s everywhere", versions, Version)
	}
}

// While the changelog begins with changes that are not released, the version is a later one than the
// last release. Otherwise it is the version of the newest section.
func TestVersionFollowsTheChangelog(t *testing.T) {
	sections := found(t, "CHANGELOG.md", `^## (\S+)`, 2)
	numbers := regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	if sections[0] != "Unreleased" {
		if Version != sections[0] || !numbers.MatchString(Version) {
			t.Errorf("got version %s, want %s, the newest section", Version, sections[0])
		}
		return
	}
	next, unreleased := strings.CutSuffix(Version, "-dev")
	if !unreleased || !numbers.MatchString(next) || next == sections[1] {
		t.Errorf("got version %s, want the version after %s and -dev", Version, sections[1])
	}
}
