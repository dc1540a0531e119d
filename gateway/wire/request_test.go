package wire_test

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"strings"
	"testing"

	"roomcast/gateway/wire"
	"roomcast/gateway/wire/wiretest"
)

const upgrade = "GET /room/%E4%BD%A0%E5%A5%BD/?since=42&name=a%20b%26c&flag&since=1 HTTP/1.1\r\n" +
	"Host: example.com:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

func TestRequestGivesWhatSessionsNeed(t *testing.T) {
	head := upgrade + "Origin: https://example.com\r\nCookie: a=b\r\nCookie: c=d\r\n" +
		"authorization: Bearer x.y.z\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-For: 9.9.9.9\r\n" +
		"Sec-WebSocket-Protocol: roomcast.v1, ticket.abc\r\nSec-WebSocket-Protocol: other\r\n\r\n"
	buf := []byte(head + "\x81\x80and more")
	r, n, err := wire.ParseRequest(buf, wire.MaxRequest)
	if err != nil || n != len(head) || !r.Upgrade {
		t.Fatalf("got %d, %v, upgrade %v, want %d", n, err, r.Upgrade, len(head))
	}
	if string(buf) != head+"\x81\x80and more" {
		t.Fatal("ParseRequest has changed the buffer")
	}
	for _, tt := range []struct{ what, got, want string }{
		{"path", r.Path, "/room/你好/"},
		{"since", r.Query("since"), "42"},
		{"name", r.Query("name"), "a b&c"},
		{"flag", r.Query("flag"), ""},
		{"absent", r.Query("absent"), ""},
		{"host", string(r.Host), "example.com:8000"},
		{"origin", string(r.Origin), "https://example.com"},
		{"cookie", string(r.Cookie), "a=b; c=d"},
		{"authorization", string(r.Authorization), "Bearer x.y.z"},
		{"forwarded", string(r.ForwardedFor), "1.2.3.4, 5.6.7.8, 9.9.9.9"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	for protocol, want := range map[string]bool{"roomcast.v1": true, "ticket.abc": true, "other": true, "roomcast": false, "ROOMCAST.V1": false} {
		if got := r.Offers(protocol); got != want {
			t.Errorf("offers %s: got %v, want %v", protocol, got, want)
		}
	}
	accept := string(r.AppendAccept(nil, "roomcast.v1", wire.Plain))
	want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: roomcast.v1\r\n\r\n"
	if accept != want {
		t.Errorf("got %q, want %q", accept, want)
	}
}

func TestHostOfTheAbsoluteFormReplacesTheHostHeader(t *testing.T) {
	for target, want := range map[string][3]string{
		"/room/a/?since=1":                     {"example.com:8000", "/room/a/", "1"},
		"http://chat.example.org/room/a/":      {"chat.example.org", "/room/a/", ""},
		"HTTPS://h:443/room/%E5%90%97?since=7": {"h:443", "/room/吗", "7"},
		"http://h/room/a?b=c/d&since=2":        {"h", "/room/a", "2"},
		"http://h?since=3":                     {"h", "/", "3"},
		"http://h":                             {"h", "/", ""},
		"http://[::1]:8000/ws":                 {"[::1]:8000", "/ws", ""},
		"/http://h/ws":                         {"example.com:8000", "/http://h/ws", ""},
	} {
		_, rest, _ := strings.Cut(upgrade, "HTTP/1.1")
		r, _, err := wire.ParseRequest([]byte("GET "+target+" HTTP/1.1"+rest+"\r\n"), wire.MaxRequest)
		if got := [3]string{string(r.Host), r.Path, r.Query("since")}; err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", target, got, err, want)
		}
	}
}

// The test includes headers whose names are longer than longestName.
func TestEveryHeaderOfAProxyMarksTheRequest(t *testing.T) {
	for header, want := range map[string]bool{
		"X-Forwarded-For: 10.0.0.1": true, "x-forwarded-proto: https": true, "X-Real-IP: 10.0.0.1": true,
		"Via: 1.1 proxy": true, "FORWARDED: for=10.0.0.1": true, "X-Forwarded-Something-Long: a": true,
		"X-Forward: a": false, "Viaduct: a": false, "User-Agent: via": false,
	} {
		head := []byte(upgrade + header + "\r\n\r\n")
		r, _, err := wire.ParseRequest(head, wire.MaxRequest)
		if err != nil || r.Proxied != want {
			t.Errorf("%s: got %v, %v, want %v", header, r.Proxied, err, want)
		}
		std, err := http.ReadRequest(bufioReader(head))
		if err != nil || wire.Proxied(std) != want {
			t.Errorf("%s, net/http: got %v, %v, want %v", header, wire.Proxied(std), err, want)
		}
	}
}

func TestOtherRequestsAreForNetHTTP(t *testing.T) {
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /api/rooms/lobby/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		r, n, err := wire.ParseRequest([]byte(head+"body"), wire.MaxRequest)
		if r.Upgrade || n != len(head) || err != nil {
			t.Errorf("%.20q: got upgrade %v, %d, %v, want no upgrade, %d", head, r.Upgrade, n, err, len(head))
		}
	}
}

