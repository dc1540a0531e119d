package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// The load of a trial is 200 messages a second. The tested client sends a tenth of them.
const (
	trialSenders = 6
	senderPause  = time.Second / 30
	clientPause  = time.Second / 20
	trialDelay   = 10 * time.Millisecond // delay of the network in each direction
)

// trial tests a client in a room of a real gateway, over a network with a delay. While all members
// send messages, the trial kills the gateway, and later makes the network drop all bytes. A trial
// belongs to one goroutine.
type trial struct {
	program string // path of the gateway's binary
	dir     string // directory of the gateway's data
	address string
	limit   time.Duration
	gateway *exec.Cmd
	network *network
	board   *board
	driver  *driver
}

// tryReal runs a trial. It returns an error unless the client delivers every message to its
// application once and in order.
func tryReal(program string, command []string, limit time.Duration) (err error) {
	t := &trial{program: program, limit: limit, board: newBoard()}
	if t.dir, err = os.MkdirTemp("", "roomcast-trial-"); err != nil {
		return err
	}
	defer os.RemoveAll(t.dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	t.address = ln.Addr().String()
	ln.Close()
	defer t.kill()
	if err := t.start(); err != nil {
		return err
	}
	if t.network, err = openNetwork(t.address); err != nil {
		return err
	}
	defer t.network.close()
	if t.driver, err = startDriver(command, t.board); err != nil {
		return err
	}
	if err = t.play(); err != nil {
		t.driver.kill()
		return err
	}
	return t.driver.close(limit)
}

func (t *trial) start() error {
	t.gateway = exec.Command(t.program, "--listen", t.address, "--data-dir", t.dir, "--ops-listen", "off", "--nats-monitor", "off",
		"--sync", "1s", "--rate", "0", "--log-level", "error")
	t.gateway.Stderr = os.Stderr
	if err := t.gateway.Start(); err != nil {
		return fmt.Errorf("start gateway: %w", err)
	}
	for began := time.Now(); time.Since(began) < t.limit; time.Sleep(20 * time.Millisecond) {
		if r, err := http.Get("http://" + t.address + "/"); err == nil {
			r.Body.Close()
			return nil
		}
	}
	return errors.New("the gateway does not serve")
}

func (t *trial) kill() {
	if t.gateway != nil && t.gateway.Process != nil {
		t.gateway.Process.Kill()
		t.gateway.Wait()
	}
}

// play lets the members send messages during the faults. Then it waits until the client has
// delivered every message and every ack.
func (t *trial) play() error {
	url := "ws://" + t.network.address()
	for _, command := range []map[string]any{
		{"connect": map[string]any{"url": url, "quiet_ms": 500, "patience_ms": 2000}},
		{"join": map[string]any{"room": "lobby"}},
	} {
		if err := t.driver.do(command); err != nil {
			return err
		}
	}
	if _, err := t.board.take("sees", map[string]any{"joined": map[string]any{}}, t.limit); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	stop := make(chan struct{})
	said := make([]int, trialSenders+1) // number of messages by sender; the last element is for the tested client
	errs := make([]error, trialSenders+1)
	var speaking sync.WaitGroup
	for i := range trialSenders {
		speaking.Go(func() { said[i], errs[i] = t.speak(i, stop) })
	}
	speaking.Go(func() { said[trialSenders], errs[trialSenders] = t.driven(stop) })
	time.Sleep(2 * time.Second)
	t.kill()
	err := t.start()
	time.Sleep(2 * time.Second)
	t.network.silence()
	time.Sleep(4 * time.Second)
	close(stop)
	speaking.Wait()
	if err = errors.Join(append(errs, err)...); err != nil {
		return err
	}
	total := 0
	for _, n := range said {
		total += n
	}
	if !t.board.reaches("sees event", total, t.limit) || !t.board.reaches("sees ack", said[trialSenders], t.limit) {
		return fmt.Errorf("the client has shown %d of %d messages and %d of %d acks", t.board.length("sees event"), total, t.board.length("sees ack"), said[trialSenders])
	}
	return t.check(said)
}

// speak sends messages until stop is closed, each text once, and returns their number.
func (t *trial) speak(sender int, stop chan struct{}) (n int, err error) {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://" + t.address}, MaxBackoff: time.Second})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	lobby := proto.MustRoom("lobby")
	if _, err := c.Join(ctx, lobby, proto.From{}); err != nil {
		return 0, err
	}
	go func() { // take the events, so that the client's queue does not fill up
		for err := error(nil); err == nil; {
			_, err = c.Next(ctx)
		}
	}()
	for {
		select {
		case <-time.After(senderPause):
		case <-stop:
			return n, nil
		}
		if _, err := c.Say(ctx, lobby, client.Text(fmt.Sprintf("%d %d", sender, n))); err != nil {
			return n, err
		}
		n++
	}
}

// driven lets the tested client send messages until stop is closed, and returns their number.
func (t *trial) driven(stop chan struct{}) (n int, err error) {
	for {
		select {
		case <-time.After(clientPause):
		case <-stop:
			return n, nil
		}
		text := fmt.Sprintf("%d %d", trialSenders, n)
		if err := t.driver.do(map[string]any{"say": map[string]any{"room": "lobby", "text": text, "key": "k" + fmt.Sprint(n)}}); err != nil {
			return n, err
		}
		n++
	}
}

// check checks the events that the client has delivered. No seq may be missing, and the messages of
// each sender must come once and in order.
func (t *trial) check(said []int) error {
	t.board.mu.Lock()
	defer t.board.mu.Unlock()
	var before float64
	next := make([]int, len(said))
	at := map[string]float64{}
	for _, object := range t.board.queues["sees event"] {
		event, _ := object["event"].(map[string]any)
		if event == nil {
			return fmt.Errorf("the client was shown %s", compact(object))
		}
		seq, _ := event["seq"].(float64)
		if before != 0 && seq != before+1 {
			return fmt.Errorf("seq %v follows seq %v", seq, before)
		}
		before = seq
		text, _ := event["text"].(string)
		var sender, n int
		if _, err := fmt.Sscanf(text, "%d %d", &sender, &n); err != nil || sender >= len(next) || n != next[sender] {
			return fmt.Errorf("the message %q with seq %v is not the next one of its sender; the next numbers are %v", text, seq, next)
		}
		next[sender]++
		at[text] = seq
	}
	for _, object := range t.board.queues["sees ack"] {
		ack, _ := object["ack"].(map[string]any)
		key, _ := ack["key"].(string)
		if text := fmt.Sprint(trialSenders, " ", strings.TrimPrefix(key, "k")); ack["seq"] != at[text] {
			return fmt.Errorf("the ack of %s has seq %v, the message has seq %v", key, ack["seq"], at[text])
		}
	}
	return nil
}

// reaches waits until a queue has at least n objects. It returns true if the queue then has exactly
// n.
func (b *board) reaches(queue string, n int, limit time.Duration) bool {
	timeout := time.After(limit)
	for {
		b.mu.Lock()
		changed, length := b.changed, len(b.queues[queue])
		b.mu.Unlock()
		if length >= n {
			return length == n
		}
		select {
		case <-changed:
		case <-timeout:
			return false
		}
	}
}

func (b *board) length(queue string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queues[queue])
}

