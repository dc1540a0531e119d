package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"roomcast/gateway/auth"
	"roomcast/gateway/limit"
	"roomcast/gateway/session"
	"roomcast/gateway/wire"
	"roomcast/proto/daemon"
	"roomcast/proto/seal"
)

// Config says how a gateway runs. Start from DefaultConfig and set Dial and ID.
type Config struct {
	ID      string // unique among gateways: letters and digits
	Dial    daemon.Dialer
	Keys    *seal.Keys // nil = messages travel as they are
	Log     *slog.Logger
	Metrics prometheus.Registerer

	Listen   string // host:port
	Loops    int    // event loops, one per core if 0
	CertFile string // PEM; with KeyFile: HTTPS and wss only
	KeyFile  string
	Portable bool // goroutines instead of epoll

	MaxMessage               int           // bytes
	MaxConnections           int           // 0 = as many as there are file descriptors for
	Descriptors              int           // file descriptors that the process needs for more than a gateway
	MaxConnectionsPerAddress int           // 0 = no limit
	ConnectRate              int           // new connections a second, 0 = no limit
	Rate                     float64       // messages a second a connection, 0 = no limit
	Burst                    int           // messages at once
	Memory                   int64         // bytes held for members, see [limit.Use]
	MaxRooms                 int           // rooms that members are in; 0 = as many as Memory has room for
	Greeting                 string        // first frame of a text session, "" = none
	Conformance              bool          // offers /echo and verbatim rooms to protocol test suites
	Compress                 bool          // offers permessage-deflate
	LogMessages              bool          // a log line for every message
	DrainTime                time.Duration // over which a stop spreads the goodbyes
	PathPrefix               string        // such as /chat: everything is served below it; "" = at the root
	MaxRequestHead           int           // bytes of the head of an HTTP request or handshake
	PingInterval             time.Duration // a client that has been quiet this long is pinged
	HTTPIdleTime             time.Duration // a kept connection without a request is closed after this time
	APITokenFile             string        // "" = the HTTP API is for this machine only
	LocalAPI                 bool          // this machine may use the HTTP API where there is no token
	Auth                     auth.Config
	AllowQueryToken          bool // tokens in the URL, where proxies log them
	RequireToken             bool // nobody without one
}

// DefaultConfig returns what the flags default to.
func DefaultConfig() Config {
	return Config{
		Log:      slog.Default(),
		Listen:   ":8000",
		LocalAPI: true,

		MaxRequestHead: wire.MaxRequest,
		PingInterval:   25 * time.Second,
		// Above the time that usual proxies and load balancers keep a connection: 60 s
		// (nginx, ELB), 90 s (Traefik), 120 s (Caddy). The side that keeps it for a
		// shorter time must be the proxy, or it sends requests to a closed connection.
		HTTPIdleTime: 3 * time.Minute,

		MaxMessage: 64 << 10,
		Rate:       20,
		Burst:      40,
		Memory:     256 << 20,
		DrainTime:  10 * time.Second,
		Auth:       auth.DefaultConfig(),
	}
}

