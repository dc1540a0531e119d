// Command smoke talks through a running Roomcast and says what works; see
// scripts/smoke.sh. It speaks WebSocket by a library that Roomcast itself does not use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	wait := flag.Duration("wait", 30*time.Second, "how long to wait for the gateways to come up")
	flag.Parse()
	urls := flag.Args()
	if len(urls) == 0 || len(urls) > 2 {
		fmt.Fprintln(os.Stderr, "usage: smoke [-wait 30s] URL [URL2]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := smoke(ctx, os.Stdout, *wait, urls[0], urls[len(urls)-1]); err != nil {
		fmt.Fprintln(os.Stderr, "smoke:", err)
		os.Exit(1)
	}
}

// smoke takes the steps one after the other, each in a room that nobody else uses.
func smoke(ctx context.Context, out io.Writer, wait time.Duration, one, two string) error {
	w := walk{one: one, two: two, mark: fmt.Sprintf("%x", time.Now().UnixNano())}
	if err := w.up(ctx, wait); err != nil {
		return err
	}
	for _, step := range []struct {
		says string
		do   func(*walk, context.Context) error
	}{
		{"the page and room.js are served", (*walk).page},
		{"two text clients exchange 你好, stamped, and another room hears nothing", (*walk).text},
		{"关闭 closes its sender with 1000 and nobody else", (*walk).closeWord},
		{"what was said is replayed by last and since", (*walk).replay},
		{"a JSON message is acknowledged once, also when it is said again", (*walk).exactlyOnce},
		{"who is in the room is known on both sides", (*walk).members},
		{"a hostile page is refused", (*walk).origin},
		{"the HTTP API says and reads, or is off", (*walk).api},
	} {
		stepCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := step.do(&w, stepCtx)
		cancel()
		if skipped, ok := errors.AsType[skip](err); ok {
			fmt.Fprintf(out, "--    %s: %s\n", step.says, string(skipped))
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.says, err)
		}
		fmt.Fprintf(out, "ok    %s\n", step.says)
	}
	return nil
}

// skip is why a step does not apply to this installation.
type skip string

func (s skip) Error() string { return string(s) }
