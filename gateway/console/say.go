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
	cmd := &cobra.Command{
		Use:   "say room [text]",
		Short: "say something in a room, or each line of the input",
		Long: `say sends a message to a room and prints its seq when it is stored. Without a text it sends
each line of its input.`,
		Example: `  gateway say lobby hello
  gateway say --name ann lobby "the order is paid"
  df -h / | gateway say --url https://chat.example.org ops`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: t.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			room, err := parseRoom(args[0])
			if err != nil {
				return err
			}
			lines := io.Reader(strings.NewReader(strings.Join(args[1:], " ")))
			if len(args) == 1 {
				lines = cmd.InOrStdin()
			}
			return t.say(cmd.Context(), cmd.OutOrStdout(), room, key, lines)
		},
	}
	t.bind(cmd)
	t.bindName(cmd)
	cmd.Flags().StringVar(&key, "key", "", "store the message only once, however often the user of --token sends it with this `key`; not for several lines")
	return cmd
}

func (t *target) say(ctx context.Context, out io.Writer, room proto.Room, key string, input io.Reader) error {
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Join(ctx, room, proto.From{}); err != nil {
		return err
	}
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, 1<<20)
	for said := 0; lines.Scan(); said++ {
		if key != "" && said > 0 {
			return fmt.Errorf("--key: the input has several lines, and only the first was sent")
		}
		message := client.Text(lines.Text())
		message.Key = key
		ack, err := c.Say(ctx, room, message)
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
