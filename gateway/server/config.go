package server

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"roomcast/gateway/auth"
	"roomcast/gateway/backend"
	"roomcast/gateway/bridge"
	"roomcast/gateway/limit"
	"roomcast/gateway/loop"
	"roomcast/gateway/session"
	"roomcast/gateway/wire"
	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/seal"
)

// Config contains the settings of a gateway. Begin with DefaultConfig, and set Dial and ID.
type Config struct {
	ID      string // different for each gateway; made of letters and digits
	Dial    daemon.Dialer
	Carrier bridge.Carrier // connects the gateway with the room service; nil = over NATS
	Keys    *seal.Keys     // keys that seal payloads; nil = payloads are not sealed
	Log     *slog.Logger
	Metrics prometheus.Registerer

	Listen   string // host:port
	Loops    int    // number of event loops; 0 = one for each core
	CertFile string // PEM file; if it and KeyFile are set, the gateway serves only https and wss
	KeyFile  string
	Portable bool // serve connections with goroutines instead of epoll

	MaxMessage               int           // the most bytes of one message
	MaxConnections           int           // 0 = as many as the file descriptors allow
	Descriptors              int           // number of file descriptors that other parts of the process need
	MaxConnectionsPerAddress int           // 0 = no limit
	ConnectRate              int           // new connections per second; 0 = no limit
	Rate                     float64       // messages per second from one connection; 0 = no limit
	Burst                    int           // messages that may arrive at once
	Memory                   int64         // the most bytes kept in memory for members, see [limit.Use]
	MaxRooms                 int           // the most rooms with members; 0 = as many as fit into half of Memory
	Greeting                 string        // first frame of a text session; "" = none
	Conformance              bool          // offer /echo and rooms without stamps, for protocol test suites
	Compress                 bool          // offer permessage-deflate
	LogMessages              bool          // write a log line for every message
	DrainTime                time.Duration // a gateway that stops spreads the closing of its sessions over this time
	PathPrefix               string        // such as /chat, in front of all paths; "" = none
	MaxRequestHead           int           // the most bytes of the head of an HTTP request or handshake
	PingInterval             time.Duration // the gateway sends a ping to a client that was silent for this time
	HTTPIdleTime             time.Duration // how long the gateway keeps a connection open between two HTTP requests
	APITokenFile             string        // "" = only programs on this machine may use the HTTP API
	LocalAPI                 bool          // let programs on this machine use the HTTP API without a token
	Auth                     auth.Config
	Ask                      backend.Config
	AuthCookie               string        // name of a cookie that may contain a token; "" = none
	AuthTime                 time.Duration // how long a client without rights has to send a token
	AllowQueryToken          bool          // accept tokens in URLs, although proxies log URLs
	TrustProxies             []string      // networks of proxies whose X-Forwarded headers the gateway believes
}

// DefaultConfig returns the default values of the flags.
func DefaultConfig() Config {
	return Config{
		Log:      slog.Default(),
		Listen:   "127.0.0.1:8000",
		LocalAPI: true,

		MaxRequestHead: wire.MaxRequest,
		PingInterval:   25 * time.Second,
		// The gateway must keep an idle connection longer than a proxy does. Otherwise the proxy
		// may send a request over a connection that the gateway has just closed. Proxies and load
		// balancers keep idle connections for 60 s (nginx, ELB), 90 s (Traefik) or 120 s (Caddy).
		HTTPIdleTime: 3 * time.Minute,

		MaxMessage: 64 << 10,
		Rate:       20,
		Burst:      40,
		Memory:     256 << 20,
		DrainTime:  10 * time.Second,
		AuthTime:   10 * time.Second,
		Auth:       auth.DefaultConfig(),
		Ask:        backend.DefaultConfig(),
	}
}

