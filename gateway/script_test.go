package main

import (
	"log/slog"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"roomcast/proto/daemon"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gateway": func() { os.Exit(daemon.Main(command())) },
	})
}

// TestScripts runs the sessions in testdata in the way a user would type them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// The environment of the test must not affect the result.
			env.Setenv("NATS_URL", "")
			env.Setenv("NATS_CONTEXT", "")
			return nil
		},
	})
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
