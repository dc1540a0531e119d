package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// walked runs all steps of smoke against two gateways.
func walked(t *testing.T, one, two string) {
	t.Helper()
	var out bytes.Buffer
	if err := smoke(t.Context(), &out, 30*time.Second, one, two); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
}

// The standalone form loses no acknowledged message if it is killed with kill -9. After SIGTERM it
// exits with status 0.
func TestStandaloneKeepsAcknowledgedMessages(t *testing.T) {
	data := t.TempDir()
	run := func() *process {
		return start(t, nil, "gateway", "--listen", "127.0.0.1:0", "--data-dir", data, "--nats-monitor", "off",
			"--ops-listen", "off", "--drain-time", "1s")
	}
	first := run()
	base := first.serves()
	walked(t, base, base)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := connect(ctx, base, "聊天室1", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"你好", "hello"} {
		if err := a.say(ctx, text); err != nil {
			t.Fatal(err)
		}
		if err := a.hears(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	second := start(t, nil, "gateway", "--listen", "127.0.0.1:0", "--data-dir", data, "--nats-monitor", "off", "--ops-listen", "off")
	if err := <-second.done; err == nil || !strings.Contains(second.said(), "is in use by another gateway") {
		t.Errorf("a second gateway on the same data: got %v, %s", err, second.said())
	}
	second.done <- nil

	first.ends(syscall.SIGKILL)
	third := run()
	b, err := connect(ctx, third.serves(), "聊天室1", "last=10")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"你好", "hello"} {
		if err := b.hears(ctx, text); err != nil {
			t.Errorf("after kill -9: %v", err)
		}
	}
	closed := make(chan error, 1)
	go func() {
		_, err := b.hear(ctx)
		closed <- err
	}()
	if err := third.ends(syscall.SIGTERM); err != nil {
		t.Errorf("after SIGTERM: got %v, want exit 0", err)
	}
	if err := <-closed; err == nil || !strings.Contains(err.Error(), "1001") && !strings.Contains(err.Error(), "StatusGoingAway") {
		t.Errorf("the member got %v, want to be closed with 1001", err)
	}
}

// shippedConf returns the shipped configuration with other addresses and another data
// directory.
func shippedConf(t *testing.T, port string) string {
	t.Helper()
	dir := t.TempDir()
	shipped, err := os.ReadFile("../nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`include shipped.conf
listen: "127.0.0.1:%s"
http: "127.0.0.1:%s"
jetstream { store_dir: %q, sync_interval: always }
`, port, freePort(t), dir)
	for name, text := range map[string][]byte{"shipped.conf": shipped, "nats.conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "nats.conf")
}

// NATS, the room service and two gateways work as separate processes with the shipped
// configuration. The processes may start in any order.
func TestSeparateProcessesStartInAnyOrder(t *testing.T) {
	port := freePort(t)
	url := "NATS_URL=nats://127.0.0.1:" + port
	as := func(user string) []string {
		return []string{url, "NATS_USER=" + user, "NATS_PASSWORD=" + user + "-password", "NATS_INBOX_PREFIX=" + map[string]string{"gateway": "_INBOX_gw", "roomsvc": "_INBOX_roomsvc"}[user]}
	}
	gateway := func() *process {
		return start(t, as("gateway"), "gateway", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--drain-time", "500ms")
	}
	one := gateway()
	service := start(t, as("roomsvc"), "roomsvc", "--sync", "always", "--ops-listen", "off")
	one.says("waiting for nats")
	service.says("waiting for nats")
	start(t, []string{
		"NATS_SERVER_NAME=test", "NATS_GATEWAY_PASSWORD=gateway-password",
		"NATS_ROOMSVC_PASSWORD=roomsvc-password", "NATS_OPERATOR_PASSWORD=operator-password", "NATS_ADMIN_PASSWORD=admin-password",
	}, "nats-server", "-c", shippedConf(t, port))
	two := gateway()
	base := one.serves()
	walked(t, base, two.serves())

	// A NATS client sends a message to the same room, and receives an ack.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := connect(ctx, base, "lobby", "")
	if err != nil {
		t.Fatal(err)
	}
	defer a.leave()
	nc, err := nats.Connect("nats://127.0.0.1:"+port, nats.UserInfo("operator", "operator-password"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	reply, err := nc.RequestWithContext(ctx, "room.lobby", []byte("hello from NATS"))
	if err != nil || !strings.HasPrefix(string(reply.Data), `{"ok":{"seq":`) {
		t.Errorf("got %v, %v, want an ack", reply, err)
	}
	if err := a.hears(ctx, "hello from NATS"); err != nil {
		t.Error(err)
	}

	for _, p := range []*process{one, two, service} {
		if err := p.ends(syscall.SIGTERM); err != nil {
			t.Errorf("%s after SIGTERM: got %v, want exit 0", p.name, err)
		}
	}
}
