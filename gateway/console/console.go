// Package console contains the commands for people at a terminal. With these commands, a person
// says something in a room, follows the room, reads its log and moderates it. The commands use a
// running gateway or NATS.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roomcast/gateway/client"
	"roomcast/proto"
	"roomcast/proto/daemon"
)

// target is the gateway or the NATS server to which a command connects, with the person's
// identity. The command owns it.
type target struct {
	url   string
	nats  daemon.NATS // used instead of url if it names servers
	token string
	name  string
	json  bool // print JSON lines

	resume string // resume string of a guest's session; "" = none
}

const (
	answerTime = 5 * time.Second  // for opening a session, and for one request to NATS with its answer
	callTime   = 10 * time.Second // for one request to the HTTP API; the gateway waits 8 s for the room's owner
)

// Commands returns the commands.
func Commands() []*cobra.Command {
	commands := []*cobra.Command{sayCommand(), tailCommand(), historyCommand(), membersCommand(), roomsCommand()}
	for i := range proto.Acts {
		commands = append(commands, actCommand(&proto.Acts[i]))
	}
	for _, cmd := range commands {
		daemon.NoEnv(cmd.Flags())
	}
	return commands
}

// bind adds the flags that all commands have.
func (t *target) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&t.url, "url", "http://127.0.0.1:8000", "talk to the gateway at this `URL`, with its path prefix")
	daemon.Env(flags, "url", "ROOMCAST_URL")
	flags.StringVar(&t.token, "token", "", "use this `token`: of a user, or of the API; prefer the variable, because other users of the machine can read flags")
	daemon.Env(flags, "token", "ROOMCAST_TOKEN")
	overNATS := pflag.NewFlagSet("", pflag.ContinueOnError)
	t.nats.Bind(overNATS)
	overNATS.VisitAll(func(f *pflag.Flag) {
		if f.Name != "token" {
			flags.AddFlag(f)
		}
	})
	flags.Lookup("nats").Usage = "talk to NATS at these `URLs` instead, as a backend does; --token is then that of NATS"
	flags.Lookup("context").Usage = "talk to NATS with this `context` of the nats tool, a name or an absolute path, instead of a gateway"
	for _, name := range []string{"nats", "context"} { // NATS_URL and NATS_CONTEXT may be set for other tools, so ignore them
		daemon.Env(flags, name, "")
	}
}

// inRoom completes a command whose first argument is a room.
func (t *target) inRoom(cmd *cobra.Command, run func(cmd *cobra.Command, room proto.Room, args []string) error) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return t.complete(cmd, args, typed)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		room, err := parseRoom(args[0])
		if err != nil {
			return err
		}
		return run(cmd, room, args[1:])
	}
	t.bind(cmd)
	return cmd
}

func (t *target) bindName(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.name, "name", "", "use this `name`, which others see; a name in the token replaces it")
}

func (t *target) bindJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&t.json, "json", false, "print JSON, one object a line")
}

// dial opens a session.
func (t *target) dial(ctx context.Context) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	token := func(context.Context) (string, error) { return t.token, nil }
	c, err := client.Dial(ctx, client.Config{URLs: []string{t.url}, Name: t.name, Token: token})
	var network *net.OpError
	switch {
	case err == nil:
		return c, nil
	case t.token == "" && errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &network):
		return nil, fmt.Errorf("--url %s: no answer within %s; a gateway that does not admit guests waits for a --token", t.url, answerTime)
	}
	return nil, fmt.Errorf("--url %s: %w", t.url, err)
}

// call sends a request to the HTTP API and decodes the answer into the given value.
func (t *target) call(ctx context.Context, method string, path []string, query url.Values, body io.Reader, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	base := t.url
	if rest, ok := strings.CutPrefix(base, "ws"); ok { // ws:// and wss://
		base = "http" + rest
	}
	u, err := url.JoinPath(base, append([]string{"api"}, path...)...)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	req.URL.RawQuery = query.Encode()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	if t.resume != "" {
		req.Header.Set("Roomcast-Resume", t.resume)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error *proto.Refusal  `json:"error"`
		OK    json.RawMessage `json:"ok"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("--url %s: the answer does not come from a Roomcast gateway: %s", t.url, resp.Status)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if answer.OK != nil {
		raw = answer.OK
	}
	return json.Unmarshal(raw, into)
}

// listed is an entry in the list of rooms.
type listed struct {
	Room     string `json:"room"`
	Messages uint64 `json:"messages"` // number of messages in the room's log
}

// rooms returns the rooms that have a log.
func (t *target) rooms(ctx context.Context) ([]listed, error) {
	if t.overNATS() {
		c, err := t.connect(ctx)
		if err != nil {
			return nil, err
		}
		defer c.close()
		return c.rooms(ctx)
	}
	var answer struct{ Rooms []listed }
	err := t.call(ctx, http.MethodGet, []string{"rooms"}, nil, nil, &answer)
	return answer.Rooms, err
}

// complete suggests the rooms whose names begin with the typed text.
func (t *target) complete(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	err := cmd.Root().PersistentPreRunE(cmd, nil) // this reads the environment, which cobra does not do for completions
	var rooms []listed
	if err == nil {
		rooms, err = t.rooms(cmd.Context())
	}
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, r := range rooms {
		if strings.HasPrefix(r.Room, typed) && !slices.Contains(args, r.Room) {
			names = append(names, r.Room)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// parseRoom parses the name of a room. If the name is not valid, the error contains it.
func parseRoom(name string) (proto.Room, error) {
	room, err := proto.ParseRoom(name)
	if err != nil {
		return room, fmt.Errorf("room %q: %w", name, err)
	}
	return room, nil
}
