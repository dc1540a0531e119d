package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"
	"github.com/synadia-io/orbit.go/natscontext"
)

// NATS contains the settings for connections to NATS. The flags and environment variables have
// the same names as in the nats command line tool. A flag overrides a variable, a variable
// overrides the context, and the context overrides the default.
type NATS struct {
	URL         string // URL of one server, or URLs of several servers separated by commas
	Context     string // name of a context of the nats tool, or the absolute path of the context's file
	Creds       string // path of a file
	NKey        string // path of a file
	User        string
	Password    string
	Token       string
	Cert        string // path of a file
	Key         string // path of a file
	CA          string // path of a file
	TLSFirst    bool
	InboxPrefix string
}

// Bind registers the flags for NATS.
func (n *NATS) Bind(flags *pflag.FlagSet) {
	flags.StringVarP(&n.URL, "nats", "s", n.URL, "connect to the NATS servers at these `URLs`, separated by commas")
	Env(flags, "nats", "NATS_URL")
	flags.StringVar(&n.Context, "context", n.Context, "connect with this `context` of the nats tool, a name or an absolute path")
	Env(flags, "context", "NATS_CONTEXT")
	flags.StringVar(&n.Creds, "creds", n.Creds, "authenticate to NATS with this credentials `file`")
	Env(flags, "creds", "NATS_CREDS")
	flags.StringVar(&n.NKey, "nkey", n.NKey, "authenticate to NATS with the nkey seed in this `file`")
	Env(flags, "nkey", "NATS_NKEY")
	flags.StringVar(&n.User, "user", n.User, "authenticate to NATS as this `user`")
	Env(flags, "user", "NATS_USER")
	flags.StringVar(&n.Password, "password", n.Password, "authenticate with this `password` of --user; other users of the machine can read flags, so prefer the variable")
	Env(flags, "password", "NATS_PASSWORD")
	flags.StringVar(&n.Token, "token", n.Token, "authenticate to NATS with this `token`; prefer the variable, as for --password")
	Env(flags, "token", "NATS_TOKEN")
	flags.StringVar(&n.Cert, "tlscert", n.Cert, "authenticate to NATS with the client certificate in this PEM `file`")
	Env(flags, "tlscert", "NATS_CERT")
	flags.StringVar(&n.Key, "tlskey", n.Key, "use the key in this PEM `file` with --tlscert")
	Env(flags, "tlskey", "NATS_KEY")
	flags.StringVar(&n.CA, "tlsca", n.CA, "trust NATS servers with a certificate from the authority in this PEM `file`")
	Env(flags, "tlsca", "NATS_CA")
	flags.BoolVar(&n.TLSFirst, "tlsfirst", n.TLSFirst, "start TLS before the NATS protocol")
	Env(flags, "tlsfirst", "NATS_TLSFIRST")
	flags.StringVar(&n.InboxPrefix, "inbox-prefix", n.InboxPrefix, "begin reply subjects with this `prefix`, if the account allows no other")
	Env(flags, "inbox-prefix", "NATS_INBOX_PREFIX")
}

// Given reports whether the settings say where NATS is.
func (n NATS) Given() bool { return n.URL != "" || n.Context != "" }

// String returns the address of NATS for logs. It removes passwords.
func (n NATS) String() string {
	if n.URL == "" && n.Context != "" {
		return "context " + n.Context
	}
	servers := strings.Split(n.URL, ",")
	for i, s := range servers {
		s = strings.TrimSpace(s)
		if at := strings.LastIndexByte(s, '@'); at >= 0 {
			scheme, _, ok := strings.Cut(s, "://")
			if s = s[at+1:]; ok {
				s = scheme + "://" + s
			}
		}
		servers[i] = s
	}
	return strings.Join(servers, ",")
}

// Check returns an error that names a wrong setting. It does not connect to NATS.
func (n NATS) Check() error {
	for _, f := range []struct{ flag, path string }{
		{"--creds", n.Creds}, {"--nkey", n.NKey}, {"--tlscert", n.Cert}, {"--tlskey", n.Key}, {"--tlsca", n.CA},
	} {
		if f.path == "" {
			continue
		}
		if _, err := os.ReadFile(f.path); err != nil {
			return fmt.Errorf("%s: %w", f.flag, err)
		}
	}
	switch {
	case (n.Cert == "") != (n.Key == ""):
		return errors.New("--tlscert and --tlskey must be given together")
	case n.Password != "" && n.User == "":
		return errors.New("--password needs --user")
	}
	if _, err := n.options(); err != nil {
		return err
	}
	return nil
}

// Dialer returns a function that opens connections. A connection reconnects for ever, and logs each
// time it is lost or restored. A lost connection does not buffer messages, because they would later
// arrive out of order.
func (n NATS) Dialer(log *slog.Logger) Dialer {
	return func(name string, more ...nats.Option) (*nats.Conn, error) {
		own, err := n.options()
		if err != nil {
			return nil, err
		}
		opts := append(Options(log, name), own...)
		opts = append(opts, more...)
		if n.Context == "" {
			return nats.Connect(n.URL, opts...)
		}
		path := n.Context
		if strings.ContainsRune(path, filepath.Separator) {
			if path, err = filepath.Abs(path); err != nil {
				return nil, fmt.Errorf("--context: %w", err)
			}
		}
		nc, _, err := natscontext.Connect(path, opts...)
		if err != nil {
			return nil, fmt.Errorf("context %s: %w", n.Context, err)
		}
		return nc, nil
	}
}

// Options returns the options that all connections of Roomcast have in common.
func Options(log *slog.Logger, name string) []nats.Option {
	log = log.With("conn", name)
	return []nats.Option{
		nats.Name(name),
		nats.Timeout(dialTime),
		nats.SetCustomDialer(newDialer()),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1),
		// With these two values, the client leaves a server that has been silent for 9 s.
		nats.PingInterval(3 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("nats connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("nats connection restored", "server", nc.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("nats reports an error", "error", err, "subject", subject)
		}),
	}
}

// options converts the settings to options of nats.go. If flags contain credentials, these
// replace the credentials of the context.
func (n NATS) options() ([]nats.Option, error) {
	var opts []nats.Option
	if n.Context != "" && n.URL != "" {
		opts = append(opts, func(o *nats.Options) error {
			o.Url, o.Servers = n.URL, strings.Split(n.URL, ",")
			return nil
		})
	}
	if n.Creds != "" || n.NKey != "" || n.User != "" || n.Token != "" {
		opts = append(opts, func(o *nats.Options) error {
			o.User, o.Password, o.Token, o.Nkey, o.UserJWT, o.SignatureCB = "", "", "", "", nil, nil
			return nil
		})
	}
	if n.Creds != "" {
		opts = append(opts, nats.UserCredentials(n.Creds))
	}
	if n.NKey != "" {
		nkey, err := nats.NkeyOptionFromSeed(n.NKey)
		if err != nil {
			return nil, fmt.Errorf("--nkey: %s: %w", n.NKey, err)
		}
		opts = append(opts, nkey)
	}
	if n.User != "" {
		opts = append(opts, nats.UserInfo(n.User, n.Password))
	}
	if n.Token != "" {
		opts = append(opts, nats.Token(n.Token))
	}
	if n.Cert != "" {
		opts = append(opts, nats.ClientCert(n.Cert, n.Key))
	}
	if n.CA != "" {
		opts = append(opts, nats.RootCAs(n.CA))
	}
	if n.TLSFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	if n.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(n.InboxPrefix))
	}
	return opts, nil
}
