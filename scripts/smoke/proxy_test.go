package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// proxy is a reverse proxy in front of a gateway.
type proxy struct {
	name    string
	program string
	args    []string // in them, CONF stands for the path of the configuration and DIR for its directory
	// conf is the configuration. In it, PORT stands for the port to listen on, and GATEWAY for the
	// gateway's host:port.
	conf string
	path string // the path at which the proxy serves the gateway, with slashes around it
	tls  bool
	// flags are further flags of the gateway.
	flags []string
}

var nginxArgs = []string{"-e", "stderr", "-p", "DIR", "-c", "CONF"}

// nginxConf returns the configuration for WebSocket from nginx's documentation, with an
// upstream and a location.
func nginxConf(upstream, location string) string {
	return `
daemon off; pid DIR/pid; worker_processes 1; USER
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream gateway { ` + upstream + ` }
  server {
    listen 127.0.0.1:PORT;
    ` + location + `
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`
}

// haproxyConf returns a configuration with the timeouts of Debian's haproxy.cfg and a health check
// of the gateway.
func haproxyConf(timeout, bind string) string {
	return `
global
  maxconn 200
defaults
  mode http
  option forwardfor
  timeout connect 5000
  timeout client  ` + timeout + `
  timeout server  ` + timeout + `
listen front
  bind 127.0.0.1:PORT` + bind + `
  http-reuse always
  option httpchk
  server gateway GATEWAY check inter 200ms
`
}

var proxies = []proxy{
	{
		name: "nginx", program: "nginx", args: nginxArgs,
		conf: nginxConf("server GATEWAY;", "location / { proxy_pass http://gateway;"),
	},
	{
		name: "nginx with keepalive", program: "nginx", args: nginxArgs,
		conf: nginxConf("server GATEWAY; keepalive 4;", "location / { proxy_pass http://gateway;"),
	},
	{
		name: "nginx that removes a path", program: "nginx", args: nginxArgs, path: "/chat/",
		conf: nginxConf("server GATEWAY; keepalive 4;", "location /chat/ { proxy_pass http://gateway/;"),
	},
	{
		name: "nginx that passes a path on", program: "nginx", args: nginxArgs, path: "/chat/", flags: []string{"--path-prefix", "/chat"},
		conf: nginxConf("server GATEWAY; keepalive 4;", "location /chat/ { proxy_pass http://gateway;"),
	},
	{
		name: "haproxy", program: "haproxy", args: []string{"-db", "-f", "CONF"},
		conf: haproxyConf("50000", ""),
	},
	{
		name: "haproxy with HTTP2", program: "haproxy", args: []string{"-db", "-f", "CONF"}, tls: true,
		conf: haproxyConf("50000", " ssl crt CERT alpn h2,http/1.1"),
	},
	{
		name: "apache2", program: "apache2", args: []string{"-d", "DIR", "-f", "CONF", "-DFOREGROUND"},
		conf: `
ServerName localhost
Listen 127.0.0.1:PORT
PidFile DIR/pid
DefaultRuntimeDir DIR
Mutex posixsem
ErrorLog /dev/stderr
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
ProxyPreserveHost On
ProxyPass "/" "http://GATEWAY/" upgrade=websocket
`,
	},
	{
		name: "caddy", program: "caddy", args: []string{"run", "--adapter", "caddyfile", "--config", "CONF"},
		conf: `
{
  admin off
  auto_https off
}
http://:PORT {
  bind 127.0.0.1
  reverse_proxy GATEWAY
}
`,
	},
}

// front starts the proxy in front of the gateway at base and returns its address.
func (p proxy) front(t *testing.T, base string) string {
	t.Helper()
	gateway, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(p.program)
	if err != nil {
		t.Fatalf("this test needs %s: scripts/check.sh installs it", p.program)
	}
	dir, port := t.TempDir(), freePort(t)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the workers of nginx must be able to read the directory of the test
	}
	fill := strings.NewReplacer("PORT", port, "GATEWAY", gateway.Host, "DIR", dir, "CONF", filepath.Join(dir, "conf"),
		"CERT", filepath.Join(dir, "cert.pem"), "USER", user)
	scheme := "http"
	if p.tls {
		scheme = "https"
		certify(t, filepath.Join(dir, "cert.pem"))
	}
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(fill.Replace(p.conf)), 0o644); err != nil {
		t.Fatal(err)
	}
	args := make([]string, len(p.args))
	for i, a := range p.args {
		args[i] = fill.Replace(a)
	}
	launch(t, nil, program, args...)
	return scheme + "://127.0.0.1:" + port + cmp.Or(p.path, "/")
}

