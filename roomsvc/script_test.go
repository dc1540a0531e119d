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

// TestScripts runs the sessions in testdata as a user would type them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// The settings of the person who runs the tests must not matter.
			env.Setenv("NATS_URL", "")
			env.Setenv("NATS_CONTEXT", "")
			return nil
		},
	})
}
