package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"roomcast/proto"
)

// DefaultURL is the default address of NATS.
const DefaultURL = nats.DefaultURL

// minAPI is the lowest JetStream API level that has atomic batches and keys that expire one by
// one. nats-server 2.12 has this level.
const minAPI = 2

// NewID returns a unique name for this process, made of lower-case letters and digits.
func NewID() string { return strings.ToLower(rand.Text()[:10]) }

// CheckNATS connects once, with the same options as the program. It writes what it finds to w,
// or returns an error that names the wrong setting. If imports is set, the program may use the
// JetStream of another account.
func CheckNATS(w io.Writer, n NATS, name string, imports bool, log *slog.Logger, opts ...nats.Option) error {
	nc, err := n.Dialer(log)(name, opts...)
	if err != nil {
		return fmt.Errorf("%s: %w", n.atFault(err), err)
	}
	defer nc.Close()
	fmt.Fprintf(w, "NATS at %s answers: server %s, version %s, round trip ", n, nc.ConnectedServerName(), nc.ConnectedServerVersion())
	if rtt, err := nc.RTT(); err == nil {
		fmt.Fprintf(w, "%v\n", rtt.Round(time.Microsecond))
	} else {
		fmt.Fprintf(w, "unknown\n")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	info, imported, err := accountInfo(ctx, nc, imports)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("the NATS server has no JetStream for this account; start it with -js, or with jetstream in its configuration")
	case err != nil:
		return fmt.Errorf("ask for JetStream: %w; is this user allowed to publish %sINFO or %sINFO, and to subscribe to %s.> (--inbox-prefix)?",
			err, proto.DirectAPI, proto.ImportedAPI, cmp.Or(n.InboxPrefix, nc.Opts.InboxPrefix))
	case info.API.Level < minAPI:
		return fmt.Errorf("the NATS server is too old: its JetStream API has level %d, %d is needed (nats-server 2.12 or newer)", info.API.Level, minAPI)
	}
	fmt.Fprintf(w, "JetStream answers: API level %d, %d streams\n", info.API.Level, info.Streams)
	if !imported && account(ctx, nc) == "$G" {
		fmt.Fprintln(w, "NATS has one account for all: everyone who can publish there is trusted; scripts/nats.conf separates accounts")
	}
	return nil
}

// accountInfo asks for information about JetStream. If imports is set, it first asks the
// JetStream of the other account.
func accountInfo(ctx context.Context, nc *nats.Conn, imports bool) (info *jetstream.AccountInfo, imported bool, err error) {
	if imports {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if info, err = jetStream(attempt, nc, proto.ImportedAPI); err == nil {
			return info, true, nil
		}
	}
	info, err = jetStream(ctx, nc, proto.DirectAPI)
	return info, false, err
}

func jetStream(ctx context.Context, nc *nats.Conn, api string) (*jetstream.AccountInfo, error) {
	js, err := jetstream.NewWithAPIPrefix(nc, api)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js.AccountInfo(ctx)
}

// account returns the name of nc's account, or "" if the server does not answer.
func account(ctx context.Context, nc *nats.Conn) string {
	m, err := nc.RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil)
	if err != nil {
		return ""
	}
	var info struct {
		Data struct {
			Account string `json:"account"`
		} `json:"data"`
	}
	if json.Unmarshal(m.Data, &info) != nil {
		return ""
	}
	return info.Data.Account
}

// atFault names the setting that is probably the cause of err.
func (n NATS) atFault(err error) string {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
		switch {
		case n.Creds != "":
			return "--creds " + n.Creds
		case n.NKey != "":
			return "--nkey " + n.NKey
		case n.User != "":
			return "--user and --password"
		case n.Token != "":
			return "--token"
		}
		return "NATS requires authentication; give --creds, --nkey, --user or --token"
	}
	if strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "x509:") {
		return "--tlsca, --tlscert, --tlskey"
	}
	if n.URL == "" {
		return "--context " + n.Context
	}
	return "--nats " + n.String()
}

// ReadyCommand returns the command "ready". The command asks a running process with the same
// settings whether it is ready, and is meant for health checks of containers. With --ops-listen
// off, nothing can be asked. Then the command calls the function otherwise. If otherwise is nil,
// the command prints "unknown" and succeeds.
func ReadyCommand(o *Ops, otherwise func(context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use:   "ready",
		Short: "ask the running service at --ops-listen whether it is ready",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Listen != "off" {
				return o.ask(cmd.Context(), cmd.OutOrStdout())
			}
			if otherwise == nil { // an error would make the container restart again and again
				fmt.Fprintln(cmd.OutOrStdout(), "unknown: --ops-listen is off")
				return nil
			}
			if err := otherwise(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return nil
		},
	}
}

func (o *Ops) ask(ctx context.Context, w io.Writer) error {
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("--ops-listen: %w", err)
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("--ops-listen: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("nothing answers at --ops-listen: %w", err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", strings.ReplaceAll(strings.TrimSpace(string(body)), "\n", "; "))
	}
	fmt.Fprintln(w, "ready")
	return nil
}
