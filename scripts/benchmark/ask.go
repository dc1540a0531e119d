//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// ask measures the cost of questions to the application's backend. A gateway can ask the backend
// over NATS before it permits a connection, a reconnect with a resume string, a join or a message.
// Gateway 1 asks nothing. Gateway 2 asks about connections and joins, gateway 3 about messages.
func ask(b *bench) error {
	n, joins := 10_000, 2000
	if b.quick {
		n, joins = 2000, 500
	}
	sys, err := b.newThin(3, nil, []string{"--ask", "connect,join"}, []string{"--ask", "say"})
	if err != nil {
		return err
	}
	if err := b.helper("answer", natsURL(0)); err != nil {
		return err
	}
	nc, err := nats.Connect(natsURL(0))
	if err != nil {
		return err
	}
	defer nc.Close()
	var rows table
	rows.add("", "result")
	if err := reconnects(&rows, nc, n); err != nil {
		return fmt.Errorf("reconnects: %w", err)
	}
	if err := askedJoins(&rows, joins); err != nil {
		return fmt.Errorf("joins: %w", err)
	}
	if err := b.askedSays(&rows, sys); err != nil {
		return fmt.Errorf("messages: %w", err)
	}
	rows.print()
	printWorst()
	return nil
}

// reconnects lets n members connect and then reconnect with their resume strings. It counts the
// questions to the backend and measures the time.
func reconnects(rows *table, nc *nats.Conn, n int) error {
	s, err := newSwarm(addr(8002))
	if err != nil {
		return err
	}
	defer s.close()
	resume, greeted := make([]string, n), 0
	s.json = true
	s.path = func(id int) string { return fmt.Sprintf("/room/asked_%d/", id%100) }
	s.offer = func(id int) string { return resume[id] }
	s.hears = func(id int, payload []byte) {
		if !isHello(payload) {
			return
		}
		var hello struct{ Hello client.Hello }
		if json.Unmarshal(payload, &hello) == nil {
			resume[id] = hello.Hello.Resume
			greeted++
		}
	}
	all := func() bool { return greeted >= n }
	began := time.Now()
	s.add(n, func(int) int { return 0 })
	if err := s.run(60*time.Second, all); err != nil {
		return err
	}
	first := time.Since(began)
	before, err := questions(nc)
	if err != nil {
		return err
	}
	began, greeted = time.Now(), 0
	for id := range n {
		s.drop(id, 1006)
		s.connect(id)
	}
	if err := s.run(60*time.Second, all); err != nil {
		return err
	}
	back := time.Since(began)
	after, err := questions(nc)
	if err != nil {
		return err
	}
	rows.add(fmt.Sprintf("%d members connect and join: questions, time", n), fmt.Sprintf("%d, %.2f s", before, first.Seconds()))
	rows.add("the same members reconnect with resume: questions, time", fmt.Sprintf("%d, %.2f s", after-before, back.Seconds()))
	return nil
}

// askedJoins compares joins with and without a question to the backend.
func askedJoins(rows *table, n int) error {
	ctx := context.Background()
	var delay [2]histogram
	var clients [2]*client.Client
	for i := range clients {
		c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://" + addr(8001+i)}, Buffer: 1 << 16})
		if err != nil {
			return err
		}
		defer c.Close()
		clients[i] = c
	}
	for i := range n {
		room, err := proto.ParseRoom(fmt.Sprintf("joined_%d", i))
		if err != nil {
			return err
		}
		for turn := range clients {
			k := (turn + i) % 2
			began := time.Now()
			if _, err := clients[k].Join(ctx, room, proto.From{}); err != nil {
				return err
			}
			delay[k].add(time.Since(began))
			if err := clients[k].Leave(ctx, room); err != nil {
				return err
			}
		}
	}
	p50 := func(k int) float64 { return millis(delay[k].quantile(0.5)) }
	rows.add(fmt.Sprintf("%d joins, p50: without a question, with one, more", n),
		fmt.Sprintf("%.2f, %.2f, %.2f ms", p50(0), p50(1), p50(1)-p50(0)))
	return nil
}

// askedSays compares messages with and without a question to the backend. There are 200 rooms with
// one member each. A member sends its next message when it has received its previous one.
func (b *bench) askedSays(rows *table, sys *system) error {
	systems := []*system{{name: "without a question", addr: addr(8001), procs: sys.procs}, {name: "with a question", addr: addr(8003), procs: sys.procs}}
	said := make([]samples, 2)
	for i, s := range systems {
		if err := s.joinAs(fmt.Sprintf("said%d", i), true, 200, 200, 1, messageSize); err != nil {
			return err
		}
		defer s.s.close()
	}
	ratio, last := samples{}, [2]float64{}
	seen := 0
	err := b.compare(systems, 0, []int{0, 0}, func(i int, o outcome) {
		said[i], last[i] = append(said[i], o.said), o.said
		if seen++; seen%2 == 0 {
			ratio = append(ratio, last[1]/last[0])
		}
	})
	if err != nil {
		return err
	}
	rows.add("messages a second, 200 senders with one in flight each: without a question", said[0].cell("%.0f"))
	rows.add("the same with a question for each message, and the ratio of the two", said[1].cell("%.0f")+", "+ratio.cell("%.2f"))
	return nil
}

// countSubject is the subject on which the responder reports how many questions it has answered.
const countSubject = "bench.questions"

// questions returns how many questions the responder has answered.
func questions(nc *nats.Conn) (int, error) {
	m, err := nc.Request(countSubject, nil, 5*time.Second)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(m.Data))
}

// beResponder is the process of the backend. It answers all questions of gateways, and gives each
// client another id.
func beResponder(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	count := 0
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	_, err = nc.Subscribe("room.ask.*", func(m *nats.Msg) {
		count++
		answer := `{"allow":true,"until":"` + until + `"}`
		switch m.Subject {
		case "room.ask.connect":
			answer = fmt.Sprintf(`{"allow":true,"until":%q,"id":"user-%d","rooms":{"*":"read say"}}`, until, count)
		case "room.ask.say":
			answer = `{"allow":true}`
		}
		m.Respond([]byte(answer))
	})
	if err == nil {
		_, err = nc.Subscribe(countSubject, func(m *nats.Msg) { m.Respond([]byte(strconv.Itoa(count))) })
	}
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// helper starts a process of the benchmark on the core of the load, and waits until it prints that
// it is ready.
func (b *bench) helper(role string, args ...string) error {
	cmd := exec.Command(filepath.Join(b.dir, "benchmark"), append([]string{"role", role}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := onCore(loadCore, cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", role, err)
	}
	if line := bufio.NewScanner(out); !line.Scan() {
		return fmt.Errorf("%s is not ready: %w", role, cmd.Wait())
	}
	go cmd.Wait()
	return nil
}
