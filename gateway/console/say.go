package console

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

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
each line of its input.`,
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
		return t.say(cmd.Context(), cmd.OutOrStdout(), room, key, lines)
	})
	t.bindName(cmd)
	cmd.Flags().StringVar(&key, "key", "", "store the message only once, however often the user of --token sends it with this `key`; not for several lines")
	return cmd
}

func (t *target) say(ctx context.Context, out io.Writer, room proto.Room, key string, input io.Reader) error {
	say, end, err := t.speaker(ctx, room)
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

// speaker returns a function that stores a message in a room, and a function that closes the
// connection.
func (t *target) speaker(ctx context.Context, room proto.Room) (say func(context.Context, proto.Room, client.Message) (client.Ack, error), end func(), err error) {
	if t.overNATS() {
		c, err := t.connect(ctx)
		if err != nil {
			return nil, nil, err
		}
		return c.say, c.close, nil
	}
	c, err := t.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.Join(ctx, room, proto.From{}); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c.Say, c.Close, nil
}