// Bind registers the flags.
func (c *Config) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&c.Listen, "listen", c.Listen, "serve the page, WebSockets and the HTTP API on this `address`; default 127.0.0.1:8000, with --nats :8000")
	flags.StringVar(&c.PathPrefix, "path-prefix", c.PathPrefix, "serve everything below this `path`, such as /chat, for a proxy that keeps the path; not needed if the proxy removes it")
	flags.StringVar(&c.CertFile, "https-cert", c.CertFile, "serve https and wss with the certificate in this PEM `file`; the file is read again when it changes")
	flags.StringVar(&c.KeyFile, "https-key", c.KeyFile, "use the key in this PEM `file` with --https-cert")
	flags.Float64Var(&c.Rate, "rate", c.Rate, "accept this `number` of messages a second from a connection, and from all connections of one user together; 0 = no limit")
	flags.IntVar(&c.Burst, "burst", c.Burst, "accept this `number` of messages at once from a connection, and from all connections of one user together")
	flags.IntVar(&c.MaxMessage, "max-message", c.MaxMessage, "set the maximum size of a message in `bytes`; a longer one is refused, and closes a text session with 1009")
	flags.IntVar(&c.MaxRequestHead, "max-request-head", c.MaxRequestHead, "set the maximum size in `bytes` of the head of a request or handshake, including cookies")
	flags.DurationVar(&c.PingInterval, "ping-interval", c.PingInterval, "ping a client after this `time` of silence; choose a shorter time than the idle timeouts of proxies on the way")
	flags.DurationVar(&c.HTTPIdleTime, "http-idle-time", c.HTTPIdleTime, "close an idle HTTP connection after this `time`; choose a longer time than that of the proxy in front")
	flags.IntVar(&c.MaxConnections, "max-connections", c.MaxConnections, "serve at most this `number` of connections; 0 = as many as the file descriptors allow, without a quarter of them (at most 256), which the rest of the process needs")
	flags.IntVar(&c.MaxConnectionsPerAddress, "max-connections-per-address", c.MaxConnectionsPerAddress, "serve at most this `number` of connections from one IP address (one /64 of IPv6); 0 = no limit; behind a proxy use it only with --trust-proxy")
	flags.IntVar(&c.ConnectRate, "connect-rate", c.ConnectRate, "accept this `number` of new connections a second; 0 = no limit")
	flags.Int64Var(&c.Memory, "memory", c.Memory, "use at most this number of `bytes` of memory for members (pages of the log, queues, unfinished messages and requests, rooms); when they are in use, requests wait or are refused as overloaded")
	flags.IntVar(&c.MaxRooms, "max-rooms", c.MaxRooms, "follow at most this `number` of rooms with members; 0 = as many as fit into half of --memory, at 5 KiB each")
	flags.StringSliceVar(&c.Auth.AllowOrigins, "allow-origin", nil, "accept connections from pages of this exact `origin`, such as https://chat.example.org; repeatable; pages of the same host, and of loopback on loopback, are always accepted")
	flags.StringSliceVar(&c.TrustProxies, "trust-proxy", nil, "believe X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host of proxies in this `network`, such as 10.0.0.0/8; repeatable; limits per address and log lines then use the clients' addresses")
	flags.StringSliceVar(&c.Auth.KeyFiles, "auth-key-file", nil, "accept JSON Web Tokens, checked with the secret, the PEM public key or the JWKS in this `file`, which is read again when it changes; repeatable; with acme=file, the ids of these tokens get the prefix acme:")
	flags.StringSliceVar(&c.Auth.JWKSURLs, "auth-jwks-url", nil, "accept JSON Web Tokens, checked with the JWKS at this https `url`, which is fetched every 5 minutes; repeatable; with acme=url, the ids of these tokens get the prefix acme:; needs --auth-audience")
	flags.StringSliceVar(&c.Auth.Issuers, "auth-issuer", nil, "accept only tokens with this `iss`; repeatable; acme=iss applies only to the keys named acme")
	flags.StringSliceVar(&c.Auth.Audiences, "auth-audience", nil, "accept only tokens for this `aud`; repeatable; acme=aud applies only to the keys named acme; any accepts all")
	flags.DurationVar(&c.Auth.MaxAge, "auth-max-age", c.Auth.MaxAge, "refuse tokens that live longer than this `time` from iat to exp; at most 720h, because revocations are kept for this time")
	flags.StringSliceVar(&c.Auth.Rights, "default-rights", c.Auth.Rights, "give tokens without the claim rooms these `rights`: read, say and moderate in all rooms, or team-*=read say; repeatable")
	flags.StringSliceVar(&c.Auth.GuestRights, "guest-rights", nil, "give clients without a token or ticket these `rights`; the default is --default-rights, and nothing if tokens are accepted or --ask connect is set. Tickets do not change it: set it to the empty string if only clients with a ticket may enter")
	flags.StringVar(&c.AuthCookie, "auth-cookie", c.AuthCookie, "also accept a token in the cookie of this `name`, from pages of the same origin or of --allow-origin")
	flags.DurationVar(&c.AuthTime, "auth-timeout", c.AuthTime, "close a connection that needs a token but does not send one within this `time`")
	flags.BoolVar(&c.AllowQueryToken, "allow-query-token", c.AllowQueryToken, "also accept tokens as ?token=; danger: proxies write URLs to their logs")
	flags.StringSliceVar(&c.Ask.Ask, "ask", nil, "ask the application's backend these `questions`: connect, join, say; repeatable; by NATS request on room.ask.connect, room.ask.join and room.ask.say, or by --ask-url")
	flags.StringVar(&c.Ask.URL, "ask-url", c.Ask.URL, "post the questions of --ask as JSON to this https `url`")
	flags.StringVar(&c.Ask.CAFile, "ask-ca", c.Ask.CAFile, "accept a certificate of --ask-url only if an authority in this PEM `file` has signed it; default: the authorities that the system trusts")
	flags.BoolVar(&c.Ask.Insecure, "ask-insecure", c.Ask.Insecure, "let --ask-url be http on another machine; danger: questions carry cookies and messages")
	flags.StringVar(&c.Ask.SecretFile, "ask-secret-file", c.Ask.SecretFile, "sign the posts to --ask-url with the secret in this `file`, according to Standard Webhooks; if the file contains two secrets, both sign")
	flags.StringSliceVar(&c.Ask.Headers, "ask-header", nil, "send this `header` of a client's request to the backend, such as Cookie; repeatable; cookies are sent only for pages of the same origin or of --allow-origin")
	flags.DurationVar(&c.Ask.Timeout, "ask-timeout", c.Ask.Timeout, "wait this `time` for the backend's answer")
	flags.IntVar(&c.Ask.Inflight, "ask-inflight", c.Ask.Inflight, "ask at most this `number` of questions at a time; clients that cause further questions must try again later")
	flags.StringVar(&c.Ask.Fail, "ask-fail", c.Ask.Fail, "what to do if the backend does not answer: deny, or `allow`, which admits clients with the rights of their own token except moderate")
	flags.StringVar(&c.APITokenFile, "api-token-file", c.APITokenFile, "let clients with a token in this `file` use the HTTP API; the file is read again when it changes; each line has a name, a token and rights (read say moderate tickets revoke as admin), such as shop 0123456789abcdef read:shop-* as; a file with only one word is a token with all rights; without this flag the API serves only this machine, and only if --listen is loopback")
	flags.BoolVar(&c.LocalAPI, "local-api", c.LocalAPI, "serve the HTTP API to programs of this machine if --listen is loopback and none of --api-token-file, --auth-key-file, --auth-jwks-url, --ask, --allow-origin and --trust-proxy is set; set it to false behind a proxy that does not send X-Forwarded-For")
	flags.StringVar(&c.Greeting, "greeting", c.Greeting, "send this `text` as the first frame of every text session")
	flags.DurationVar(&c.DrainTime, "drain-time", c.DrainTime, "when stopping, spread the closing of connections over this `time`; without --nats the default is 1s")
	flags.BoolVar(&c.Compress, "compress", c.Compress, "offer permessage-deflate, which saves traffic and costs CPU")
	flags.BoolVar(&c.Conformance, "conformance", c.Conformance, "offer /echo and rooms without stamps and limits; only for protocol test suites")
	flags.BoolVar(&c.LogMessages, "log-messages", c.LogMessages, "write a log line for every message, with room, seq, sender and size, never with the text")
	flags.IntVar(&c.Loops, "loops", c.Loops, "run this `number` of event loops; 0 = one per core")
	flags.BoolVar(&c.Portable, "portable", c.Portable, "serve connections with goroutines instead of epoll, as https always does")
}

