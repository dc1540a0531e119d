package console

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"roomcast/gateway/client"
	"roomcast/proto"
)

func sayCommand() *cobra.Command {
	var t target
	var key string
	cmd := t.inRoom(&cobra.Command{
		Use:   "say room [text]",
		Short: "say something in a room, or each line of the input",
		Long: `say sends a message to a room and prints its seq when it is stored. Without a text it sends
each line of its input. It needs the right say, and does not join the room. While the server
cannot store a message, say sends it again with the same key. If that does not help for a minute, it
gives up.`,
		Example: `  gateway say lobby hello
  gateway say --name ann lobby "the order is paid"
  df -h / | gateway say --url https://chat.example.org ops
  gateway say --nats nats://127.0.0.1:4222 --user operator lobby "we close at noon"`,
		Args: cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, room proto.Room, args []string) error {
		lines := io.Reader(strings.NewReader(strings.Join(args, " ")))
		if len(args) == 0 {
			lines = cmd.InOrStdin()
		}
		return t.say(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), room, key, lines)
	})
	t.bindName(cmd)
	cmd.Flags().StringVar(&key, "key", "", "store the message only once, however often the user of --token sends it with this `key`; not for several lines")
	return cmd
}

func (t *target) say(ctx context.Context, out, notes io.Writer, room proto.Room, key string, input io.Reader) error {
	say, end, err := t.speaker(ctx, notes)
	if err != nil {
		return err
	}
	defer end()
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, 1<<20)
	for said := 0; lines.Scan(); said++ {
		if key != "" && said > 0 {
			return fmt.Errorf("--key: the input has several lines, and only the first was sent")
		}
		message := client.Text(lines.Text())
		message.Key = key
		ack, err := say(ctx, room, message)
		if err != nil {
			return err
		}
		note := ""
		if ack.Duplicate {
			note = " (stored before)"
		}
		fmt.Fprintf(out, "%d%s\n", ack.Seq, note)
	}
	return lines.Err()
}

// speaker returns a function that stores a message in a room, and a function that ends its use.
// The function does not join the room, because the person may lack the right to read it.
func (t *target) speaker(ctx context.Context, notes io.Writer) (say func(context.Context, proto.Room, client.Message) (client.Ack, error), end func(), err error) {
	if t.overNATS() {
		c, err := t.connect(ctx)
		if err != nil {
			return nil, nil, err
		}
		return c.say, c.close, nil
	}
	p := poster{target: *t, notes: notes}
	if t.token == "" { // a guest, whose identity is in the resume string of a session
		c, err := t.dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		p.resume = c.Hello().Resume
		c.Close()
	}
	return p.say, func() {}, nil
}

// poster stores messages over the HTTP API. One goroutine owns it.
type poster struct {
	target
	notes   io.Writer // receives the reason if a message is not stored soon
	reached bool      // the gateway has answered
}

const (
	noteTime    = time.Second            // after this time, a poster says why a message is not stored yet
	unclearTime = time.Minute            // how long a poster tries if the message may be stored; the server knows keys for longer
	pauseTime   = 200 * time.Millisecond // between two attempts
)

// say sends a message until it is stored or refused, always with the same key.
func (p *poster) say(ctx context.Context, room proto.Room, m client.Message) (ack client.Ack, err error) {
	if m.Key == "" {
		m.Key = rand.Text()
	}
	body, err := json.Marshal(map[string]string{"text": string(m.Body), "key": m.Key})
	if err != nil {
		return ack, err
	}
	query := url.Values{}
	if p.name != "" && p.token != "" && strings.Count(p.token, ".") != 2 { // the token is not a JWT, but one of the API
		query.Set("name", p.name)
	}
	path := []string{"rooms", room.String(), "messages"}
	told, began := false, time.Now()
	var wrote atomic.Bool // an attempt has sent the message
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { wrote.Store(true) }})
	var sent time.Time // when an attempt first ended without saying whether the message is stored; zero = never
	for {
		err := p.call(ctx, http.MethodPost, path, query, bytes.NewReader(body), &ack)
		refusal, refused := errors.AsType[*proto.Refusal](err)
		pause := pauseTime
		switch {
		case err == nil:
			p.reached = true
			return ack, nil
		case !refused && !p.reached && !wrote.Load() && time.Since(began) > answerTime:
			return ack, err
		case refused && refusal.Code == proto.Forbidden && !sent.IsZero(): // the server checks the right before it looks for the key
			return ack, fmt.Errorf("the message may be stored: %w", refusal)
		case refused && !refusal.Temporary() && refusal.Code != proto.Unavailable && refusal.Code != proto.Overloaded:
			return ack, refusal
		case refused:
			p.reached, pause = true, max(pause, refusal.Retry)
		}
		if sent.IsZero() && (!refused || refusal.Code == proto.Unavailable) {
			sent = time.Now()
		}
		if !told && time.Since(began)+pause > noteTime {
			told = true
			fmt.Fprintf(p.notes, "gateway: the message is not stored yet: %v; trying again\n", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		if ctx.Err() != nil || !sent.IsZero() && time.Since(sent) > unclearTime {
			return ack, fmt.Errorf("the message may be stored: %w", err)
		}
	}
}
