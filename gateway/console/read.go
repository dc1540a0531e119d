package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"roomcast/proto"
)

func historyCommand() *cobra.Command {
	var t target
	var before uint64
	var limit int
	cmd := &cobra.Command{
		Use:   "history room",
		Short: "print a page of a room's log",
		Example: `  gateway history lobby
  gateway history --before 43 --limit 20 --json lobby`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: t.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			room, err := parseRoom(args[0])
			if err != nil {
				return err
			}
			c, err := t.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Join(cmd.Context(), room, proto.From{}); err != nil {
				return err
			}
			page, err := c.History(cmd.Context(), room, before, limit)
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
		},
	}
	t.bind(cmd)
	cmd.Flags().Uint64Var(&before, "before", 0, "print what stands before this `seq`; 0 = the newest page")
	cmd.Flags().IntVar(&limit, "limit", 50, "print at most this `number` of events")
	t.bindJSON(cmd)
	return cmd
}

func membersCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:               "members room",
		Short:             "list the members of a room",
		Example:           `  gateway members lobby`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: t.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			room, err := parseRoom(args[0])
			if err != nil {
				return err
			}
			var m proto.Members
			if err := t.call(cmd.Context(), http.MethodGet, []string{"rooms", room.String(), "members"}, nil, &m); err != nil {
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
		},
	}
	t.bind(cmd)
	t.bindJSON(cmd)
	return cmd
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
				if err := t.print(cmd, r, r.Room+"\t"+strconv.FormatInt(r.Messages, 10)); err != nil {
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

// print prints a value as JSON, or the line that stands for it.
func (t *target) print(cmd *cobra.Command, value any, line string) error {
	if t.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(value)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

// printable replaces what could steer a terminal, because anybody may have sent it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) || unicode.Is(unicode.M, r) {
			return r
		}
		return '�'
	}, s)
}
