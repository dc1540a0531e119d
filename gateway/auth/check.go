package auth

import (
	"context"
	"runtime"
	"sync"
)

// maxChecks is how many tokens may wait for a check. A check takes a tenth of a millisecond, so
// all of them take a tenth of a second of one core.
const maxChecks = 1024

// check is a token that waits to be checked.
type check struct {
	token string
	done  func(Holder, error)
}

// Check passes a token to a worker goroutine, which checks the token and calls done. If too many
// tokens wait, Check returns false, and done is never called.
func (a *Auth) Check(token string, done func(Holder, error)) bool {
	select {
	case a.checks <- check{token, done}:
		return true
	default:
		return false
	}
}

// Busy returns the refusal to send when Check has returned false.
func Busy() error { return errBusy }

// Run checks tokens and fetches keys until ctx ends.
func (a *Auth) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case c := <-a.checks:
					c.done(a.Token(c.token))
				}
			}
		})
	}
	for _, is := range a.issuers {
		is.run(ctx, running.Go)
	}
}
