package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"roomcast/gateway/server"
	"roomcast/gateway/server/servertest"
	"roomcast/gateway/wire/wiretest"
)

const handshakeHead = "Upgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// ask sends one request over a connection. It reads the answer with its body.
func ask(t *testing.T, conn net.Conn, r *bufio.Reader, request string) (*http.Response, string) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%.40q: %v", request, err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// A connection that has served HTTP requests may still begin a session. The gateway treats the
// handshake and the bytes after it in the same way as on a new connection.
func TestHandshakeWorksOnAKeptConnection(t *testing.T) {
	for _, backend := range []string{"--portable=false", "--portable"} {
		t.Run(backend, func(t *testing.T) {
			base := servertest.Serve(t, "--listen", "0.0.0.0:0", "--conformance", backend)
			u, err := url.Parse(base)
			if err != nil {
				t.Fatal(err)
			}
			first := "GET /icon.svg HTTP/1.1\r\nHost: example.com\r\n\r\n"
			wiretest.RunHandshakes(t, wiretest.Target{Addr: "127.0.0.1:" + u.Port(), Path: "/echo", First: first})
		})
	}
}

// A handshake works after every kind of request that leaves the connection open, also over TLS.
func TestHandshakeWorksAfterEachRequest(t *testing.T) {
	lender := httptest.NewUnstartedServer(http.NotFoundHandler())
	lender.StartTLS()
	defer lender.Close()
	cert, key := certificateFiles(t, lender.TLS.Certificates[0])
	for _, flags := range [][]string{{"--portable=false"}, {"--portable"}, {"--https-cert", cert, "--https-key", key}} {
		base := servertest.Serve(t, flags...)
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		var conn net.Conn
		if u.Scheme == "https" {
			conn, err = tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true})
		} else {
			conn, err = net.Dial("tcp", u.Host)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		say := `{"text":"by HTTP"}`
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
			"HEAD /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
			"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n",
			fmt.Sprintf("POST /api/rooms/lobby/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(say), say),
			"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		} {
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			method, _, _ := strings.Cut(request, " ")
			resp, err := http.ReadResponse(r, &http.Request{Method: method})
			if err != nil || resp.Close {
				t.Fatalf("%.40q: got %v, %v, want a kept connection", request, resp, err)
			}
			if body, _ := io.ReadAll(resp.Body); method == "POST" && resp.StatusCode != 200 {
				t.Fatalf("got %s %s, want 200", resp.Status, body)
			}
		}
		// The first frame arrives together with the handshake.
		hello := append([]byte("GET /room/lobby/?since=0 HTTP/1.1\r\nHost: localhost\r\n"+handshakeHead+"\r\n"), 0x81, 0x82, 0, 0, 0, 0, 'h', 'i')
		if resp, body := ask(t, conn, r, string(hello)); resp.StatusCode != 101 {
			t.Fatalf("%v: got %s %s, want 101", flags, resp.Status, body)
		}
		for _, want := range []string{" by HTTP", " hi"} {
			frame := make([]byte, 2)
			if _, err := io.ReadFull(r, frame); err != nil {
				t.Fatal(err)
			}
			text := make([]byte, frame[1])
			if _, err := io.ReadFull(r, text); err != nil || !bytes.HasSuffix(text, []byte(want)) {
				t.Fatalf("%v: got %q, %v, want %q", flags, text, err, want)
			}
		}
	}
}

// certificateFiles writes the certificate of a test server and its key to two files, and returns
// their names.
func certificateFiles(t *testing.T, pair tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return servertest.File(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))),
		servertest.File(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// A connection that changes from HTTP to WebSocket still counts as one connection. After its end
// it no longer counts.
func TestKeptConnectionCountsOnce(t *testing.T) {
	base := servertest.Serve(t, "--max-connections", "1")
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		var conn net.Conn
		var r *bufio.Reader
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if conn, err = net.Dial("tcp", u.Host); err != nil {
				t.Fatal(err)
			}
			r = bufio.NewReader(conn)
			resp, body := ask(t, conn, r, "GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if resp.StatusCode == 200 {
				break
			}
			conn.Close() // the previous connection has not ended completely
			if time.Now().After(end) {
				t.Fatalf("got %s %s, want 200", resp.Status, body)
			}
		}
		if resp, body := ask(t, conn, r, "GET /room/lobby/ HTTP/1.1\r\nHost: localhost\r\n"+handshakeHead+"\r\n"); resp.StatusCode != 101 {
			t.Fatalf("got %s %s, want 101", resp.Status, body)
		}
		other, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		if resp, _ := ask(t, other, bufio.NewReader(other), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); resp.StatusCode != 503 {
			t.Errorf("a second connection got %s, want 503", resp.Status)
		}
		other.Close()
		conn.Close()
	}
}

