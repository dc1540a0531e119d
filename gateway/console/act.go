package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"roomcast/proto"
)

// purposes says what each act does, for its help.
var purposes = map[proto.Act]string{
	proto.ActClose:  "close a room: nobody can say anything there until it is reopened",
	proto.ActReopen: "open a closed room again",
	proto.ActKick:   "end a member's sessions in a room; the member may come back",
	proto.ActBan:    "end a member's sessions in a room and refuse it from then on",
	proto.ActUnban:  "end a ban",
	proto.ActMute:   "refuse a member's messages in a room",
	proto.ActUnmute: "end a mute",
	proto.ActSlow:   "let each member say only one message in a time such as 10s; 0 ends it",
	proto.ActDelete: "delete a message: later readers see a stub, and its bytes leave the log",
	proto.ActEdit:   "give a message of your own another text",
}

// actCommand returns the command for an act. The field that the act needs is its second argument.
func actCommand(rule *proto.ActRule) *cobra.Command {
	var t target
	var why, lasts string
	use, example := string(rule.Act)+" room", "  gateway "+string(rule.Act)+` --why "enough for today" lobby`
	count := 1
	switch rule.Needs {
	case "member":
		use, example, count = use+" id", example+" auth0:bob", 2
	case "seq":
		use, example, count = use+" seq", example+" 42", 2
	case "every":
		use, example, count = use+" time", example+" 10s", 2
	}
	if rule.Act == proto.ActEdit {
		use, example, count = use+" text", `  gateway edit lobby 42 "hello, all"`, 3
	}
	cmd := &cobra.Command{
		Use:     use,
		Short:   purposes[rule.Act],
		Example: example,
		Args:    cobra.ExactArgs(count),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return t.complete(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			room, err := parseRoom(args[0])
			if err != nil {
				return err
			}
			fields := map[string]any{}
			if why != "" {
				fields["why"] = why
			}
			switch rule.Needs {
			case "":
			case "seq":
				fields["seq"] = json.Number(args[1])
			default:
				fields[rule.Needs] = args[1]
			}
			if rule.Act == proto.ActEdit {
				fields["text"] = args[2]
			}
			if lasts != "" {
				fields["for"] = lasts
			}
			body, err := json.Marshal(fields)
			if err != nil {
				return err
			}
			var ok struct{ Seq uint64 }
			path := []string{"rooms", room.String(), string(rule.Act)}
			if err := t.call(cmd.Context(), http.MethodPost, path, bytes.NewReader(body), &ok); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), ok.Seq)
			return err
		},
	}
	t.bind(cmd)
	if rule.Act == proto.ActEdit {
		return cmd
	}
	cmd.Flags().StringVar(&why, "why", "", "tell the members this `reason`")
	if rule.Takes == "for" {
		cmd.Flags().StringVar(&lasts, "for", "", "let it end after this `time`, such as 10m or 24h; without it, it holds until it is undone")
	}
	return cmd
}
