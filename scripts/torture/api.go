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

// api is the HTTP side of the gateways, for one caller.
type api struct {
	run  *run
	http http.Client
	next int
}

func (r *run) api() *api {
	return &api{run: r, http: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// post sends body to the next gateway. Its error is a [*proto.Refusal] if it was refused
// for good; otherwise nobody knows what became of it.
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

// postUntil posts the same again, with the same key, through one gateway after the other,
// until it has an answer or healTime or ctx is over.
func (a *api) postUntil(ctx context.Context, room proto.Room, what, key string, body any) (proto.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	for try := 1; ; try++ {
		reply, err := a.post(ctx, room, what, key, body)
		switch {
		case isRefusal(err) && try > 1:
			// An earlier try may still be on its way to a room that will be open by then.
			return reply, errors.New("refused, after a try whose outcome is not known")
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

// insist says things through one gateway after the other with the same key until it has an
// answer, and once more after that: every message must be there once.
func (r *run) insist(ctx, life context.Context) {
	a := r.api()
	random := r.random(history.Sum("insist"))
	for n := 1; ctx.Err() == nil; n++ {
		room := r.names[random.IntN(len(r.names))]
		key := fmt.Sprintf("insist-%d", n)
		text := history.Text(key, 50)
		e := history.Entry{Op: history.Invoke, Client: "insist", Room: room.String(), Key: key, Body: history.Sum(text)}
		r.history.Add(e)
		reply, err := a.postUntil(life, room, "messages", key, map[string]string{"text": text})
		r.answered(e, room, reply.Seq, reply.Duplicate, err)
		if err == nil {
			a.post(life, room, "messages", key, map[string]string{"text": text}) // the log shows what comes of it
		}
		sleep(ctx, between(random, 20*time.Millisecond, 200*time.Millisecond))
	}
}

// plead says things in the room that is closed and opened again.
func (r *run) plead(ctx, life context.Context) {
	a := r.api()
	random := r.random(history.Sum("plead"))
	for n := 1; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("plead-%d", n)
		text := history.Text(key, 50)
		e := history.Entry{Op: history.Invoke, Client: "plead", Room: r.gavel.String(), Key: key, Body: history.Sum(text)}
		r.history.Add(e)
		reply, err := a.postUntil(life, r.gavel, "messages", key, map[string]string{"text": text})
		r.answered(e, r.gavel, reply.Seq, reply.Duplicate, err)
		sleep(ctx, between(random, 20*time.Millisecond, 100*time.Millisecond))
	}
}

// preside closes the room and opens it again, and leaves it open in the end.
func (r *run) preside(ctx, life context.Context) {
	a := r.api()
	random := r.random(history.Sum("preside"))
	for n := 1; life.Err() == nil; n++ {
		sleep(ctx, between(random, time.Second, 4*time.Second))
		act, kind := "close", proto.Closed
		if n%2 == 0 {
			act, kind = "reopen", proto.Reopened
		} else if ctx.Err() != nil {
			return
		}
		key := fmt.Sprintf("preside-%d", n)
		e := history.Entry{
			Op: history.Invoke, Client: "preside", Room: r.gavel.String(),
			Key: key, Kind: string(kind), Body: history.Sum(key),
		}
		r.history.Add(e)
		reply, err := a.postUntil(life, r.gavel, act, key, map[string]string{"why": key})
		r.answered(e, r.gavel, reply.Seq, reply.Duplicate, err)
	}
}
