package main

import (
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
)

// The gateway runs in a process of its own.
func TestConsole(t *testing.T) {
	const password = "password-of-a-backend"
	p := launch(t, nil, `exec "$@"`, "--data-dir", t.TempDir(), "--nats-listen", "127.0.0.1:0", "--nats-listen-password-file", servertest.File(t, password))
	line := regexp.MustCompile(`(?m)^ *NATS +(nats://\S+)$`)
	natstest.Eventually(t, "the address of NATS", func() bool { return line.MatchString(p.output()) })
	testscript.Run(t, testscript.Params{
		Dir: "testdata/console",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ROOMCAST_URL", p.base)
			env.Setenv("ROOMCAST_TOKEN", "")
			env.Setenv("NATS", line.FindStringSubmatch(p.output())[1])
			env.Setenv("NATS_USER", "me")
			env.Setenv("NATS_PASSWORD", password)
			return nil
		},
	})
}
