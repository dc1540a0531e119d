package wiretest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// HandshakeCase consists of a request and the status that the answer must have.
type HandshakeCase struct {
	Name    string
	Request string
	Status  int
}

// Handshakes returns the handshake cases. The server must accept WebSocket handshakes for the
// path.
func Handshakes(path string) []HandshakeCase {
	good := request(path, "")
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	plus := func(more string) string { return request(path, more) }
	const (
		key        = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		connection = "Connection: Upgrade\r\n"
		upgrade    = "Upgrade: websocket\r\n"
		host       = "Host: example.com\r\n"
		version    = "Sec-WebSocket-Version: 13\r\n"
	)
	return []HandshakeCase{
		{"as it should be", good, 101},
		{"lower case names", with("Sec-WebSocket-Key", "sec-websocket-key"), 101},
		{"upper case names", with("Upgrade: websocket", "UPGRADE: WEBSOCKET"), 101},
		{"no blank after the colons", strings.ReplaceAll(good, ": ", ":"), 101},
		{"many blanks after a colon", with("Upgrade: ", "Upgrade: \t  "), 101},
		{"a list of connection options", with(connection, "Connection: keep-alive, Upgrade\r\n"), 101},
		{"connection options in two headers", with(connection, "Connection: keep-alive\r\nConnection: upgrade\r\n"), 101},
		{"a list of protocols to upgrade to", with(upgrade, "Upgrade: h2c, websocket\r\n"), 101},
		{"a query", strings.Replace(good, path, path+"?a=b&c=%E4%BD%A0", 1), 101},
		{"a cookie", plus("Cookie: a=b; c=d\r\n"), 101},
		{"an unknown subprotocol", plus("Sec-WebSocket-Protocol: nothing.we.know\r\n"), 101},
		{"a subprotocol that is not ASCII", plus("Sec-WebSocket-Protocol: \xE4\xBD\xA0, \xFF\r\n"), 101},
		{"an unknown extension", plus("Sec-WebSocket-Extensions: x-unknown; a=b\r\n"), 101},
		{"a malformed extension", plus("Sec-WebSocket-Extensions: ;;=,\"\r\n"), 101},
		{"content of length 0", plus("Content-Length: 0\r\n"), 101},
		{"a head of almost 16 KiB", plus("X-Filler: " + strings.Repeat("x", 16_300-len(good)) + "\r\n"), 101},
		{"cookies of 14 KB", plus(strings.Repeat("Cookie: a="+strings.Repeat("x", 3500)+"\r\n", 4)), 101},
		{"the absolute form", strings.Replace(good, path, "http://example.com"+path, 1), 101},
		{"the absolute form of https", strings.Replace(good, path, "HTTPS://example.com:443"+path, 1), 101},

		{"no key", with(key, ""), 400},
		{"two keys", with(key, key+key), 400},
		{"an empty key", with(key, "Sec-WebSocket-Key: \r\n"), 400},
		{"a key of 15 bytes", with("dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAA"), 400},
		{"a key of 17 bytes", with("dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAAA="), 400},
		{"a key that is not base64", with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ!=="), 400},
		{"version 8", with(version, "Sec-WebSocket-Version: 8\r\n"), 426},
		{"version 12", with(version, "Sec-WebSocket-Version: 12\r\n"), 426},
		{"version 14", with(version, "Sec-WebSocket-Version: 14\r\n"), 426},
		{"version 013", with(version, "Sec-WebSocket-Version: 013\r\n"), 426},
		{"a list of versions", with(version, "Sec-WebSocket-Version: 8, 13\r\n"), 426},
		{"two versions", with(version, version+"Sec-WebSocket-Version: 8\r\n"), 426},
		{"no version", with(version, ""), 426},
		{"no Connection", with(connection, ""), 400},
		{"another connection option", with(connection, "Connection: close\r\n"), 400},
		{"almost Upgrade", with(connection, "Connection: Upgrades\r\n"), 400},
		{"no Host", with(host, ""), 400},
		{"two Hosts", with(host, host+"Host: evil.example\r\n"), 400},
		{"an empty Host", with(host, "Host: \r\n"), 400},
		{"a Host with a path", with(host, "Host: example.com/x\r\n"), 400},
		{"a Host with a user", with(host, "Host: me@example.com\r\n"), 400},
		{"HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), 400},
		{"HTTP/2.0", with("HTTP/1.1", "HTTP/2.0"), 400},
		{"POST", with("GET", "POST"), 405},
		{"get", with("GET", "get"), 400},
		{"a body", plus("Content-Length: 5\r\n"), 400},
		{"a chunked body", plus("Transfer-Encoding: chunked\r\n"), 400},
		{"two Origins", plus("Origin: http://example.com\r\nOrigin: http://evil.example\r\n"), 400},
		{"two Authorizations", plus("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"), 400},
		{"a malformed path", strings.Replace(good, path, path+"%zz", 1), 400},
		{"no path", strings.Replace(good, path+" ", "", 1), 400},
		{"a blank in the path", strings.Replace(good, path, path+" x", 1), 400},
		{"a folded header", plus("X-A: b\r\n c\r\n"), 400},
		{"a blank before a colon", plus("X-A : b\r\n"), 400},
		{"a header without a colon", plus("nonsense\r\n"), 400},
		{"a header without a name", plus(": b\r\n"), 400},
		{"NUL in a header", plus("X-A: b\x00c\r\n"), 400},
		{"a lone CR in a header", plus("X-A: b\rc\r\n"), 400},
		{"a lone LF in a header", plus("X-A: b\nc\r\n"), 400},
		{"the absolute form of another scheme", strings.Replace(good, path, "ftp://example.com"+path, 1), 400},
		{"the absolute form without a host", strings.Replace(good, path, "http://"+path, 1), 400},
		{"the absolute form with a user", strings.Replace(good, path, "http://me@example.com"+path, 1), 400},
		{"the absolute form without Host", strings.Replace(with(host, ""), path, "http://example.com"+path, 1), 400},
		{"a head over 16 KiB", plus("X-Filler: " + strings.Repeat("x", 16_400) + "\r\n"), 431},
		{"a head of 3,000 headers", plus(strings.Repeat("X-A: b\r\n", 3000)), 431},
		{"a head without an end", "GET / HTTP/1.1\r\nX-A: " + strings.Repeat("x", 24_000), 431},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		{"nothing of the kind", "\r\n\r\n", 400},
	}
}

// lenient lists the cases that net/http answers differently. It joins folded lines. It also waits
// for the end of a line, even if the line cannot begin an HTTP request.
var lenient = []string{"a folded header", "TLS"}

// RunHandshakes runs only the handshake cases of the suite.
func RunHandshakes(t *testing.T, target Target) {
	for _, c := range Handshakes(target.Path) {
		if target.First != "" && slices.Contains(lenient, c.Name) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			for _, chop := range chops {
				t.Run(chop.name, func(t *testing.T) { shake(t, target, c, chop.pieces) })
			}
		})
	}
}

