package main

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

//go:embed scenarios
var files embed.FS

// scenario is a test: a list of steps.
type scenario struct {
	name  string
	steps []step
}

// step is one line of a scenario.
type step struct {
	line  string // the text of the line
	actor string // app, sees, client or server
	verb  string // such as "closes 4000"; "" = the line has only JSON
	json  string // the JSON at the end of the line; "" = none
}

// scenarios returns the scenarios of all files, sorted by name.
func scenarios() (all []scenario) {
	err := fs.WalkDir(files, "scenarios", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		if err == nil {
			all = append(all, parse(strings.TrimSuffix(path.Base(name), ".txt"), string(text))...)
		}
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return all
}

// parse parses a file. If the file has a line such as "codes 1001 4000", parse makes one scenario
// for each code, in which $code is replaced by the code.
func parse(name, text string) (all []scenario) {
	var codes []string
	s := scenario{name: name}
	text = beginLine.ReplaceAllString(text, beginning)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if list, ok := strings.CutPrefix(line, "codes "); ok {
			codes = strings.Fields(list)
		} else if line != "" && !strings.HasPrefix(line, "#") {
			s.steps = append(s.steps, parseStep(line))
		}
	}
	if codes == nil {
		return []scenario{s}
	}
	for _, code := range codes {
		one := scenario{name: name + "-" + code}
		for _, step := range s.steps {
			one.steps = append(one.steps, parseStep(strings.ReplaceAll(step.line, "$code", code)))
		}
		all = append(all, one)
	}
	return all
}

var beginLine = regexp.MustCompile(`(?m)^begin ([0-9]+)$`)

// beginning has the steps with which most scenarios begin. In a file, the line "begin 5" stands for
// them: the client joins a room with five events.
const beginning = `
	app    {"connect":{}}
	client connects
	server hello
	app    {"join":{"room":"lobby"}}
	client {"join":{"room":"lobby","since":null,"last":null}}
	server {"ok":{"room":"lobby","seq":$1,"epoch":"e1","at":"@$1"}}
	sees   {"joined":{"room":"lobby","seq":$1}}`

func parseStep(line string) step {
	s := step{line: line}
	rest := line
	if i := strings.IndexByte(line, '{'); i >= 0 {
		rest, s.json = line[:i], eventTime.ReplaceAllStringFunc(line[i:], func(m string) string {
			return fmt.Sprintf(`"2026-11-22T10:53:07.%03sZ"`, m[2:len(m)-1])
		})
	}
	s.actor, s.verb, _ = strings.Cut(strings.TrimSpace(rest), " ")
	s.verb = strings.TrimSpace(s.verb)
	return s
}

// eventTime matches the time of an event in a scenario: "@5" is the time of event 5.
var eventTime = regexp.MustCompile(`"@[0-9]+"`)