// The rows are the cases of RFC 7692, 7.1, that concern a server without context takeover.
func TestDeflateOffersAreAnswered(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, tt := range []struct{ offer, answer string }{
		{"permessage-deflate", plain},
		{"permessage-deflate; client_max_window_bits", plain},
		{"permessage-deflate; client_max_window_bits=15", plain},
		{"permessage-deflate; client_max_window_bits=8", plain},
		{`permessage-deflate; client_max_window_bits="10"`, plain},
		{"permessage-deflate; server_no_context_takeover", plain},
		{"permessage-deflate; client_no_context_takeover; server_no_context_takeover", plain},
		{"permessage-deflate; server_max_window_bits=15", plain + "; server_max_window_bits=15"},
		{"permessage-deflate; server_max_window_bits=10", ""}, // Go's deflate has a window of fixed size
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", plain},
		{"x-other; a=b, permessage-deflate", plain},
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=16", ""},
		{"permessage-deflate; server_max_window_bits=7", ""},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits=7", ""},
		{"permessage-deflate; server_no_context_takeover=1", ""},
		{"permessage-deflate; client_no_context_takeover=true", ""},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
		{"permessage-deflate; unknown", ""},
		{"permessage-deflate; unknown, permessage-deflate", plain},
		{"x-webkit-deflate-frame", ""},
		{"permessage-deflate; =", ""},
	} {
		r, _, err := wire.ParseRequest([]byte(upgrade+"Sec-WebSocket-Extensions: "+tt.offer+"\r\n\r\n"), wire.MaxRequest)
		if err != nil {
			t.Errorf("%s: %v", tt.offer, err)
			continue
		}
		resp, err := http.ReadResponse(bufioReader(r.AppendAccept(nil, "", r.Framing(true))), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != tt.answer {
			t.Errorf("%s: got %q, want %q", tt.offer, got, tt.answer)
		}
	}
}

func TestRefusalsAreReadable(t *testing.T) {
	for _, status := range []int{400, 405, 426, 431, 503} {
		resp, err := http.ReadResponse(bufioReader(wire.AppendRefusal(nil, &wire.Refusal{Status: status, Reason: "because"})), nil)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		body.ReadFrom(resp.Body)
		if resp.StatusCode != status || body.String() != "because\n" || !resp.Close {
			t.Errorf("got %s %q, close %v", resp.Status, &body, resp.Close)
		}
	}
}

// FuzzRequest checks that every error of the parser is a *Refusal, and that additional bytes do
// not change a result. If the parser accepts a handshake, net/http must accept the same bytes as
// a request.
func FuzzRequest(f *testing.F) {
	for _, c := range wiretest.Handshakes("/room/x/") {
		if len(c.Request) < 2000 {
			f.Add([]byte(c.Request))
		}
	}
	f.Add([]byte(strings.Replace(upgrade, "/room", "http://[::1]:80/room", 1) + "Via: x\r\n\r\n"))
	f.Add([]byte(upgrade + "Origin: null\r\nCookie: a\r\nCookie: b\r\nX-Forwarded-For: a\r\nSec-WebSocket-Extensions: permessage-deflate; a=\"b\"\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		r, n, err := wire.ParseRequest(data, wire.MaxRequest)
		if !bytes.Equal(before, data) {
			t.Fatal("the buffer has been changed")
		}
		var refusal *wire.Refusal
		if err != nil && !errors.As(err, &refusal) {
			t.Fatalf("got %T", err)
		}
		if n > len(data) || n > wire.MaxRequest || r.Upgrade && (n == 0 || err != nil) {
			t.Fatalf("got %d of %d bytes, upgrade %v, %v", n, len(data), r.Upgrade, err)
		}
		if n > 0 || err != nil {
			more, n2, err2 := wire.ParseRequest(append(data, "\x81\x85"...), wire.MaxRequest)
			if n2 != n || (err2 == nil) != (err == nil) || more.Upgrade != r.Upgrade {
				t.Fatalf("with more bytes: got %d, %v, want %d, %v", n2, err2, n, err)
			}
		}
		if !r.Upgrade {
			return
		}
		std, err := http.ReadRequest(bufioReader(data))
		if err != nil {
			t.Fatalf("net/http does not accept it: %v", err)
		}
		if path := cmp.Or(std.URL.Path, "/"); path != r.Path {
			t.Fatalf("got path %q, net/http %q", r.Path, std.URL.Path)
		}
		r.Query("since")
		r.Offers("roomcast.v1")
	})
}

func BenchmarkHandshake(b *testing.B) {
	head := []byte(upgrade + "Origin: https://example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Language: de,en\r\n\r\n")
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		r, _, err := wire.ParseRequest(head, wire.MaxRequest)
		if err != nil {
			b.Fatal(err)
		}
		out = r.AppendAccept(out[:0], "roomcast.v1", wire.Plain)
	}
}