// shake runs one handshake case. It sends a message together with the handshake.
func shake(t *testing.T, target Target, c HandshakeCase, chop func([]byte) [][]byte) {
	conn, err := net.Dial("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	if target.First != "" {
		io.WriteString(conn, target.First)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.Close {
			t.Fatalf("the request before the handshake: got %v, %v, want a kept connection", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	for _, piece := range chop(append([]byte(c.Request), text("at once")...)) {
		if _, err := conn.Write(piece); err != nil {
			break // the server has refused the handshake before its end
		}
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	malformed := target.First != "" && c.Status == http.StatusBadRequest // net/http answers with statuses of its own
	if resp.StatusCode != c.Status && !(malformed && resp.StatusCode > http.StatusBadRequest) {
		t.Fatalf("got %s, want %d", resp.Status, c.Status)
	}
	switch c.Status {
	case http.StatusSwitchingProtocols:
		const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // RFC 6455, 1.3
		if got := resp.Header.Get("Sec-WebSocket-Accept"); got != accept {
			t.Errorf("got Sec-WebSocket-Accept %q, want %q", got, accept)
		}
		for _, name := range []string{"Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} {
			if got := resp.Header.Values(name); len(got) > 0 {
				t.Errorf("got %s %q, want none", name, got)
			}
		}
		m, err := (&incoming{r: r}).next()
		if err != nil || !bytes.Equal(m.Payload, []byte("at once")) {
			t.Errorf("got %q, %v, want the message that was sent with the handshake", m.Payload, err)
		}
	case http.StatusUpgradeRequired:
		if got := resp.Header.Get("Sec-WebSocket-Version"); got != "13" {
			t.Errorf("got Sec-WebSocket-Version %q, want 13", got)
		}
	}
}
