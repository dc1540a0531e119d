// Command smoke sends messages through a running Roomcast and prints each check that passes; see
// scripts/smoke.sh. It does not use the WebSocket library of Roomcast, so that an error in that
// library shows.
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
	wait := flag.Duration("wait", 30*time.Second, "wait at most this `duration` for the gateways")
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

// smoke runs the steps one after another. Each step uses another room.
func smoke(ctx context.Context, out io.Writer, wait time.Duration, one, two string) error {
	w := walk{one: one, two: two, mark: fmt.Sprintf("%x", time.Now().UnixNano())}
	if err := w.up(ctx, wait); err != nil {
		return err
	}
	for _, step := range []struct {
		check string
		do    func(*walk, context.Context) error
	}{
		{"the page and room.js are served", (*walk).page},
		{"two text clients exchange 你好 with a stamp, and another room receives nothing", (*walk).text},
		{"关闭 closes its sender with 1000, and only its sender", (*walk).closeWord},
		{"last and since replay the messages", (*walk).replay},
		{"a JSON message that is sent twice is stored once", (*walk).exactlyOnce},
		{"both sides know the members", (*walk).members},
		{"a hostile page is refused", (*walk).origin},
		{"the HTTP API sends and reads, or is off", (*walk).api},
	} {
		stepCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := step.do(&w, stepCtx)
		cancel()
		if skipped, ok := errors.AsType[skip](err); ok {
			fmt.Fprintf(out, "--    %s: %s\n", step.check, string(skipped))
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.check, err)
		}
		fmt.Fprintf(out, "ok    %s\n", step.check)
	}
	return nil
}

// skip is the error of a step that does not apply to this installation. It says why.
type skip string

func (s skip) Error() string { return string(s) }
