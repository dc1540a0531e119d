package daemon

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envAnnotation is an annotation of flags. It contains the name of the environment variable, for
// flags whose variable does not have the usual name.
const envAnnotation = "roomcast_env"

// Env gives a flag an environment variable that other tools use too, such as NATS_URL.
func Env(flags *pflag.FlagSet, flag, name string) {
	if err := flags.SetAnnotation(flag, envAnnotation, []string{name}); err != nil {
		panic(err) // the flag does not exist, which is a bug
	}
}

// NoEnv takes away the environment variables of the flags, except those that Env has set. It is for
// flags that belong to a single command and are not settings.
func NoEnv(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Annotations[envAnnotation] == nil {
			Env(flags, f.Name, "")
		}
	})
}

// envName returns the name of a flag's environment variable. For example, the flag --max-message
// of gateway has GATEWAY_MAX_MESSAGE. Env may have set another name. After NoEnv the name is "".
func envName(service string, f *pflag.Flag) string {
	if own := f.Annotations[envAnnotation]; len(own) == 1 {
		return own[0]
	}
	return envPrefix(service) + usualName(f)
}

// usualName returns the usual name of a flag's environment variable, without the program's prefix.
func usualName(f *pflag.Flag) string { return strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")) }

func envPrefix(service string) string { return strings.ToUpper(service) + "_" }

// readEnvironment sets flags of cmd from their environment variables. It sets only the flags that
// are missing on the command line. An empty variable counts as missing. In the variable of a flag
// that may be repeated, commas separate the values. If a variable has the program's prefix but
// belongs to no flag, readEnvironment prints a line and continues. It must not fail, because
// Kubernetes sets GATEWAY_PORT and other variables for a service named gateway.
func readEnvironment(root, cmd *cobra.Command, environ []string, stderr io.Writer) error {
	service := root.Name()
	values := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := envName(service, f)
		value := values[name]
		if value == "" || f.Changed || err != nil {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			f.Changed = true
			err = list.Replace(strings.Split(value, ","))
		} else if e := cmd.Flags().Set(f.Name, value); e != nil {
			err = fmt.Errorf("environment variable %s: %w", name, explain(f, value, e))
		}
	})
	if err != nil {
		return err
	}

	known := map[string]bool{}
	meant := map[string]string{} // the variable of each flag, by its usual name: NATS is NATS_URL
	each(root, func(f *pflag.Flag) {
		name := envName(service, f)
		known[name] = true
		meant[usualName(f)] = cmp.Or(meant[usualName(f)], name)
	})
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if rest, own := strings.CutPrefix(name, envPrefix(service)); own && !known[name] {
			hint := ""
			if near := nearest(rest, slices.Sorted(maps.Keys(meant))); near != "" {
				hint = "; did you mean " + meant[near] + "?"
			}
			fmt.Fprintf(stderr, "%s: environment variable %s is not a setting and is ignored%s\n", service, name, hint)
		}
	}
	return nil
}

// describeEnvironment adds the name of the environment variable to the help of each flag.
func describeEnvironment(root *cobra.Command) {
	each(root, func(f *pflag.Flag) {
		f.Usage += " [$" + envName(root.Name(), f) + "]"
	})
}

// each calls do once for each flag of root and of its commands.
func each(root *cobra.Command, do func(*pflag.Flag)) {
	seen := map[*pflag.Flag]bool{}
	once := func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "version" && !seen[f] && envName(root.Name(), f) != "" {
			seen[f] = true
			do(f)
		}
	}
	for _, cmd := range append([]*cobra.Command{root}, root.Commands()...) {
		cmd.Flags().VisitAll(once)
		cmd.PersistentFlags().VisitAll(once)
	}
}
