package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"roomcast/proto"
)

// actCommand returns the command for an act. If the act requires a field, the field is the
// command's second argument.
func actCommand(rule *proto.ActRule) *cobra.Command {
	var t target
	var why, lasts string
	use, example := string(rule.Act)+" room", "  gateway "+string(rule.Act)
	if !rule.Text {
		example += ` --why "enough for today"`
	}
	example += " lobby"
	count := 1
	switch rule.Needs {
	case "member":
		use, example, count = use+" id", example+" auth0:bob", 2
	case "seq":
		use, example, count = use+" seq", example+" 42", 2
	case "every":
		use, example, count = use+" time", example+" 10s", 2
	}
	if rule.Text {
		use, example, count = use+" text", example+` "hello, all"`, 3
	}
	cmd := t.inRoom(&cobra.Command{Use: use, Short: rule.Does, Example: example, Args: cobra.ExactArgs(count)},
		func(cmd *cobra.Command, room proto.Room, args []string) error {
			fields := map[string]any{}
			if why != "" {
				fields["why"] = why
			}
			switch rule.Needs {
			case "":
			case "seq":
				seq, err := strconv.ParseUint(args[0], 10, 53)
				if err != nil || seq == 0 {
					return fmt.Errorf("seq: %q is not a whole number of at least 1", args[0])
				}
				fields["seq"] = seq
			default:
				fields[rule.Needs] = args[0]
			}
			if rule.Text {
				fields["text"] = args[1]
			}
			if lasts != "" {
				fields["for"] = lasts
			}
			body, err := json.Marshal(fields)
			if err != nil {
				return err
			}
			seq, err := t.act(cmd.Context(), room, rule.Act, body)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), seq)
			return err
		})
	if rule.Text {
		return cmd
	}
	cmd.Flags().StringVar(&why, "why", "", "tell the members this `reason`")
	if rule.Takes == "for" {
		cmd.Flags().StringVar(&lasts, "for", "", "end after this `time`, such as 10m or 24h; without --for, it lasts until it is undone")
	}
	return cmd
}

// act carries out an act in the room. The parameter fields is a JSON object with the fields of
// the act. act returns the seq of the act's event.
func (t *target) act(ctx context.Context, room proto.Room, act proto.Act, fields []byte) (uint64, error) {
	if t.overNATS() {
		c, err := t.connect(ctx)
		if err != nil {
			return 0, err
		}
		defer c.close()
		return c.act(ctx, room, act, fields)
	}
	var ok struct{ Seq uint64 }
	err := t.call(ctx, http.MethodPost, []string{"rooms", room.String(), string(act)}, nil, bytes.NewReader(fields), &ok)
	return ok.Seq, err
}
