// Command conformance tests a client of Roomcast. It controls the client through a small program,
// the driver, and acts as the server. It follows scenario files, in which the server can make
// mistakes that no gateway makes. proto/docs/conformance.md explains drivers and scenarios.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

func main() {
	run := flag.String("run", "", "play only the scenarios whose name matches this `expression`")
	skip := flag.String("skip", "^$", "leave out the scenarios whose name matches this `expression`")
	limit := flag.Duration("limit", time.Minute, "let the client take at most this `duration` for each step; it has 35 s to notice a dead connection")
	gateway := flag.String("gateway", "", "instead of the scenarios, run this gateway `program` with 200 messages a second, kill it, and drop its network traffic")
	verbose := flag.Bool("v", false, "print what happened in each scenario, not only in those that fail")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: conformance [flags] driver [argument ...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	only, err := regexp.Compile(*run)
	not, err2 := regexp.Compile(*skip)
	if err != nil || err2 != nil || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *gateway != "" {
		if err := tryReal(*gateway, flag.Args(), *limit); err != nil {
			fmt.Println("FAIL a real gateway:", err)
			os.Exit(1)
		}
		fmt.Println("ok   a real gateway")
		return
	}
	failed := 0
	for _, r := range playAll(selected(scenarios(), only, not), flag.Args(), *limit) {
		var lack *lacking
		switch {
		case errors.As(r.err, &lack):
			fmt.Printf("none %s\n     %v\n", r.name, lack)
		case r.err != nil:
			failed++
			fmt.Printf("FAIL %s\n     %v\n%s", r.name, r.err, r.transcript)
		case *verbose:
			fmt.Printf("ok   %s\n%s", r.name, r.transcript)
		default:
			fmt.Printf("ok   %s\n", r.name)
		}
	}
	if failed > 0 {
		fmt.Printf("%d scenarios failed\n", failed)
		os.Exit(1)
	}
}

// result is the result of one scenario.
type result struct {
	name       string
	err        error
	transcript string
}

// atOnce is how many scenarios run at the same time. It is not limited by the CPU, because
// scenarios mostly wait.
const atOnce = 6

// playAll runs the scenarios and returns the results in the same order.
func playAll(all []scenario, driver []string, limit time.Duration) []result {
	results := make([]result, len(all))
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, s := range all {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			transcript, err := play(s, driver, limit)
			results[i] = result{s.name, err, indent(transcript)}
		})
	}
	group.Wait()
	return results
}

// selected returns the scenarios whose names match the expression only, except those that match
// skip.
func selected(all []scenario, only, skip *regexp.Regexp) (some []scenario) {
	for _, s := range all {
		if only.MatchString(s.name) && !skip.MatchString(s.name) {
			some = append(some, s)
		}
	}
	return some
}

func indent(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "     " + strings.Join(lines, "\n     ") + "\n"
}