// Bind makes the flags.
func (c *Config) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&c.Listen, "listen", c.Listen, "serve pages, WebSockets and the HTTP API on this `address`")
	flags.StringVar(&c.PathPrefix, "path-prefix", c.PathPrefix, "serve everything below this `path`, such as /chat, for a proxy that passes it on; a proxy that removes it needs no flag")
	flags.StringVar(&c.CertFile, "https-cert", c.CertFile, "serve https and wss with this certificate, a PEM `file`, read again when it changes")
	flags.StringVar(&c.KeyFile, "https-key", c.KeyFile, "the key of --https-cert, a PEM `file`")
	flags.Float64Var(&c.Rate, "rate", c.Rate, "let a connection send this `number` of messages a second; 0 = no limit")
	flags.IntVar(&c.Burst, "burst", c.Burst, "let a connection send this `number` of messages at once")
	flags.IntVar(&c.MaxMessage, "max-message", c.MaxMessage, "take messages of up to so many `bytes`; longer ones close their connection with 1009")
	flags.IntVar(&c.MaxRequestHead, "max-request-head", c.MaxRequestHead, "take the head of a request or handshake, with its cookies, of up to this number of `bytes`")
	flags.DurationVar(&c.PingInterval, "ping-interval", c.PingInterval, "ping a client from which nothing has come for this `time`; choose less than the idle timeouts of proxies on the way")
	flags.DurationVar(&c.HTTPIdleTime, "http-idle-time", c.HTTPIdleTime, "close a plain HTTP connection without a request after this `time`; choose more than a proxy in front keeps it")
	flags.IntVar(&c.MaxConnections, "max-connections", c.MaxConnections, "serve at most this `number` of connections; 0 = as many as file descriptors allow: all but a quarter, or but 256 if that is less")
	flags.IntVar(&c.MaxConnectionsPerAddress, "max-connections-per-address", c.MaxConnectionsPerAddress, "serve at most this `number` of connections of one IP address (one /64 of IPv6); 0 = no limit, right behind a proxy")
	flags.IntVar(&c.ConnectRate, "connect-rate", c.ConnectRate, "let this `number` of connections in each second; 0 = no limit")
	flags.Int64Var(&c.Memory, "memory", c.Memory, "hold at most this number of `bytes` for members: pages of the log, queues, unfinished messages and requests, rooms; what would exceed it waits or is refused as overloaded")
	flags.IntVar(&c.MaxRooms, "max-rooms", c.MaxRooms, "let members be in this `number` of rooms at once, all members together; 0 = as many as half of --memory holds, 5 KiB each")
	flags.StringSliceVar(&c.Auth.AllowOrigins, "allow-origin", nil, "let pages of this `origin`, such as https://chat.example.org, connect; repeatable, exact; the same host and loopback are always let in")
	flags.StringVar(&c.Auth.KeyFile, "auth-key-file", c.Auth.KeyFile, "accept tokens (JWT) signed with the secret or for the PEM public key in this `file`")
	flags.BoolVar(&c.AllowQueryToken, "allow-query-token", c.AllowQueryToken, "accept tokens as ?token= too; danger: URLs end up in the logs of proxies")
	flags.BoolVar(&c.RequireToken, "require-token", c.RequireToken, "let in only who shows a token")
	flags.StringVar(&c.APITokenFile, "api-token-file", c.APITokenFile, "open the HTTP API to whoever shows the token in this `file`; without it the API answers only this machine, and only if --listen is loopback")
	flags.BoolVar(&c.LocalAPI, "local-api", c.LocalAPI, "without --api-token-file, --auth-key-file and --allow-origin, let programs of this machine use the HTTP API if --listen is loopback; false behind a proxy that does not send X-Forwarded-For")
	flags.StringVar(&c.Greeting, "greeting", c.Greeting, "send this `text` to every text session first")
	flags.DurationVar(&c.DrainTime, "drain-time", c.DrainTime, "when stopping, send connections away one after the other over this `time`; without --nats 1s unless given")
	flags.BoolVar(&c.Compress, "compress", c.Compress, "offer permessage-deflate: less traffic, more CPU")
	flags.BoolVar(&c.Conformance, "conformance", c.Conformance, "offer /echo and rooms without stamps and limits, for protocol test suites only")
	flags.BoolVar(&c.LogMessages, "log-messages", c.LogMessages, "log one line for every message: room, seq, sender and size, never the text")
	flags.IntVar(&c.Loops, "loops", c.Loops, "run this `number` of event loops; 0 = one for each core")
	flags.BoolVar(&c.Portable, "portable", c.Portable, "serve each connection with goroutines instead of epoll, as with https")
}

