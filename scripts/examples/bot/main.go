// Command bot answers "!roll" in a room with a number from 1 to 6:
//
//	go run ./scripts/examples/bot -url ws://localhost:8000 -room lobby
//
// It answers each message exactly once, even if it is killed and started again. For this it saves
// two things in a file: its position in the room and its resume string. With the resume string, the
// next run is the same sender. The key of an answer is made from the seq of the question. A run may
// die after it has sent an answer and before it has saved its position. Then the next run sends the
// same answer with the same key, and Roomcast does not store it again.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// state is saved in a file for the next run of the bot.
type state struct {
	Resume string
	Epoch  string
	Seq    uint64    // seq of the newest message that the bot has handled
	At     time.Time // time of that message
	Begun  bool      // Seq is set; false before the first message
}

func main() {
	url := flag.String("url", "ws://localhost:8000", "connect to the gateway at this `URL`")
	name := flag.String("room", "lobby", "answer in this `room`")
	file := flag.String("state", "bot.json", "keep the position and identity in this `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *url, *name, *file); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

func run(ctx context.Context, url, name, file string) error {
	room, err := proto.ParseRoom(name)
	if err != nil {
		return err
	}
	s, err := load(file)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, client.Config{URLs: []string{url}, Name: "bot", Resume: s.Resume})
	if err != nil {
		return err
	}
	defer c.Close()
	from := proto.From{Since: s.Seq, HasSince: s.Begun, Epoch: s.Epoch, At: s.At}
	head, err := c.Join(ctx, room, from)
	if err != nil {
		return err
	}
	if !s.Begun {
		s.Seq, s.Begun = head, true
	}
	for {
		n, err := c.Next(ctx)
		if err != nil {
			return err
		}
		switch {
		case n.Hello != nil:
			s.Resume = n.Hello.Resume
		case n.Gap != nil && n.Gap.Reason == proto.GapReset:
			s.Seq, s.At, s.Epoch = 0, time.Time{}, n.Gap.Epoch
		case n.Refused != nil:
			return n.Refused
		case n.Event != nil:
			if err := answer(ctx, c, n.Event); err != nil {
				return err
			}
			s.Seq, s.At = n.Event.Seq, n.Event.At
			if n.Event.Epoch != "" {
				s.Epoch = n.Event.Epoch
			}
		default:
			continue
		}
		if err := s.save(file); err != nil {
			return err
		}
	}
}

// answer answers a question. The number is not random: it depends on the time of the question. So
// an answer that is sent again with the same key has the same text.
func answer(ctx context.Context, c *client.Client, e *proto.Event) error {
	if string(e.Content.Body) != "!roll" {
		return nil
	}
	m := client.Text(fmt.Sprintf("%s rolls a %d", e.From.Name, e.At.UnixMilli()%6+1))
	m.Key = fmt.Sprintf("roll-%d-%d", e.Seq, e.At.UnixMilli())
	_, err := c.Say(ctx, e.Room, m)
	return err
}

func load(file string) (s state, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// save replaces the file in one step, so that after a crash the file has either the old or the new
// state.
func (s state) save(file string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
