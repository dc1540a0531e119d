//go:build linux

// Package rig runs Roomcast as real processes on this machine and injects the faults of a
// plan: kills, pauses, cut networks, full disks.
//
// As root, a rig runs in its own Linux namespaces (see [Enter]). Every process has a network
// address of its own, which can be cut off, and NATS has small disks, which can be filled. The rest
// of the machine does not see these addresses and disks, and they disappear with the rig. Without
// root, all processes use the loopback interface, at free ports.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"roomcast/scripts/torture/fault"
)

// Config describes the system to run.
type Config struct {
	Dir     string // existing directory for binaries, data and logs
	Mode    string // embedded, single or cluster
	Sync    string // always, or an interval such as 2m
	Carrier string // how messages go between gateway and room service in mode embedded: direct or nats
	Race    bool   // build with the race detector
	Disks   bool   // give NATS disks that can be filled and can lose power; needs root
	Clock   bool   // build the programs so that their clocks can be set wrong
}

// Rig is a running system. Its methods are safe for concurrent use.
type Rig struct {
	cfg    Config
	net    network
	all    []*Process
	byRole map[fault.Role][]*Process
	root   string // directory of the module
	token  string // file with the token of the HTTP API

	receiver receiver // receives the posts for applications

	// settings is locked while the log has edited settings, and during the faults that restore an
	// older state of the log. A copy of the edited log would keep the edited settings for the rest
	// of the run.
	settings sync.Mutex

	mu      sync.Mutex // guards crashes
	crashes []string
}

// New builds the binaries and starts the processes; [Rig.Ready] waits for them.
func New(ctx context.Context, cfg Config) (*Rig, error) {
	r := &Rig{cfg: cfg, byRole: map[fault.Role][]*Process{}, token: filepath.Join(cfg.Dir, "api-token")}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.token, []byte(Token+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write api token: %w", err)
	}
	if err := r.net.open(); err != nil {
		return nil, err
	}
	if err := r.openReceiver(); err != nil {
		return nil, err
	}
	if err := r.layout(); err != nil {
		return nil, err
	}
	for _, role := range []fault.Role{fault.NATS, fault.Service, fault.Gateway} {
		for _, p := range r.byRole[role] {
			if err := p.Start(); err != nil {
				return nil, errors.Join(err, r.Close())
			}
		}
	}
	return r, nil
}

// Token is the token for the HTTP API of every gateway of a rig, and is also used as every
// password.
const Token = "torture-token-that-is-no-secret"

// Gateways returns the URLs of the gateways.
func (r *Rig) Gateways() []string {
	var urls []string
	for _, p := range r.byRole[fault.Gateway] {
		urls = append(urls, "http://"+p.public)
	}
	return urls
}

// Servers returns the URLs of the NATS servers. They contain the name and the password of the user
// admin. In mode embedded, Servers returns none.
func (r *Rig) Servers() []string {
	var urls []string
	for _, p := range r.byRole[fault.NATS] {
		urls = append(urls, "nats://admin:"+Token+"@"+p.public)
	}
	return urls
}

// ServeLog returns the URLs of NATS servers that have the log. The URLs contain the name and the
// password of the user admin. In mode embedded it stops the gateway, and starts a NATS server that
// uses the gateway's data directory.
func (r *Rig) ServeLog(ctx context.Context) ([]string, error) {
	if urls := r.Servers(); len(urls) > 0 {
		return urls, nil
	}
	gateway := r.byRole[fault.Gateway][0]
	gateway.stop()
	p := &Process{Name: "reader", Role: fault.NATS, rig: r, log: filepath.Join(r.cfg.Dir, "reader.log"),
		path: filepath.Join(r.cfg.Dir, "bin", string(fault.NATS)), space: gateway.space, ip: gateway.ip}
	p.public, p.ops = p.addr(4222), p.addr(8223)
	path := filepath.Join(r.cfg.Dir, "reader.conf")
	p.args = []string{"-c", path}
	conf := fmt.Sprintf("listen: %q\nhttp: %q\njetstream { store_dir: %q }\naccounts { ROOMS { jetstream: enabled, users: [{ user: admin, password: %q }] } }\n",
		p.public, p.ops, gateway.data, Token)
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	r.all = slices.Insert(r.all, 0, p) // at the front, so that Close kills this process before it unmounts the disk
	r.byRole[fault.NATS] = append(r.byRole[fault.NATS], p)
	if err := p.Start(); err != nil {
		return nil, err
	}
	if err := p.ready(ctx); err != nil {
		return nil, fmt.Errorf("wait for the server that reads the log: %w; its log is %s", err, p.log)
	}
	return r.Servers(), nil
}

