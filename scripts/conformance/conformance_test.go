package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain runs the tests. If an environment variable names a mutant, TestMain runs the mutant
// instead. A mutant is a driver whose input or output is changed.
func TestMain(m *testing.M) {
	if name := os.Getenv("CONFORMANCE_MUTANT"); name != "" {
		if err := mutants[name].run(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func goDriver(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "driver")
	if out, err := exec.Command("go", "build", "-o", path, "./drivers/go").CombinedOutput(); err != nil {
		t.Fatalf("build driver: %v\n%s", err, out)
	}
	return path
}

func TestTheGoClientPasses(t *testing.T) {
	for _, r := range playAll(scenarios(), []string{goDriver(t)}, time.Minute) {
		if r.err != nil {
			t.Errorf("%s: %v\n%s", r.name, r.err, r.transcript)
		}
	}
}

func gatewayProgram(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.Command("go", "build", "-o", path, "roomcast/gateway").CombinedOutput(); err != nil {
		t.Fatalf("build gateway: %v\n%s", err, out)
	}
	return path
}

func TestTheGoClientKeepsEveryMessageOnARealGateway(t *testing.T) {
	if err := tryReal(gatewayProgram(t), []string{goDriver(t)}, 2*time.Minute); err != nil {
		t.Error(err)
	}
}

func TestAClientThatShowsEventsTwiceFailsOnARealGateway(t *testing.T) {
	command := []string{"env", "CONFORMANCE_MUTANT=shows events twice", os.Args[0], goDriver(t)}
	if err := tryReal(gatewayProgram(t), command, 2*time.Minute); err == nil {
		t.Error("the trial does not notice")
	}
}

// mutant is a changed client that breaks a promise of clients. The scenario must notice it.
type mutant struct {
	scenario string
	command  func(line string) string   // changes a command to the driver
	shown    func(line string) []string // changes a line that the driver prints
}

func same(line string) string { return line }

func without(kind string) func(string) []string {
	return func(line string) []string {
		if strings.HasPrefix(line, `{"`+kind+`"`) {
			return nil
		}
		return []string{line}
	}
}

var mutants = map[string]mutant{
	"shows events twice": {"repeats", same, func(line string) []string { return []string{line, line} }},
	"hides gaps":         {"gap", same, without("gap")},
	"hides acks":         {"ack-lost", same, without("ack")},
	"hides the end":      {"close-and-stop-4103", same, without("closed")},
	"changes keys": {"ack-lost", func(line string) string {
		return strings.Replace(line, `"key":"k`, `"key":"z`, 1)
	}, func(line string) []string { return []string{line} }},
	"forgets its place": {"replay-interrupted", func(line string) string {
		return strings.Replace(line, `"last":2`, `"last":1`, 1)
	}, func(line string) []string { return []string{line} }},
}

func (m mutant) run(driver string) error {
	cmd := exec.Command(driver)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer in.Close()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			io.WriteString(in, m.command(lines.Text())+"\n")
		}
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		for _, line := range m.shown(lines.Text()) {
			fmt.Println(line)
		}
	}
	return cmd.Wait()
}

func TestAClientThatBreaksAPromiseFails(t *testing.T) {
	driver := goDriver(t)
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			only := regexp.MustCompile("^" + m.scenario + "$")
			command := []string{"env", "CONFORMANCE_MUTANT=" + name, os.Args[0], driver}
			some := selected(scenarios(), only, regexp.MustCompile("^$"))
			if len(some) != 1 {
				t.Fatalf("got %d scenarios, want one", len(some))
			}
			for _, r := range playAll(some, command, 3*time.Second) {
				if r.err == nil {
					t.Errorf("the kit does not notice\n%s", r.transcript)
				}
			}
		})
	}
}

func TestEveryCloseCodeHasAScenario(t *testing.T) {
	text, err := os.ReadFile("../../proto/testdata/golden/closes.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Rows []struct {
			Code      int
			Reconnect bool
		}
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	for _, row := range golden.Rows {
		name := fmt.Sprint("close-and-stop-", row.Code)
		if row.Reconnect {
			name = fmt.Sprint("close-and-return-", row.Code)
		}
		// 1006 is no code on the wire: it means a dropped connection. 4003 is part of the scenario
		// token-refresh.
		if row.Code != 1006 && row.Code != 4003 && !slices.Contains(names, name) {
			t.Errorf("no scenario is called %s", name)
		}
	}
}