// A page can connect through a proxy that reuses its connections to the gateway.
func TestHandshakeWorksThroughAPoolingProxy(t *testing.T) {
	base := servertest.Serve(t)
	target, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(httputil.NewSingleHostReverseProxy(target))
	defer front.Close()
	for range 3 {
		conn, _, err := websocket.Dial(t.Context(), strings.Replace(front.URL, "http", "ws", 1)+"/room/lobby/", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.CloseNow()
		if status, _ := servertest.Call(t, "GET", front.URL+"/room.js", ""); status != 200 {
			t.Errorf("got %d, want 200", status)
		}
	}
}

// A request that comes through a proxy on this machine does not count as local. The proxy or the
// client may have chosen the Host; this makes no difference.
func TestAPIThroughAProxyNeedsAToken(t *testing.T) {
	base := servertest.Serve(t)
	target, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{target.Host, "localhost", "chat.example.org"} {
		front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Host = host
		}})
		defer front.Close()
		for _, tt := range []struct {
			method, path string
			status       int
		}{
			{"POST", "/api/rooms/lobby/close", 401},
			{"POST", "/api/rooms/lobby/messages?from=ceo&name=CEO", 401},
			{"GET", "/api/rooms", 403},
			{"POST", "/api/revoke", 403},
			{"GET", "/api/rooms/lobby/messages", 200}, // guests may read
		} {
			if status, answer := servertest.Call(t, tt.method, front.URL+tt.path, `{"text":"x"}`, "Content-Type", "application/json"); status != tt.status {
				t.Errorf("%s as %s: got %d %s, want %d", tt.path, host, status, answer, tt.status)
			}
		}
		if status, _ := servertest.Call(t, "GET", front.URL+"/", ""); status != 200 {
			t.Errorf("the page as %s: got %d, want 200", host, status)
		}
	}
}

// A page may come from a host whose name points to this machine. The gateway accepts neither the
// page's requests nor its WebSocket. On a loopback address, it accepts only local names as Host.
func TestLoopbackListenerAcceptsOnlyLocalHosts(t *testing.T) {
	base := servertest.Serve(t, "--allow-origin", "https://Chat.example.org")
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host, more string
		ok         bool
	}{
		{u.Host, "", true},
		{"localhost", "", true},
		{"[::1]:8000", "", true},
		{"chat.example.org", "", true},
		{"chat.example.org:8443", "", true},
		{"evil.example:" + u.Port(), "", false},
		{"evil.example:" + u.Port(), "Origin: http://evil.example:" + u.Port() + "\r\n", false},
		{"127.0.0.1.evil.example", "", false},
		{"rooms.example.org", "X-Forwarded-For: 203.0.113.9\r\n", true}, // the request does not have the rights of a program on this machine
	} {
		for _, first := range []bool{true, false} {
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			if !first {
				ask(t, conn, r, "GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
			}
			resp, body := ask(t, conn, r, "GET /room/lobby/ HTTP/1.1\r\nHost: "+tt.host+"\r\n"+tt.more+handshakeHead+"\r\n")
			if (resp.StatusCode == 101) != tt.ok || !tt.ok && resp.StatusCode != 403 {
				t.Errorf("a handshake as %s, %q: got %s %s, want ok %v", tt.host, tt.more, resp.Status, body, tt.ok)
			}
		}
		for _, path := range []string{"", "room.js", "room/lobby/"} {
			name, value, _ := strings.Cut(strings.TrimSpace(tt.more), ": ")
			header := []string{"Host", tt.host, "Accept", "text/html", name, value}
			if status, answer := servertest.Call(t, "GET", base+path, "", header[:4+min(2, 2*len(name))]...); (status == 200) != tt.ok {
				t.Errorf("/%s as %s: got %d %.100s, want ok %v", path, tt.host, status, answer, tt.ok)
			}
		}
	}
}

