//go:build linux

package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"roomcast/scripts/torture/fault"
)

// A Go program reads the clock without the C library and without a system call. So nothing outside
// the program can change the time that it reads. Therefore the rig builds its programs with a
// changed package time, which adds a number of seconds to the wall clock. The number is read from a
// file. The monotonic clock stays right, as it does when an administrator sets the clock.

// clockFile is the name of the environment variable that contains the path of that file.
const clockFile = "ROOMCAST_TORTURE_CLOCK"

// clockSource is a source file that the overlay adds to each program. It reads the file with the
// number of seconds.
const clockSource = `package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

func init() {
	read := func() {
		b, err := os.ReadFile(os.Getenv("` + clockFile + `"))
		if err != nil {
			return
		}
		if seconds, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			time.Skew.Store(seconds)
		}
	}
	read()
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			read()
		}
	}()
}
`

// overlay writes the source files for "go build -overlay", and returns the path of the file that
// lists them. A program built with them has a clock that the rig can set wrong.
func (r *Rig) overlay() (path string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find package time: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	b, err := os.ReadFile(original)
	if err != nil {
		return "", fmt.Errorf("find package time: %w", err)
	}
	const read = "sec, nsec, mono := runtimeNow()\n"
	source := strings.Replace(string(b), "func Now() Time {\n\t"+read, "func Now() Time {\n\t"+read+"\tsec += Skew.Load()\n", 1)
	if source == string(b) {
		return "", fmt.Errorf("make clocks wrong: time.Now of %s is not as expected", original)
	}
	source = strings.Replace(source, "import (\n", "import (\n\t\"sync/atomic\"\n", 1)
	source += "\n// Skew is the error of the wall clock, in seconds.\nvar Skew atomic.Int64\n"
	replace := map[string]string{}
	for target, text := range map[string]string{
		original: source,
		filepath.Join(r.root, "gateway", "torture_clock.go"): clockSource,
		filepath.Join(r.root, "roomsvc", "torture_clock.go"): clockSource,
	} {
		file := filepath.Join(r.cfg.Dir, fmt.Sprintf("overlay%d.go", len(replace)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("make clocks wrong: %w", err)
		}
		replace[target] = file
	}
	b, err = json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("make clocks wrong: %w", err)
	}
	path = filepath.Join(r.cfg.Dir, "overlay.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return "", fmt.Errorf("make clocks wrong: %w", err)
	}
	return path, nil
}

// skews are the errors of a clock that the rig chooses from. Each is longer than the time for which
// keys are remembered. Roomcast is designed for smaller errors.
var skews = []time.Duration{-time.Hour, -150 * time.Second, 150 * time.Second, 10 * time.Minute}

// skew sets the clock of p wrong for the duration of the step.
func (p *Process) skew(ctx context.Context, s fault.Step) error {
	by := skews[s.Pick%uint64(len(skews))]
	fmt.Printf("torture: the clock of %s is off by %v\n", p.Name, by)
	for _, seconds := range []int{int(by.Seconds()), 0} {
		// Write another file and rename it, so that the process never reads half of a file.
		if err := os.WriteFile(p.clock()+".new", []byte(strconv.Itoa(seconds)), 0o600); err != nil {
			return fmt.Errorf("set the clock of %s: %w", p.Name, err)
		}
		if err := os.Rename(p.clock()+".new", p.clock()); err != nil {
			return fmt.Errorf("set the clock of %s: %w", p.Name, err)
		}
		if seconds != 0 {
			sleep(ctx, s.For)
		}
	}
	return nil
}

// clock returns the path of the file with the error of p's clock, in seconds.
func (p *Process) clock() string { return p.log + ".clock" }