// Shape describes the running system, so that faults can be planned for it.
func (r *Rig) Shape() fault.Shape {
	s := fault.Shape{Processes: map[fault.Role]int{}, Root: r.net.own, Synced: r.cfg.Sync == "always"}
	for role, list := range r.byRole {
		s.Processes[role] = len(list)
		for _, p := range list {
			s.Disks = s.Disks || p.device != ""
		}
	}
	return s
}

// Ready waits until every process says that it is ready.
func (r *Rig) Ready(ctx context.Context) error {
	for _, p := range r.all {
		if err := p.ready(ctx); err != nil {
			return fmt.Errorf("wait for %s: %w; its log is %s", p.Name, err, p.log)
		}
	}
	return nil
}

// Crashes describes the processes that have ended although the rig did not ask them to.
func (r *Rig) Crashes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.crashes
}

func (r *Rig) crashed(p *Process, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crashes = append(r.crashes, fmt.Sprintf("%s ended by itself (%v); its log is %s", p.Name, err, p.log))
}

// Close kills all processes and unmounts their disks.
func (r *Rig) Close() error {
	var err error
	for _, p := range r.all {
		p.Kill()
		err = errors.Join(err, p.unmountDisk())
	}
	return err
}

// layout creates the processes, with their addresses and configuration.
func (r *Rig) layout() error {
	if r.cfg.Mode == "embedded" {
		return r.add(fault.Gateway, func(p *Process) []string {
			p.env = []string{r.trust()}
			return append(append(r.gatewayFlags(p), r.tellFlags()...), "--data-dir", p.data, "--sync", r.cfg.Sync,
				"--nats-monitor", p.addr(8222), "--history-per-room", keepAll, "--lease", "2s",
				"--carrier", r.cfg.Carrier)
		})
	}
	nodes, gateways := 1, 2
	if r.cfg.Mode == "cluster" {
		nodes, gateways = 3, 3
	}
	var clients, routes []string
	for range nodes {
		if err := r.add(fault.NATS, nil); err != nil {
			return err
		}
	}
	for _, p := range r.byRole[fault.NATS] {
		p.public = p.addr(4222)
		p.route = p.addr(6222)
		clients = append(clients, "nats://"+p.public)
		routes = append(routes, "nats-route://route:"+Token+"@"+p.route)
	}
	for _, p := range r.byRole[fault.NATS] {
		if err := r.natsConfig(p, routes); err != nil {
			return err
		}
	}
	urls := strings.Join(clients, ",")
	for range 2 {
		err := r.add(fault.Service, func(p *Process) []string {
			flags := append(login(p), r.tellFlags()...)
			p.env = append(p.env, r.trust())
			return append(flags, "--nats", urls, "--ops-listen", p.ops, "--replicas", strconv.Itoa(nodes),
				"--sync", r.cfg.Sync, "--history-per-room", keepAll, "--lease", "2s")
		})
		if err != nil {
			return err
		}
	}
	for range gateways {
		err := r.add(fault.Gateway, func(p *Process) []string {
			return append(append(r.gatewayFlags(p), login(p)...), "--nats", urls)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keepAll is a limit of messages per room that no run reaches, so that the stream removes no
// message of a room.
const keepAll = "100000000"

func (r *Rig) gatewayFlags(p *Process) []string {
	p.public = p.addr(8000)
	return []string{"--listen", p.public, "--ops-listen", p.ops, "--rate", "0",
		"--max-connections-per-address", "0", "--api-token-file", r.token, "--drain-time", "500ms"}
}

// add makes a process. The function args returns the arguments of the program; it may call the
// method addr of the process.
func (r *Rig) add(role fault.Role, args func(*Process) []string) error {
	n := len(r.byRole[role]) + 1
	name := fmt.Sprintf("%s%d", role, n)
	p := &Process{Name: name, Role: role, rig: r, log: filepath.Join(r.cfg.Dir, name+".log"), data: filepath.Join(r.cfg.Dir, name)}
	p.path = filepath.Join(r.cfg.Dir, "bin", string(role))
	if err := r.net.join(p); err != nil {
		return err
	}
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if r.cfg.Disks && r.net.own && (role == fault.NATS || r.cfg.Mode == "embedded") {
		if err := p.mountDisk(); err != nil {
			return err
		}
	}
	p.ops = p.addr(9090)
	if args != nil {
		p.args = args(p)
	}
	r.all = append(r.all, p)
	r.byRole[role] = append(r.byRole[role], p)
	return nil
}

// shipped and shippedCluster are the configuration files for NATS that Roomcast ships. They contain
// users and their permissions, the mapping of rooms to partitions, and the time after which a route
// counts as dead. Because the rig uses these files, a run fails if one of them lacks a permission
// or a setting.
const (
	shipped        = "nats.conf"
	shippedCluster = "nats-cluster.conf"
	shippedRoutes  = "0.0.0.0:6222" // where a server of the cluster listens for routes of the others
)

// natsConfig writes the configuration of a NATS server: the shipped configuration with the
// addresses of the rig.
func (r *Rig) natsConfig(p *Process, routes []string) error {
	base := shipped
	for _, name := range []string{shipped, shippedCluster} {
		b, err := os.ReadFile(filepath.Join(r.root, "scripts", name))
		if err != nil {
			return fmt.Errorf("read configuration: %w", err)
		}
		if name == shippedCluster {
			if len(routes) < 2 {
				break
			}
			if !bytes.Contains(b, []byte(shippedRoutes)) {
				return fmt.Errorf("read configuration: %s does not listen at %s", name, shippedRoutes)
			}
			b = bytes.ReplaceAll(b, []byte(shippedRoutes), []byte(strconv.Quote(p.route)))
			name = p.Name + "-" + name
			base = name
		}
		if err := os.WriteFile(filepath.Join(r.cfg.Dir, name), b, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	var own strings.Builder
	fmt.Fprintf(&own, "include %s\nlisten: %q\nhttp: %q\n", base, p.public, p.ops)
	fmt.Fprintf(&own, "jetstream { store_dir: %q, sync_interval: %s }\n", p.data, r.cfg.Sync)
	fmt.Fprintf(&own, "lame_duck_duration: 30s\nlame_duck_grace_period: 1s\n")
	path := filepath.Join(r.cfg.Dir, p.Name+".conf")
	p.args = []string{"-c", path}
	p.env = []string{"NATS_SERVER_NAME=" + p.Name, "NATS_GATEWAY_PASSWORD=" + Token,
		"NATS_ROOMSVC_PASSWORD=" + Token, "NATS_OPERATOR_PASSWORD=" + Token, "NATS_ADMIN_PASSWORD=" + Token,
		"NATS_ROUTE_PASSWORD=" + Token, "NATS_ROUTES=[" + strings.Join(routes, ", ") + "]"}
	if err := os.WriteFile(path, []byte(own.String()), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// login returns the flags with which a service logs in to NATS, and sets its password.
func login(p *Process) []string {
	p.env = []string{"NATS_PASSWORD=" + Token}
	inbox := map[fault.Role]string{fault.Gateway: "_INBOX_gw", fault.Service: "_INBOX_roomsvc"}
	return []string{"--user", string(p.Role), "--inbox-prefix", inbox[p.Role]}
}

// build compiles the programs of this module, and nats-server in the version of go.mod.
func (r *Rig) build(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	r.root = strings.TrimSpace(string(root))
	overlay := ""
	if r.cfg.Clock {
		if overlay, err = r.overlay(); err != nil {
			return err
		}
	}
	for role, pkg := range map[fault.Role]string{
		fault.Gateway: "roomcast/gateway", fault.Service: "roomcast/roomsvc", fault.NATS: "github.com/nats-io/nats-server/v2",
	} {
		args := []string{"build", "-o", filepath.Join(r.cfg.Dir, "bin", string(role))}
		if r.cfg.Race && role != fault.NATS {
			args = append(args, "-race")
		}
		if overlay != "" && role != fault.NATS {
			args = append(args, "-overlay", overlay)
		}
		if err := run(ctx, "go", append(args, pkg)...); err != nil {
			return fmt.Errorf("build %s: %w", role, err)
		}
	}
	return nil
}

// ready waits until the process says that it is ready.
func (p *Process) ready(ctx context.Context) error {
	path := "/readyz"
	if p.Role == fault.NATS {
		path = "/healthz?js-enabled-only=true"
	}
	probe := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ops+path, nil)
		if err != nil {
			return err
		}
		resp, err := probe.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// awaitStarted waits until the process is ready, at most for stopTime. If it is not ready by then,
// another fault delays it, and its end will not count as a crash.
func awaitStarted(ctx context.Context, p *Process) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	if p.ready(ctx) != nil {
		p.mayEnd()
	}
}

// freePort returns a port of the loopback interface at which nobody listens.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