// With --path-prefix, every path begins with the prefix.
func TestEveryPathIsBelowThePrefix(t *testing.T) {
	base := servertest.Serve(t, "--path-prefix", "/chat/one")
	root := strings.TrimSuffix(base, "chat/one/")
	if root == base {
		t.Fatalf("the banner says %s", base)
	}
	for _, tt := range []struct {
		path   string
		status int
		part   string
	}{
		{"chat/one/", 200, `src="./page.js"`},
		{"chat/one", 200, `src="./page.js"`}, // after a redirect
		{"chat/one/room.js", 200, "export"},
		{"chat/one/room/lobby/", 200, `src="./../../page.js"`},
		{"chat/one/room/lobby", 200, `src="./../page.js"`},
		{"chat/one/api/rooms", 200, `"rooms"`},
		{"", 404, "every path begins with /chat/one/"},
		{"room.js", 404, ""},
		{"chat/onetwo", 404, ""},
		{"api/rooms", 404, ""},
		{"room/lobby/", 404, ""},
	} {
		status, answer := servertest.Call(t, "GET", root+tt.path, "", "Accept", "text/html")
		if status != tt.status || !strings.Contains(answer, tt.part) {
			t.Errorf("/%s: got %d %.200s, want %d with %q", tt.path, status, answer, tt.status, tt.part)
		}
	}
	member := servertest.Join(t, base, "room/lobby/")
	servertest.Send(t, member, "below")
	servertest.Hear(t, member, " below")
	servertest.Join(t, base, "ws", "roomcast.v1")
	for _, path := range []string{"room/lobby/", "ws", "chat/room/lobby/", "chat/oneroom/lobby/"} {
		_, resp, err := websocket.Dial(t.Context(), strings.Replace(root, "http", "ws", 1)+path, nil)
		if err == nil || resp == nil || resp.StatusCode != 404 {
			t.Errorf("a handshake at /%s: got %v, want 404", path, err)
		}
	}
}

// Proxies check the gateway's health with OPTIONS, HEAD and GET, and in HTTP/1.0 without a Host.
func TestHealthChecksOfProxiesSucceed(t *testing.T) {
	base := servertest.Serve(t)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{"OPTIONS / HTTP/1.0\r\n\r\n", "HEAD / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"} {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode/100 != 2 {
			t.Errorf("%.20q: got %v, %v, want 2xx", request, resp, err)
		}
		conn.Close()
	}
}

// A proxy must close an idle connection before the gateway does. Otherwise it may send a request
// over a connection that the gateway has closed. So the gateway's default must be longer than
// Caddy's, which is 2 minutes.
func TestIdleConnectionIsClosedAfterHTTPIdleTime(t *testing.T) {
	if got := server.DefaultConfig().HTTPIdleTime; got <= 2*time.Minute {
		t.Errorf("by default connections are kept for %v, want more than 2m", got)
	}
	base := servertest.Serve(t, "--http-idle-time", "1s")
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	ask(t, conn, r, "GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
	begun := time.Now()
	if _, err := r.ReadByte(); err != io.EOF || time.Since(begun) < 900*time.Millisecond {
		t.Errorf("got %v after %v, want the end after 1s", err, time.Since(begun))
	}
}

// The flag --max-request-head bounds the cookies of a request.
func TestMaxRequestHeadBoundsCookies(t *testing.T) {
	for flag, want := range map[string]int{"16384": 14_000, "65536": 60_000, "4096": 3000} {
		base := servertest.Serve(t, "--max-request-head", flag)
		header := func(cookie int) http.Header { return http.Header{"Cookie": {strings.Repeat("x", cookie)}} }
		for _, first := range []bool{false, true} {
			conn, _, err := websocket.Dial(t.Context(), strings.Replace(base, "http", "ws", 1)+"room/lobby/", &websocket.DialOptions{HTTPHeader: header(want)})
			if err != nil {
				t.Fatalf("a cookie of %d bytes with %s, after a request %v: %v", want, flag, first, err)
			}
			conn.CloseNow()
			status, _ := servertest.Call(t, "GET", base, "", "Cookie", strings.Repeat("x", want))
			tooLong, _ := servertest.Call(t, "GET", base, "", "Cookie", strings.Repeat("x", want+15_000))
			if status != 200 || tooLong != 431 {
				t.Errorf("the page with cookies of %d and 15,000 more bytes: got %d and %d, want 200 and 431", want, status, tooLong)
			}
		}
	}
}
