//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"roomcast/gateway/auth"
	"roomcast/proto"
)

const benchSecret, benchToken = "the-secret-of-the-benchmark-0123", "the-api-token-of-the-benchmark"

// revoke measures how long a revocation or a ban takes, on three gateways under load. The time ends
// when the last session of the person is closed.
func revoke(b *bench) error {
	trials, members := 100, 1500
	if b.quick {
		trials, members = 20, 300
	}
	secret, tokens := filepath.Join(b.dir, "secret"), filepath.Join(b.dir, "tokens")
	if err := errors.Join(os.WriteFile(secret, []byte(benchSecret), 0o600), os.WriteFile(tokens, []byte(benchToken), 0o600)); err != nil {
		return err
	}
	flags := []string{"--auth-key-file", secret, "--api-token-file", tokens, "--guest-rights", "read say"}
	sys, err := b.newThin(3, flags, flags, flags)
	if err != nil {
		return err
	}
	for i := range 3 {
		if err := b.helper("chatter", addr(8001+i), strconv.Itoa(members/3)); err != nil {
			return err
		}
	}
	time.Sleep(time.Second)
	cpu, began := sys.cpu(0), time.Now()
	var rows table
	rows.add(fmt.Sprintf("%d trials; %d members in 90 rooms send 300 messages/s", trials, members), "p50", "max")
	for _, c := range []struct {
		name string
		code proto.CloseCode
		path string
		body string
	}{
		{"revocation", proto.CloseBadToken, "/api/revoke", `{"id":"%s"}`},
		{"ban", proto.CloseBanned, "/api/rooms/barred/ban", `{"member":"%s"}`},
	} {
		var delay histogram
		worst := time.Duration(0)
		for i := range trials {
			id := fmt.Sprintf("%s-%d", c.name, i)
			took, err := expulsion(id, c.code, addr(8001+i%3)+c.path, fmt.Sprintf(c.body, id))
			if err != nil {
				return fmt.Errorf("%s of %s: %w", c.name, id, err)
			}
			delay.add(took)
			worst = max(worst, took)
		}
		rows.add(fmt.Sprintf("from the request for a %s until the last of 6 sessions on 3 gateways is closed", c.name),
			fmt.Sprintf("%.0f ms", millis(delay.quantile(0.5))), fmt.Sprintf("%.0f ms", millis(worst)))
	}
	rows.print()
	note("the servers used %.0f %% of their core", 100*(sys.cpu(0)-cpu).Seconds()/time.Since(began).Seconds())
	return nil
}

// expulsion opens two sessions of the id on each gateway, and then sends the request. It returns
// the time until all sessions are closed with the expected code.
func expulsion(id string, code proto.CloseCode, to, body string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	mint := auth.Mint{Key: []byte(benchSecret), Subject: id, TTL: time.Hour}
	token, err := mint.Token(time.Now().Add(-2 * time.Second)) // two seconds ago, because the claim iat has only whole seconds
	if err != nil {
		return 0, err
	}
	const sessions = 6
	ended := make(chan error, sessions)
	for i := range sessions {
		conn, _, err := websocket.Dial(ctx, fmt.Sprintf("ws://%s/room/barred/", addr(8001+i%3)), &websocket.DialOptions{Subprotocols: []string{"roomcast.v1", "bearer." + token}})
		if err != nil {
			return 0, err
		}
		defer conn.CloseNow()
		if _, _, err := conn.Read(ctx); err != nil { // hello
			return 0, err
		}
		go func() {
			for {
				if _, _, err := conn.Read(ctx); err != nil {
					if got := websocket.CloseStatus(err); int(got) != int(code) {
						ended <- fmt.Errorf("a session ended with %w, not with %d", err, code)
						return
					}
					ended <- nil
					return
				}
			}
		}()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+benchToken)
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %s", resp.Status)
	}
	for range sessions {
		if err := <-ended; err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// beChatter is a process whose members, in 30 rooms, send 100 messages a second.
func beChatter(to, members string) error {
	n, err := strconv.Atoi(members)
	if err != nil {
		return err
	}
	s, err := newSwarm(to)
	if err != nil {
		return err
	}
	const rooms = 30
	s.path = func(id int) string { return fmt.Sprintf("/room/chat_%d_%d/", s.addr.Port(), s.members[id].room) }
	s.add(n, func(i int) int { return i % rooms })
	newTalk(s, rooms, 1, messageSize)
	if err := s.run(30*time.Second, func() bool { return s.open == n }); err != nil {
		return err
	}
	fmt.Println("ready")
	s.every(10 * time.Millisecond)
	return s.run(time.Hour, nil)
}
