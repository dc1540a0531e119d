package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"roomcast/gateway/client"
	"roomcast/proto"
)

func tailCommand() *cobra.Command {
	var t target
	var follow bool
	var last int
	cmd := &cobra.Command{
		Use:   "tail room...",
		Short: "print the newest messages of rooms, and follow them",
		Long: `tail prints the newest messages of rooms. With --follow it goes on with what is said from then on,
across lost connections, and prints each message once. It ends with status 1 when it may not stay
in a room, for example because the room is closed.`,
		Example: `  gateway tail lobby
  gateway tail -f -n 0 --json lobby ops | jq .text`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: t.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			rooms := make([]proto.Room, len(args))
			for i, name := range args {
				var err error
				if rooms[i], err = parseRoom(name); err != nil {
					return err
				}
			}
			p := printer{out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), json: t.json, names: len(rooms) > 1}
			return t.tail(cmd.Context(), &p, rooms, last, follow)
		},
	}
	t.bind(cmd)
	cmd.Flags().Lookup("token").Usage = "use this `token` of a user; prefer the variable, because other users of the machine can read flags"
	t.bindName(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "continue with new messages")
	cmd.Flags().IntVarP(&last, "last", "n", 10, "begin with this `number` of messages")
	t.bindJSON(cmd)
	return cmd
}

// tail prints the newest events of rooms. If follow is true, it continues with new events until
// ctx ends.
func (t *target) tail(ctx context.Context, p *printer, rooms []proto.Room, last int, follow bool) error {
	if t.overNATS() {
		c, err := t.connect(ctx)
		if err != nil {
			return err
		}
		defer c.close()
		return c.tail(ctx, p, rooms, last, follow)
	}
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	heads := map[proto.Room]uint64{} // for each room: seq of the newest event at the join, until it is printed
	for _, room := range rooms {
		head, err := c.Join(ctx, room, proto.From{Last: last})
		if err != nil {
			return fmt.Errorf("%s: %w", room, err)
		}
		if head > 0 && last > 0 {
			heads[room] = head
		}
	}
	for follow || len(heads) > 0 {
		n, err := c.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // the person has pressed Ctrl-C
		case err != nil:
			return err
		}
		if err := p.notice(n); err != nil {
			return err
		}
		if n.Event != nil && n.Event.Seq >= heads[n.Room] || n.Gap != nil && n.Gap.To >= heads[n.Room] {
			delete(heads, n.Room)
		}
	}
	return nil
}

// notice prints a notice of the client. It returns an error if the room cannot be followed any
// longer.
func (p *printer) notice(n client.Notice) error {
	switch {
	case n.Event != nil:
		return p.event(n.Event)
	case n.Gap != nil:
		return p.gap(n.Room, n.Gap)
	case n.Refused != nil:
		return fmt.Errorf("%s: %w", n.Room, n.Refused)
	case n.Link != nil:
		fmt.Fprintf(p.notes, "gateway: the connection is lost (%v); next try in %s\n", n.Link.Err, n.Link.Again.Round(100e6))
	}
	return nil
}

// timeLayout is the layout of printed times. It is the same as in text sessions. The times are
// in the person's time zone.
const timeLayout = time.DateTime

// printer prints events. One goroutine owns it.
type printer struct {
	out   io.Writer
	notes io.Writer // receives lost connections and, unless out is JSON, gaps
	json  bool
	names bool // begin each line with the name of its room
}

func (p *printer) page(room proto.Room, page client.Page) error {
	var errs []error
	if page.Gap != nil {
		errs = append(errs, p.gap(room, page.Gap))
	}
	for i := range page.Events {
		errs = append(errs, p.event(&page.Events[i]))
	}
	return errors.Join(errs...)
}

func (p *printer) event(e *proto.Event) error {
	if p.json {
		_, err := fmt.Fprintf(p.out, "%s\n", e.AppendJSON(nil))
		return err
	}
	name := e.From.Name
	if name == "" {
		name = e.From.ID
	}
	body := string(e.Content.Body)
	switch {
	case e.Removed:
		body = "[message deleted]"
	case e.Kind != proto.Message:
		body = act(e)
	case e.Content.Kind == proto.Bin:
		body = fmt.Sprintf("[%d bytes]", len(e.Content.Body))
	}
	at := "-" // servers before version 0.2.0 send some deleted messages without a time
	if !e.At.IsZero() {
		at = e.At.Local().Format(timeLayout)
	}
	_, err := fmt.Fprintf(p.out, "%s%d %s %s: %s\n", p.label(e.Room), e.Seq, at, printable(name), printable(body))
	return err
}

// act describes an act, for example as "[muted bob until 2026-11-27 12:00:00: spam]".
func act(e *proto.Event) string {
	words := []string{string(e.Kind)}
	if e.Member != "" {
		words = append(words, e.Member)
	}
	if e.Of != 0 {
		words = append(words, strconv.FormatUint(e.Of, 10))
	}
	if !e.Until.IsZero() {
		words = append(words, "until", e.Until.Local().Format(timeLayout))
	}
	if e.Kind == proto.Slowed && e.Every == 0 {
		words = []string{"slow mode ended"}
	} else if e.Kind == proto.Slowed {
		words = append(words, "to one message in", e.Every.String())
	}
	why := ""
	if e.Kind == proto.Edited {
		why = ": " + string(e.Content.Body)
	}
	if e.Why != "" {
		why = ": " + e.Why
	}
	return "[" + strings.Join(words, " ") + why + "]"
}

func (p *printer) gap(room proto.Room, g *proto.Gap) error {
	if p.json {
		_, err := fmt.Fprintf(p.out, "%s\n", g.AppendJSON(nil))
		return err
	}
	what := fmt.Sprintf("%d to %d cannot be read any more (%s)", g.From, g.To, g.Reason)
	if g.Reason == proto.GapReset {
		what = "the room has lost its newest messages and begins again"
	}
	_, err := fmt.Fprintf(p.notes, "%s%s\n", p.label(room), what)
	return err
}

func (p *printer) label(room proto.Room) string {
	if !p.names {
		return ""
	}
	return room.String() + " "
}
