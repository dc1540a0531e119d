package auth

import (
	"context"
	"runtime"
	"sync"
)

// maxChecks is the number of tokens that may wait to be checked. At a tenth of a
// millisecond each this is a tenth of a second of one core.
const maxChecks = 1024

// A check is a token that waits to be checked.
type check struct {
	token string
	done  func(Holder, error)
}

// Check has a worker check a token and calls done from there. It returns false, and never
// calls done, if too many tokens wait.
func (a *Auth) Check(token string, done func(Holder, error)) bool {
	select {
	case a.checks <- check{token, done}:
		return true
	default:
		return false
	}
}

// Busy is the refusal of a token that Check has not taken.
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
