// Package scenariotest runs the scenarios of a package's rules. Scenarios are text files in testdata,
// which a person can read without knowing Go.
package scenariotest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the actual outcomes into testdata; commit them only if you know the cause of each change")

// Play runs testdata/*.txt. In a file, a command is one line. A line "----" and the expected
// outcome follow it, up to an empty line. Lines that begin with # are comments. Play calls begin
// once for each file. The returned function do carries out one command and returns its outcome.
func Play(t *testing.T, begin func(t *testing.T) (do func(command string) string)) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata holds no scenario: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(string(want), begin(t))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s: got\n%s", file, got)
			}
		})
	}
}

// play carries out the commands in text. It returns the text with the actual outcomes.
func play(text string, do func(string) string) string {
	var out strings.Builder
	skip := false
	for line := range strings.Lines(text) {
		switch line = strings.TrimSuffix(line, "\n"); {
		case line == "":
			skip = false
		case skip || line == "----":
			continue
		case line[0] != '#':
			fmt.Fprintf(&out, "%s\n----\n%s\n", line, do(line))
			skip = true
			continue
		}
		fmt.Fprintln(&out, line)
	}
	return out.String()
}
