package daemon

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError returns err with a suggestion for the flag that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := nearest(unknown.GetSpecifiedName(), names); near != "" {
			return fmt.Errorf("%w; did you mean --%s? (%s --help lists them all)", err, near, cmd.CommandPath())
		}
		return fmt.Errorf("%w; %s --help lists them all", err, cmd.CommandPath())
	}
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("--%s: %w", bad.GetFlag().Name, explain(bad.GetFlag(), bad.GetValue(), err))
	}
	return err
}

// explain returns an error that says which values the flag accepts.
func explain(f *pflag.Flag, value string, err error) error {
	want := map[string]string{
		"bool":     "true or false",
		"int":      "a whole number",
		"int64":    "a whole number",
		"uint64":   "a whole number from 0",
		"float64":  "a number",
		"duration": "a duration such as 500ms, 2s or 1h30m",
	}[f.Value.Type()]
	if want != "" {
		return fmt.Errorf("%q is not %s", value, want)
	}
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return bad.Unwrap()
	}
	return err
}

// nearest returns the name in names that is most similar to name, or "" if none is similar.
func nearest(name string, names []string) string {
	best, least := "", len(name)/3+1
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance returns the Levenshtein distance of two names: how many letters must be inserted,
// deleted or changed to make one into the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
