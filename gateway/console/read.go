package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"roomcast/gateway/client"
	"roomcast/proto"
)

func historyCommand() *cobra.Command {
	var t target
	var before uint64
	var limit int
	cmd := t.inRoom(&cobra.Command{
		Use:   "history room",
		Short: "print a page of a room's log",
		Example: `  gateway history lobby
  gateway history --before 43 --limit 20 --json lobby
  gateway history --nats nats://127.0.0.1:4222 --creds operator.creds lobby`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, room proto.Room, _ []string) error {
		if limit < 1 {
			return fmt.Errorf("--limit: %d is not a whole number of at least 1", limit)
		}
		page, err := t.history(cmd.Context(), room, before, limit)
		if err != nil {
			return err
		}
		p := printer{out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), json: t.json}
		if err := p.page(room, page); err != nil {
			return err
		}
		if page.More && len(page.Events) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "there are more: --before %d\n", page.Events[0].Seq)
		}
		return nil
	})
	cmd.Flags().Uint64Var(&before, "before", 0, "print the events before this `seq`; 0 = the newest page")
	cmd.Flags().IntVar(&limit, "limit", 50, "print at most this `number` of events")
	t.bindJSON(cmd)
	return cmd
}

func (t *target) history(ctx context.Context, room proto.Room, before uint64, limit int) (page client.Page, err error) {
	if t.overNATS() {
		c, err := t.connect(ctx)
		if err != nil {
			return page, err
		}
		defer c.close()
		return c.history(ctx, room, before, limit)
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if before > 0 {
		query.Set("before", strconv.FormatUint(before, 10))
	}
	var p proto.Page
	if err := t.call(ctx, http.MethodGet, []string{"rooms", room.String(), "messages"}, query, nil, &p); err != nil {
		return page, err
	}
	page.Gap, page.More = p.Gap, p.More
	if p.Gap != nil {
		p.Gap.Room = room
	}
	for _, raw := range p.Events {
		e, err := proto.ParseEvent(raw)
		if err != nil {
			return page, fmt.Errorf("read event: %w", err)
		}
		page.Events = append(page.Events, e)
	}
	return page, nil
}

func membersCommand() *cobra.Command {
	var t target
	cmd := t.inRoom(&cobra.Command{
		Use:     "members room",
		Short:   "list the members of a room",
		Example: `  gateway members lobby`,
		Args:    cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, room proto.Room, _ []string) error {
		m, err := t.members(cmd.Context(), room)
		if err != nil {
			return err
		}
		for _, who := range m.List {
			if err := t.print(cmd, who, strings.TrimSpace(printable(who.ID)+"\t"+printable(who.Name))); err != nil {
				return err
			}
		}
		if m.More {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d members; the first %d are listed\n", m.Count, len(m.List))
		}
		return nil
	})
	t.bindJSON(cmd)
	return cmd
}

func (t *target) members(ctx context.Context, room proto.Room) (m proto.Members, err error) {
	if t.overNATS() {
		c, err := t.connect(ctx)
		if err != nil {
			return m, err
		}
		defer c.close()
		return c.members(ctx, room)
	}
	err = t.call(ctx, http.MethodGet, []string{"rooms", room.String(), "members"}, nil, nil, &m)
	return m, err
}

func roomsCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:     "rooms",
		Short:   "list the rooms that have a log, with the number of their messages",
		Example: `  gateway rooms --url https://chat.example.org`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rooms, err := t.rooms(cmd.Context())
			if err != nil {
				return err
			}
			for _, r := range rooms {
				if err := t.print(cmd, r, r.Room+"\t"+strconv.FormatUint(r.Messages, 10)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	t.bind(cmd)
	t.bindJSON(cmd)
	return cmd
}

// print prints a value as JSON, or prints the line.
func (t *target) print(cmd *cobra.Command, value any, line string) error {
	if t.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(value)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

// printable replaces characters that could control the terminal. It is needed because anybody
// may have sent the text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) || unicode.Is(unicode.M, r) {
			return r
		}
		return '�'
	}, s)
}