// certify writes a certificate for 127.0.0.1 and its key to a file. The process of the tests trusts
// the certificate until the test ends.
func certify(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	pem.Encode(&file, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	pem.Encode(&file, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	before := http.DefaultTransport
	trusting := before.(*http.Transport).Clone()
	trusting.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	trusting.TLSClientConfig.RootCAs.AddCert(cert)
	http.DefaultTransport = trusting
	t.Cleanup(func() { http.DefaultTransport = before; trusting.CloseIdleConnections() })
}

func gatewayFor(t *testing.T, flags ...string) string {
	t.Helper()
	return start(t, nil, "gateway", append([]string{"--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--sync", "1s",
		"--nats-monitor", "off", "--ops-listen", "off", "--drain-time", "100ms"}, flags...)...).serves()
}

// Everything works through each proxy as it does without a proxy, with one exception. Programs on
// the gateway's own machine may use the HTTP API without a token, but not through a proxy.
func TestThroughProxies(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			front := p.front(t, gatewayFor(t, p.flags...))
			// Run the steps twice, because the second run uses connections that the proxy has kept
			// open.
			walked(t, front, front)
			walked(t, front, front)
			for _, host := range []string{"", "localhost"} {
				if got := status(t, "POST", front+"api/rooms/lobby/close", host); got != http.StatusUnauthorized {
					t.Errorf("closing a room without a token, as %q: got %d, want 401", host, got)
				}
			}
		})
	}
}

// status sends a request and returns the status of the answer. If host is not empty, it replaces
// the Host header.
func status(t *testing.T, method, url, host string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"why":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// nginx's proxy_pass without further lines sets the header Host to the gateway's address, and adds
// no header that marks the request as forwarded. But it uses HTTP/1.0. From that the gateway must
// conclude that the request does not come from a local program.
func TestPlainProxyPassOpensNothing(t *testing.T) {
	conf := nginxConf("server GATEWAY;", "location / { proxy_pass http://GATEWAY; } location /unused {")
	front := proxy{program: "nginx", args: nginxArgs, conf: conf}.front(t, gatewayFor(t))
	w := walk{one: front, two: front}
	if err := w.up(t.Context(), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"", "localhost", "chat.example.org"} {
		if got := status(t, "POST", front+"api/rooms/lobby/close", host); got != http.StatusUnauthorized {
			t.Errorf("closing a room without a token, as %q: got %d, want 401", host, got)
		}
	}
}

// Pings keep an idle member connected through a proxy that closes idle connections. By default,
// the gateway pings every 25 s, and haproxy on Debian closes after 50 s.
func TestPingsKeepAnIdleMemberConnected(t *testing.T) {
	const timeout = 3 * time.Second
	conf := haproxyConf(fmt.Sprint(timeout.Milliseconds()), "")
	for interval, stays := range map[string]bool{"1s": true, "1h": false} {
		t.Run(interval, func(t *testing.T) {
			front := proxy{program: "haproxy", args: []string{"-db", "-f", "CONF"}, conf: conf}.front(t, gatewayFor(t, "--ping-interval", interval))
			w := walk{one: front, two: front}
			if err := w.up(t.Context(), 30*time.Second); err != nil {
				t.Fatal(err)
			}
			member, err := connect(t.Context(), front, "quiet", "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer member.leave()
			ctx, cancel := context.WithTimeout(t.Context(), 3*timeout)
			defer cancel()
			if frame, err := member.hear(ctx); (ctx.Err() != nil) != stays {
				t.Errorf("got %q, %v, want the connection to stay: %v", frame, err, stays)
			}
		})
	}
}