// Check returns an error if a setting is wrong. The error names the flag. Check does not open
// the listener.
func (c *Config) Check() error {
	var problems []error
	for _, bad := range []struct {
		is      bool
		message string
	}{
		{c.MaxMessage < 1 || c.MaxMessage > 256<<10, "--max-message must be 1 to 262144 bytes"},
		{!goodPrefix(c.PathPrefix), "--path-prefix must be a path such as /chat, of A-Z a-z 0-9 . _ ~ - and slashes, without a slash at the end"},
		{c.MaxRequestHead < 4<<10 || c.MaxRequestHead > 128<<10, "--max-request-head must be 4096 to 131072 bytes"},
		{c.PingInterval < time.Second || c.PingInterval > time.Hour, "--ping-interval must be 1s to 1h"},
		{c.HTTPIdleTime < time.Second, "--http-idle-time must be at least 1s"},
		{c.MaxConnections < 0, "--max-connections must not be negative"},
		{c.MaxConnectionsPerAddress < 0, "--max-connections-per-address must not be negative"},
		{c.ConnectRate < 0, "--connect-rate must not be negative"},
		{c.Rate < 0, "--rate must not be negative"},
		{c.Rate > 0 && c.Burst < 1, "--burst must be at least 1"},
		{c.Memory < 8<<20, "--memory must be at least 8388608 bytes"},
		{c.MaxRooms < 0, "--max-rooms must not be negative"},
		{c.DrainTime < 0, "--drain-time must not be negative"},
		{c.Loops < 0 || c.Loops > 16*runtime.NumCPU(), "--loops must be 0 to 16 per core"},
		{len(c.Greeting) > c.MaxMessage, "--greeting is longer than --max-message"},
		{(c.CertFile == "") != (c.KeyFile == ""), "--https-cert and --https-key must be given together"},
		{c.AllowQueryToken && !c.Auth.TakesTokens(), "--allow-query-token needs --auth-key-file or --auth-jwks-url"},
		{c.AuthCookie != "" && !c.Auth.TakesTokens(), "--auth-cookie needs --auth-key-file or --auth-jwks-url"},
		{c.Auth.MaxAge < time.Minute || c.Auth.MaxAge > proto.MaxCredential, "--auth-max-age must be 1m to 720h"},
		{c.AuthTime < time.Second || c.AuthTime > time.Minute, "--auth-timeout must be 1s to 1m"},
	} {
		if bad.is {
			problems = append(problems, errors.New(bad.message))
		}
	}
	if c.APITokenFile != "" {
		if _, err := auth.OpenAPITokens(c.APITokenFile, c.Log); err != nil {
			problems = append(problems, fmt.Errorf("--api-token-file: %w", err))
		}
	}
	if c.CertFile != "" && c.KeyFile != "" {
		if _, err := newCertificate(c.CertFile, c.KeyFile, c.Log); err != nil {
			problems = append(problems, err)
		}
	}
	if _, err := limit.ParseProxies(c.TrustProxies); err != nil {
		problems = append(problems, fmt.Errorf("--trust-proxy: %w", err))
	}
	_, err := auth.New(auth.NewSigningKeys(make([]byte, 32)), c.Auth)
	return errors.Join(append(problems, c.Ask.Check(), err)...)
}

