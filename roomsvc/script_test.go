package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"roomcast/proto/daemon"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"roomsvc": func() { os.Exit(daemon.Main(command())) },
	})
}

// TestScripts runs the command lines in testdata as a user would type them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// The environment of the person who runs the tests must not change the results.
			env.Setenv("NATS_URL", "")
			env.Setenv("NATS_CONTEXT", "")
			return nil
		},
	})
}
