//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"roomcast/proto"
	"roomcast/scripts/torture/history"
	"roomcast/scripts/torture/rig"
)

// api is an HTTP client of the gateways. Each goroutine has an api of its own.
type api struct {
	run  *run
	http http.Client
	next int
}

func (r *run) api() *api {
	return &api{run: r, http: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// post sends body to the next gateway. If the gateway refuses the request for good, the error is a
// [*proto.Refusal]. After any other error, the request may or may not have been carried out.
func (a *api) post(ctx context.Context, room proto.Room, what, key string, body any) (proto.Reply, error) {
	gateways := a.run.rig.Gateways()
	a.next++
	target := gateways[a.next%len(gateways)] + "/api/rooms/" + url.PathEscape(room.String()) + "/" + what
	encoded, err := json.Marshal(body)
	if err != nil {
		return proto.Reply{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(encoded))
	if err != nil {
		return proto.Reply{}, err
	}
	req.Header.Set("Authorization", "Bearer "+rig.Token)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return proto.Reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return proto.Reply{}, err
	}
	if b = bytes.TrimSpace(b); resp.StatusCode == http.StatusOK && !bytes.HasPrefix(b, []byte(`{"ok"`)) {
		b = fmt.Appendf(nil, `{"ok":%s}`, b)
	}
	reply, err := proto.ParseReply(b)
	switch {
	case err != nil:
		return reply, fmt.Errorf("%s: %w", resp.Status, err)
	case reply.Refusal == nil:
		return reply, nil
	case resp.StatusCode >= 500 || reply.Refusal.Temporary():
		return reply, fmt.Errorf("%s: %s", resp.Status, reply.Refusal.Message)
	}
	return reply, reply.Refusal
}

// postUntil posts the same request with the same key, each time to the next gateway, until it has
// an answer. It stops when healTime has passed or ctx ends.
func (a *api) postUntil(ctx context.Context, room proto.Room, what, key string, body any) (proto.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	for try := 1; ; try++ {
		reply, err := a.post(ctx, room, what, key, body)
		switch {
		case isRefusal(err) && try > 1:
			// The outcome is unknown: the request of an earlier try may still arrive, after the
			// room was opened again.
			return reply, errors.New(history.RefusedAgain)
		case err == nil || isRefusal(err) || ctx.Err() != nil:
			return reply, err
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

func isRefusal(err error) bool {
	var refusal *proto.Refusal
	return errors.As(err, &refusal)
}