// GuestRights returns the rights of clients without a credential, as values of the flag
// --guest-rights.
func (c *Config) GuestRights() []string {
	rights := c.Auth
	rights.Asked = c.Ask.Asks(backend.Connect)
	return rights.Guests()
}

var prefixPattern = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

func goodPrefix(prefix string) bool {
	return prefixPattern.MatchString(prefix) && path.Clean("/"+prefix) == "/"+strings.TrimPrefix(prefix, "/")
}

// conformancePending is the largest size of an incomplete message with --conformance, in bytes.
// Test suites send messages of 16 MiB.
const conformancePending = 20 << 20

// loops returns the configuration of the event loops, which share memory and gate.
func (c *Config) loops(memory *limit.Budget, gate loop.Gate) (loop.Config, error) {
	lc := loop.DefaultConfig()
	lc.Memory, lc.Gate = memory, gate
	lc.Address, lc.Loops, lc.Portable, lc.Log = c.Listen, c.Loops, c.Portable, c.Log
	// A connection's buffer may contain the bytes of two commands, and a frame between them.
	lc.MaxPending = max(lc.MaxPending, 2*proto.CommandBytes(c.MaxMessage)+64<<10)
	if c.Conformance {
		lc.MaxPending = conformancePending
	}
	if c.CertFile == "" {
		return lc, nil
	}
	pair, err := newCertificate(c.CertFile, c.KeyFile, c.Log)
	if err != nil {
		return lc, err
	}
	lc.TLS = pair.config()
	return lc, nil
}

// sessions returns the configuration for the sessions of one loop. The parameter name becomes a
// part of the sessions' ids, so it is different for each loop. All loops share memory.
func (c *Config) sessions(name string, memory *limit.Budget) session.Config {
	s := session.DefaultConfig()
	s.MaxMessage, s.MaxRequest = c.MaxMessage, c.MaxRequestHead
	s.PathPrefix, s.PingAfter = c.PathPrefix, c.PingInterval
	s.Rate = limit.Rate{PerSecond: c.Rate, Burst: c.Burst}
	s.Greeting = c.Greeting
	s.QueryToken, s.Cookie, s.AuthTime = c.AllowQueryToken, c.AuthCookie, c.AuthTime
	s.Compress, s.Conformance = c.Compress, c.Conformance
	s.Log, s.Hub.Log = c.Log, c.Log
	s.Hub.Name = name
	s.Hub.Memory = memory
	return s
}
