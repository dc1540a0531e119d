//go:build linux

package main

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/history"
	"roomcast/roomsvc/stream"
)

// The log of the case read.
const (
	longRooms = 2000 // number of rooms with longLog messages each; fill writes half of these rooms in one go, and spreads the others over the log
	longLog   = 80   // number of messages in a long room, a little more than a page
)

// read makes a log of a million rooms and restarts the NATS server, so that its caches are empty.
// Then it reads the last 50 messages of some rooms, each room only once.
func read(b *bench) error {
	rooms, active := 1_000_000, 20_000
	if b.quick {
		rooms, active = 100_000, 5000
	}
	servers, err := b.startNATS(1, "2m")
	if err != nil {
		return err
	}
	at := time.Now()
	messages, err := fill(rooms)
	if err != nil {
		return fmt.Errorf("fill the log: %w", err)
	}
	note("%d messages in %d rooms written in %.1f s; nats-server holds %d MB", messages, rooms, time.Since(at).Seconds(), servers[0].rss()>>20)

	servers[0].stop()
	at = time.Now()
	if servers, err = b.startNATS(1, "2m"); err != nil {
		return err
	}
	note("nats-server is back after %.1f s", time.Since(at).Seconds())
	nc, err := nats.Connect(natsURL(0), nats.Name("bench"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	log := history.New(nc, nil)
	var rows table
	rows.add(fmt.Sprintf("%d rooms, %d messages", rooms, messages), "reads", "p50 (ms)", "p99 (ms)", "longest (ms)")
	ways := [...]string{"last=50: 80 messages in one go", "last=50: 80 messages, spread over the whole log", "last=50: 1 message"}
	var took [len(ways)]histogram
	var longest [len(ways)]time.Duration
	for _, k := range rand.Perm(len(ways) * longRooms / 2) { // every long room once, in random order
		way := k % len(ways)
		i, want := k/len(ways)*2+way, uint64(longLog)
		if way == 2 {
			i, want = longRooms+rand.IntN(rooms-longRooms), 1
		}
		begin := time.Now()
		page, err := log.Read(context.Background(), history.Query{Room: benchRoom(i), Last: 50, Limit: 50})
		d := time.Since(begin)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n := len(page.Records); n != int(min(want, 50)) || page.Records[n-1].Seq != want {
			return fmt.Errorf("read room %d: %d records, head %d", i, n, page.Head.Seq)
		}
		took[way].add(d)
		longest[way] = max(longest[way], d)
	}
	for way, name := range ways {
		h := &took[way]
		rows.add(name, fmt.Sprint(h.count), fmt.Sprintf("%.2f", millis(h.quantile(0.5))),
			fmt.Sprintf("%.2f", millis(h.quantile(0.99))), fmt.Sprintf("%.1f", millis(longest[way])))
	}
	svc, err := b.startRoomsvc(0, servers, 1, "2m")
	if err != nil {
		return err
	}
	if err := answered(nc); err != nil {
		return err
	}
	ops := addr(9200)
	before, err := memoryOf(svc, ops)
	if err != nil {
		return err
	}
	at = time.Now()
	if err := speak(nc, rooms/2, active); err != nil {
		return err
	}
	spoken := time.Since(at)
	after, err := memoryOf(svc, ops)
	if err != nil {
		return err
	}
	rows.print()
	fmt.Printf("\nroomsvc: %.2f KB of live memory per active room (%.2f KB resident), with %d rooms that nobody had spoken in since it began (%.0f rooms/s); %d MB resident.\n",
		float64(after.live-before.live)/1024/float64(active), float64(after.rss-before.rss)/1024/float64(active), active, float64(active)/spoken.Seconds(), after.rss>>20)
	fmt.Printf("nats-server: %d MB resident, %s on disk per million messages.\n", servers[0].rss()>>20, diskPerMillion(filepath.Join(b.dir, "nats0-of-1-2m"), messages))
	printWorst()
	return nil
}

func benchRoom(i int) proto.Room { return proto.MustRoom(fmt.Sprintf("bench_%d", i)) }

// fill writes one message into each room. Into each of the first longRooms rooms it writes longLog
// messages instead. In a room with an even number, they follow each other closely in the log. In a
// room with an odd number, they are spread over the log.
func fill(rooms int) (uint64, error) {
	nc, err := nats.Connect(natsURL(0), nats.Name("fill"))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	cfg := stream.DefaultConfig()
	if err := stream.Ensure(context.Background(), nc, cfg); err != nil {
		return 0, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(2000))
	if err != nil {
		return 0, err
	}
	var (
		top    uint64 // stream sequence of the last written record
		seqs   [longRooms]uint64
		starts [longRooms][2]uint64 // stream sequences at which the previous and the present page begin
	)
	put := func(i int) error {
		seq, pages := uint64(1), [2]uint64{0, top + 1}
		if i < longRooms {
			seqs[i]++
			seq = seqs[i]
			if (seq-1)%proto.PageSize == 0 {
				starts[i] = [2]uint64{starts[i][1], top + 1}
			}
			pages = starts[i]
		}
		r := record(benchRoom(i), seq, pages[0], pages[1])
		top++
		_, err := js.PublishMsgAsync(&nats.Msg{Subject: r.Room.LogSubject(), Header: header(&r), Data: r.Payload}, jetstream.WithStallWait(10*time.Second))
		return err
	}
	// After every few messages to short rooms, one message goes to a long room. The long rooms with
	// odd numbers take turns. The long rooms with even numbers form groups of 40. One group after
	// the other gets messages until its rooms are full.
	turns := longRooms * longLog
	quiet := 0
	for turn := range turns {
		i := turn % longRooms
		if i%2 == 0 {
			k := turn / 2 // counts only the messages to even rooms
			group, within := k/(40*longLog), k%(40*longLog)
			i = 2 * (group*40 + within%40)
		}
		if err := put(i); err != nil {
			return 0, err
		}
		for ; quiet < (rooms-longRooms)*(turn+1)/turns; quiet++ {
			if err := put(longRooms + quiet); err != nil {
				return 0, err
			}
		}
	}
	<-js.PublishAsyncComplete()
	s, err := js.Stream(context.Background(), proto.StreamName)
	if err != nil {
		return 0, err
	}
	if got := s.CachedInfo().State.LastSeq; got != top {
		return 0, fmt.Errorf("the stream ends at %d instead of %d", got, top)
	}
	return top, nil
}

// speak sends one message to each of n rooms, beginning with room number first.
func speak(nc *nats.Conn, first, n int) error {
	a, err := newAsker(nc, 0, 0)
	if err != nil {
		return err
	}
	defer a.close()
	for _, i := range rand.Perm(n) {
		a.rooms = append(a.rooms, benchRoom(first+i).Subject())
	}
	a.begin()
	for a.acked() < int64(n) {
		time.Sleep(time.Millisecond)
	}
	return a.end()
}

// diskPerMillion returns the size of the files below dir, divided by the number of messages in
// millions.
func diskPerMillion(dir string, messages uint64) string {
	var sum int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return fmt.Sprintf("%.0f MB", float64(sum)/(1<<20)*1e6/float64(messages))
}