// network forwards connections with a delay. It is safe for concurrent use.
type network struct {
	listener net.Listener
	target   string
	links    sync.WaitGroup
	mu       sync.Mutex
	quiet    chan struct{} // closed when the present connections must drop all bytes
	conns    []net.Conn
}

func openNetwork(target string) (*network, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &network{listener: ln, target: target, quiet: make(chan struct{})}
	n.links.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			n.open(near)
		}
	})
	return n, nil
}

func (n *network) address() string { return n.listener.Addr().String() }

func (n *network) open(near net.Conn) {
	far, err := net.Dial("tcp", n.target)
	if err != nil {
		near.Close()
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, near, far)
	quiet := n.quiet
	n.links.Go(func() { forward(near, far, quiet) })
	n.links.Go(func() { forward(far, near, quiet) })
}

// silence keeps the present connections open, but drops all further bytes on them. It does not
// affect later connections.
func (n *network) silence() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.quiet)
	n.quiet = make(chan struct{})
}

func (n *network) close() {
	n.listener.Close()
	n.mu.Lock()
	for _, conn := range n.conns {
		conn.Close()
	}
	n.mu.Unlock()
	n.links.Wait()
}

// forward copies bytes with a delay, until one of the connections ends or the channel quiet is
// closed.
func forward(from, to net.Conn, quiet chan struct{}) {
	type part struct {
		due   time.Time
		bytes []byte
	}
	parts := make(chan part, 1024)
	var writing sync.WaitGroup
	writing.Go(func() {
		for p := range parts {
			time.Sleep(time.Until(p.due))
			select {
			case <-quiet:
			default:
				to.Write(p.bytes) // ignore the error: the next read notices that the connection has ended
			}
		}
	})
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if err != nil {
			break
		}
		parts <- part{time.Now().Add(trialDelay), buf[:n]}
	}
	close(parts)
	writing.Wait()
	select {
	case <-quiet: // return without closing the connections, so that neither side notices an end
	default:
		to.Close()
	}
}
