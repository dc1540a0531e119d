//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
)

// inFlight is the number of messages without an ack at full load, for Roomcast and for the bare
// publisher.
const inFlight = 1000

// ingestModes are the measured storage settings: the number of replicas of the stream, and the
// sync_interval of the NATS servers.
var ingestModes = []struct {
	replicas int
	sync     string
}{{1, "2m"}, {1, "always"}, {3, "2m"}, {3, "always"}}

// ingest measures how many messages the room service stores, from the NATS request to the ack. It
// compares two rates, in messages per CPU-second. The first is the rate of roomsvc and the NATS
// servers together. The second is the rate of a bare publisher and the NATS servers together. Both
// streams have the same settings and records of the same size. Afterwards ingest measures the
// standalone form, where one process contains NATS and the room service.
func ingest(b *bench) error {
	window, modes := b.window/4, ingestModes
	if b.quick {
		modes, window = modes[:2], b.window/2
	}
	in := intake{b: b, window: window}
	in.rows.add("stream", "servers", "rooms", "load", "acked/s", "ack p50 / p99 (ms)", "acked/CPU-s", "of bare")
	measure := func(name string, f func() error) error {
		if b.only != "" && b.only != name {
			return nil
		}
		note("%s", name)
		in.name, in.bare = name, nil
		if err := f(); err != nil {
			in.rows.print()
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	for _, m := range modes {
		err := measure(fmt.Sprintf("R%d, sync %s", m.replicas, m.sync), func() error { return in.processes(m.replicas, m.sync) })
		if err != nil {
			return err
		}
	}
	for _, sync := range []string{"2m", "always"} {
		if err := measure("standalone, sync "+sync, func() error { return in.standalone(sync) }); err != nil {
			return err
		}
	}
	in.rows.print()
	printWorst()
	return nil
}

// intake is the state of the case ingest.
type intake struct {
	b      *bench
	window time.Duration
	rows   table
	name   string  // of the measured stream and form
	bare   samples // the results of the bare publisher with this stream
}

// processes measures NATS servers and room services that are processes of their own.
func (in *intake) processes(replicas int, sync string) error {
	servers, err := in.b.startNATS(replicas, sync)
	if err != nil {
		return err
	}
	procs := servers
	defer func() {
		for i := len(procs) - 1; i >= 0; i-- {
			procs[i].stop()
		}
	}()
	nc, err := nats.Connect(natsURL(0), nats.Name("bench"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	publish := func() error {
		perCPU, rate, err := in.b.bare(servers, in.window)
		if err != nil {
			return fmt.Errorf("bare publisher: %w", err)
		}
		in.bare = append(in.bare, perCPU)
		note("bare publisher: %.0f/s, %.0f/CPU-s", rate, perCPU)
		return nil
	}
	for instances := 1; instances <= 2; instances++ {
		svc, err := in.b.startRoomsvc(instances-1, servers, replicas, sync)
		if err != nil {
			return err
		}
		procs = append(procs, svc)
		if err := answered(nc); err != nil {
			return err
		}
		if instances == 2 {
			time.Sleep(time.Second) // time for the instances to take their partitions
		}
		if err := publish(); err != nil {
			return err
		}
		rates := []int{1000, 10_000, 0}
		if instances > 1 {
			rates = []int{0}
		}
		if err := in.loads(nc, procs, fmt.Sprintf("%d roomsvc", instances), rates); err != nil {
			return err
		}
	}
	if err := publish(); err != nil {
		return err
	}
	in.rows.add(in.name, "bare publisher", "10000", "saturation", "", "", in.bare.cell("%.0f"), "1")
	return nil
}

// standalone measures a standalone gateway. Like a backend, the asker logs in with a password.
func (in *intake) standalone(sync string) error {
	dir := filepath.Join(in.b.dir, "standalone-"+sync)
	if err := os.WriteFile(dir+".password", []byte(benchPassword), 0o600); err != nil {
		return err
	}
	sys, err := in.b.newEmbedded("--data-dir", dir, "--sync", sync, "--nats-listen", addr(4222), "--nats-listen-password-file", dir+".password")
	if err != nil {
		return err
	}
	defer sys.procs[0].stop()
	nc, err := nats.Connect(natsURL(0), nats.Name("bench"), nats.UserInfo("bench", benchPassword))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	if err := answered(nc); err != nil {
		return err
	}
	rates := []int{1000, 0}
	if in.b.quick {
		rates = []int{0}
	}
	return in.loads(nc, sys.procs, "standalone gateway", rates)
}

// loads measures one room and 10,000 rooms at each of the rates.
func (in *intake) loads(nc *nats.Conn, procs []*process, servers string, rates []int) error {
	for _, rooms := range []int{1, 10_000} {
		for _, rate := range rates {
			if in.b.quick && rate > 1000 {
				continue
			}
			if err := in.load(nc, procs, servers, rooms, rate); err != nil {
				return fmt.Errorf("%s, %d rooms, %d/s: %w", servers, rooms, rate, err)
			}
		}
	}
	return nil
}

// load measures one load and adds a row.
func (in *intake) load(nc *nats.Conn, procs []*process, servers string, rooms, rate int) error {
	a, err := newAsker(nc, rooms, rate)
	if err != nil {
		return err
	}
	defer a.close()
	sys := &system{procs: procs}
	if err := a.warm(); err != nil {
		return err
	}
	a.begin()
	time.Sleep(in.window / 3)
	w, cpu, each := newWatch(), sys.cpu(0), sys.cpuTimes()
	before := a.mark()
	time.Sleep(in.window)
	acked := a.acked() - before
	wall, used := time.Since(w.at), sys.cpu(0)-cpu
	for i, p := range procs {
		each[i] = p.cpu() - each[i]
	}
	w.end()
	if err := a.end(); err != nil {
		return err
	}
	load, ratio, perCPU := "saturation", "–", float64(acked)/used.Seconds()
	if rate > 0 {
		load = fmt.Sprintf("%d/s", rate)
	} else if len(in.bare) > 0 {
		ratio = fmt.Sprintf("%.2f", perCPU/in.bare.median())
	}
	note("%s, %d rooms, %s: %.0f/s, %.0f/CPU-s %s; each %v", servers, rooms, load, float64(acked)/wall.Seconds(), perCPU, ratio, each)
	in.rows.add(in.name, servers, fmt.Sprint(rooms), load, fmt.Sprintf("%.0f", float64(acked)/wall.Seconds()),
		fmt.Sprintf("%.2f / %.2f", millis(a.delay.quantile(0.5)), millis(a.delay.quantile(0.99))),
		fmt.Sprintf("%.0f", perCPU), ratio)
	return nil
}

// answered sends messages until one of them gets its ack.
func answered(nc *nats.Conn) (err error) {
	for range 100 {
		var m *nats.Msg
		if m, err = nc.Request("room.bench_ready", []byte("hello"), time.Second); err == nil {
			if strings.HasPrefix(string(m.Data), `{"ok"`) {
				return nil
			}
			err = errors.New(string(m.Data))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("messages are not accepted: %w", err)
}

// bare lets the bare publisher, another process, publish for a window. It returns the number of
// messages per CPU-second of that process and the servers together, and the number of messages per
// second.
func (b *bench) bare(servers []*process, window time.Duration) (perCPU, rate float64, err error) {
	cmd := exec.Command(filepath.Join(b.dir, "benchmark"), "role", "publish", natsURL(0), window.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := onCore(serverCore, cmd.Start); err != nil {
		return 0, 0, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return 0, 0, errors.Join(errors.New("the publisher did not start"), cmd.Wait())
	}
	sys := &system{procs: servers}
	cpu, at := sys.cpu(0), time.Now()
	io.WriteString(in, "go\n")
	lines.Scan()
	var count int64
	var own time.Duration
	if _, err := fmt.Sscan(lines.Text(), &count, &own); err != nil {
		return 0, 0, err
	}
	used, wall := sys.cpu(0)-cpu+own, time.Since(at)
	return float64(count) / used.Seconds(), float64(count) / wall.Seconds(), cmd.Wait()
}

// publishBare is the process of the bare publisher. It fills a stream that has the settings of the
// stream ROOMS.
func publishBare(args []string) error {
	window, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	nc, err := nats.Connect(args[0], nats.Name("bare"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(inFlight))
	if err != nil {
		return err
	}
	ctx := context.Background()
	rooms, err := js.Stream(ctx, proto.StreamName)
	if err != nil {
		return fmt.Errorf("look at %s: %w", proto.StreamName, err)
	}
	cfg := rooms.CachedInfo().Config
	cfg.Name, cfg.Subjects, cfg.Metadata = "BARE", []string{"bare.log.*.*"}, nil
	if cfg.RePublish != nil {
		cfg.RePublish = &jetstream.RePublish{Source: "bare.log.*.*", Destination: "bare.out.{{wildcard(1)}}.{{wildcard(2)}}"}
	}
	if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("make stream: %w", err)
	}
	subjects := make([]string, 10_000)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("bare.log.%d.bench_%d", i%proto.Partitions, i)
	}
	r := record(proto.MustRoom("bench_1"), 1, 1, 1)
	publish := func(until time.Time) (n int64, err error) {
		for ; n%100 != 0 || time.Now().Before(until); n++ {
			m := &nats.Msg{Subject: subjects[n%int64(len(subjects))], Header: header(&r), Data: r.Payload}
			if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(10*time.Second)); err != nil {
				return n, err
			}
		}
		<-js.PublishAsyncComplete()
		return n, nil
	}
	if _, err := publish(time.Now().Add(window / 3)); err != nil {
		return err
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	own := ownCPU()
	n, err := publish(time.Now().Add(window))
	fmt.Println(n, ownCPU()-own)
	return err
}

// record returns a record as roomsvc writes it, for a message of messageSize bytes.
func record(room proto.Room, seq, page, start uint64) proto.Record {
	at := time.Now()
	e := proto.Event{Room: room, Seq: seq, At: at, From: proto.Identity{ID: "s1", Name: "bench"},
		Content: proto.Content{Kind: proto.Text, Body: []byte(strings.Repeat("x", messageSize-len(stamp)))}}
	payload, text := e.AppendRecord(nil)
	return proto.Record{Room: room, Seq: seq, From: "s1", Key: "k1234567", Stamp: stamp[:len(stamp)-1],
		State: proto.State{Epoch: "bench", At: at, Page: page, Start: start}, Text: text, Payload: payload}
}

func header(r *proto.Record) nats.Header {
	return nats.Header{proto.HeaderRecord: {r.Header()}}
}