// Check says which setting is wrong, by the name of its flag, without listening.
func (c *Config) Check() error {
	for _, bad := range []struct {
		is   bool
		says string
	}{
		{c.MaxMessage < 1 || c.MaxMessage > 256<<10, "--max-message is 1 to 262144 bytes"},
		{!goodPrefix(c.PathPrefix), "--path-prefix is a path such as /chat: names of A-Z a-z 0-9 . _ ~ - behind slashes, without one at the end"},
		{c.MaxRequestHead < 4<<10 || c.MaxRequestHead > 128<<10, "--max-request-head is 4096 to 131072 bytes"},
		{c.PingInterval < time.Second || c.PingInterval > time.Hour, "--ping-interval is 1s to 1h"},
		{c.HTTPIdleTime < time.Second, "--http-idle-time is at least 1s"},
		{c.MaxConnections < 0, "--max-connections is not below 0"},
		{c.MaxConnectionsPerAddress < 0, "--max-connections-per-address is not below 0"},
		{c.ConnectRate < 0, "--connect-rate is not below 0"},
		{c.Rate < 0, "--rate is not below 0"},
		{c.Rate > 0 && c.Burst < 1, "--burst is at least 1"},
		{c.Memory < 8<<20, "--memory is at least 8388608 bytes"},
		{c.MaxRooms < 0, "--max-rooms is not below 0"},
		{c.DrainTime < 0, "--drain-time is not below 0"},
		{c.Loops < 0 || c.Loops > 16*runtime.NumCPU(), "--loops is 0 to 16 for each core"},
		{len(c.Greeting) > c.MaxMessage, "--greeting is longer than --max-message"},
		{(c.CertFile == "") != (c.KeyFile == ""), "--https-cert and --https-key are only of use together"},
		{c.AllowQueryToken && c.Auth.KeyFile == "", "--allow-query-token is of no use without --auth-key-file"},
		{c.RequireToken && c.Auth.KeyFile == "", "--require-token lets nobody in without --auth-key-file"},
	} {
		if bad.is {
			return errors.New(bad.says)
		}
	}
	if c.APITokenFile != "" {
		if _, err := readToken(c.APITokenFile); err != nil {
			return fmt.Errorf("--api-token-file: %w", err)
		}
	}
	if c.CertFile != "" {
		if _, err := newCertificate(c.CertFile, c.KeyFile, c.Log); err != nil {
			return err
		}
	}
	_, err := auth.New(make([]byte, 32), c.Auth)
	return err
}

var prefixPattern = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

func goodPrefix(prefix string) bool {
	return prefixPattern.MatchString(prefix) && path.Clean("/"+prefix) == "/"+strings.TrimPrefix(prefix, "/")
}

// conformancePending is how many bytes of one message may wait for the rest with
// --conformance: test suites send 16 MiB.
const conformancePending = 20 << 20

// sessions returns what the sessions of one loop go by. Name tells its connections
// from those of all others; the loops share the memory.
func (c *Config) sessions(name string, memory *limit.Budget) session.Config {
	s := session.DefaultConfig()
	s.MaxMessage, s.MaxRequest = c.MaxMessage, c.MaxRequestHead
	s.PathPrefix, s.PingAfter = c.PathPrefix, c.PingInterval
	s.Rate = limit.Rate{PerSecond: c.Rate, Burst: c.Burst}
	s.Greeting = c.Greeting
	s.QueryToken, s.RequireToken = c.AllowQueryToken, c.RequireToken
	s.Compress, s.Conformance = c.Compress, c.Conformance
	s.Log, s.Hub.Log = c.Log, c.Log
	s.Hub.Name = name
	s.Hub.Memory = memory
	return s
}

// readToken returns the token that a file holds, without the line's end.
func readToken(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	token := bytes.TrimSpace(b)
	if len(token) < 16 {
		return nil, fmt.Errorf("%s: a token of %d characters can be guessed, 16 or more are needed", path, len(token))
	}
	return token, nil
}
