//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
)

// erase measures how long the bytes of a deleted message stay in the files of NATS, with one
// replica and with three. The message is in the streams ROOMS and ROOMEVENTS.
func erase(b *bench) error {
	var rows table
	rows.add("replicas", "from the answer to a delete until no file holds the text")
	for _, replicas := range []int{1, 3} {
		took, err := b.eraseWith(replicas)
		if err != nil {
			return fmt.Errorf("%d replicas: %w", replicas, err)
		}
		rows.add(fmt.Sprint(replicas), fmt.Sprintf("%.0f s", took.Seconds()))
		stopAll()
	}
	rows.print()
	return nil
}

func (b *bench) eraseWith(replicas int) (time.Duration, error) {
	procs, err := b.startNATS(replicas, b.sync)
	if err != nil {
		return 0, err
	}
	if _, err := b.startRoomsvc(replicas, procs, replicas, b.sync, "--events"); err != nil {
		return 0, err
	}
	nc, err := nats.Connect(natsURL(0))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	room := proto.MustRoom("erased")
	secret := fmt.Sprintf("a text that is deleted, %d", time.Now().UnixNano())
	deletion := nats.NewMsg(room.Subject())
	deletion.Header.Set(proto.HeaderKind, string(proto.ActDelete))
	deletion.Header.Set(proto.HeaderSeq, "1")
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	for _, m := range []*nats.Msg{{Subject: room.Subject(), Data: []byte(secret)}, {Subject: room.Subject(), Data: []byte("another")}, deletion} {
		for m == deletion { // until ROOMEVENTS has the copy
			s, err := js.Stream(context.Background(), proto.EventsStream)
			if err != nil {
				return 0, err
			}
			if s.CachedInfo().State.LastSeq >= 2 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		answer, err := nc.RequestMsg(m, 20*time.Second)
		if err != nil {
			return 0, err
		}
		if !bytes.HasPrefix(answer.Data, []byte(`{"ok":`)) {
			return 0, fmt.Errorf("got %s", answer.Data)
		}
	}
	began := time.Now()
	for holder := "a file"; holder != ""; {
		if time.Since(began) > 10*time.Minute {
			return 0, fmt.Errorf("%s still holds the text after 10 min", holder)
		}
		time.Sleep(time.Second)
		if holder, err = holds(b.dir, []byte(secret)); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// holds returns the path of a file below dir that contains the text; "" = no file does.
func holds(dir string, text []byte) (found string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || found != "" {
			return nil // NATS may remove files while we read
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, text) {
			found = path
		}
		return nil
	})
	return found, err
}
