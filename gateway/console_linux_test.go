package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands for people at a terminal work with a gateway that runs in another process.
func TestConsole(t *testing.T) {
	p := launch(t, nil, `exec "$@"`, "--data-dir", t.TempDir())
	testscript.Run(t, testscript.Params{
		Dir: "testdata/console",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ROOMCAST_URL", p.base)
			env.Setenv("ROOMCAST_TOKEN", "")
			return nil
		},
	})
}
