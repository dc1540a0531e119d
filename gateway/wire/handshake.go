package wire

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// handshake collects what the headers of a request say about a WebSocket handshake. The method
// check then decides whether the handshake is valid.
type handshake struct {
	upgrade    bool // the request asks for WebSocket
	connection bool // the header Connection contains Upgrade
	body       bool
	version    []byte

	// How many headers with these names the request has.
	hosts, keys, origins, authorizations int
}

// longestName is the length of the longest header name that the method take looks for.
const longestName = len("sec-websocket-extensions")

// take handles one header.
func (h *handshake) take(req *Request, name, value []byte) {
	var lower [longestName]byte
	for i, c := range name[:min(len(name), longestName)] {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	req.Proxied = req.Proxied || byProxy(string(lower[:min(len(name), longestName)]))
	if len(name) > longestName {
		return
	}
	switch string(lower[:len(name)]) {
	case "host":
		h.hosts++
		req.Host = value
	case "upgrade":
		h.upgrade = h.upgrade || hasToken(value, "websocket")
	case "connection":
		h.connection = h.connection || hasToken(value, "upgrade")
	case "content-length":
		h.body = h.body || string(value) != "0"
	case "transfer-encoding":
		h.body = true
	case "origin":
		h.origins++
		req.Origin = value
	case "sec-fetch-site":
		req.SameOrigin, req.CrossSite = string(value) == "same-origin", string(value) == "cross-site"
	case "last-event-id":
		req.LastEventID = value
	case "cookie":
		req.Cookie = join(req.Cookie, value, "; ")
	case "authorization":
		h.authorizations++
		req.Authorization = value
	case "roomcast-resume":
		req.Resume = value
	case "x-forwarded-for":
		req.ForwardedFor = join(req.ForwardedFor, value, ", ")
	case "x-forwarded-proto":
		req.ForwardedProto = join(req.ForwardedProto, value, ", ")
	case "x-forwarded-host":
		req.ForwardedHost = join(req.ForwardedHost, value, ", ")
	case "sec-websocket-key":
		h.keys++
		req.key = value
	case "sec-websocket-version":
		h.version = join(h.version, value, ", ")
	case "sec-websocket-protocol":
		req.protocols = join(req.protocols, value, ", ")
	case "sec-websocket-extensions":
		if !req.Deflate {
			req.Deflate, req.windowBits = deflateOffer(value)
		}
	}
}

// join appends another value of a header to the earlier values.
func join(list, value []byte, sep string) []byte {
	if list == nil {
		return value
	}
	return fmt.Appendf(nil, "%s%s%s", list, sep, value)
}

// byProxy reports whether a header with this name, in lower case, comes from a proxy.
func byProxy(name string) bool {
	return name == "forwarded" || name == "via" || name == "x-real-ip" || strings.HasPrefix(name, "x-forwarded-")
}

// Proxied reports whether the request came through a proxy. Either a header shows this, or the
// request uses HTTP/1.0. By default nginx uses HTTP/1.0 for its requests to servers, and
// browsers never do.
func Proxied(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) {
		return true
	}
	for name := range r.Header {
		if byProxy(strings.ToLower(name)) {
			return true
		}
	}
	return false
}

// WantsWebSocket reports whether a request asks for WebSocket. It uses the same rule as
// ParseRequest.
func WantsWebSocket(r *http.Request) bool {
	for _, v := range r.Header["Upgrade"] {
		if hasToken([]byte(v), "websocket") {
			return true
		}
	}
	return false
}

// AppendHead appends the head of a request that net/http has parsed. ParseRequest reads from the
// result what it would read from the original head.
func AppendHead(b []byte, r *http.Request) []byte {
	b = fmt.Appendf(b, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			b = fmt.Appendf(b, "%s: %s\r\n", name, v)
		}
	}
	if len(r.TransferEncoding) > 0 { // net/http removes this header from r.Header
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(b, "\r\n"...)
}

// check returns an error if the handshake violates RFC 6455, 4.2.1.
func (h *handshake) check(req *Request, method, version string) error {
	switch {
	case method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, "a WebSocket handshake is a GET")
	case version != "HTTP/1.1":
		return bad("a WebSocket handshake needs HTTP/1.1")
	case !h.connection:
		return bad("the Connection header must contain Upgrade")
	case string(h.version) != "13":
		return refuse(http.StatusUpgradeRequired, "Sec-WebSocket-Version must be 13")
	case h.keys != 1 || !validKey(req.key):
		return bad("exactly one Sec-WebSocket-Key of 16 bytes in base64 is needed")
	}
	return h.checkCommon(req)
}

// checkCommon returns an error if the request cannot begin a session of any kind.
func (h *handshake) checkCommon(req *Request) error {
	switch {
	case h.hosts != 1 || !validHost(req.Host):
		return bad("exactly one valid Host header is needed")
	case h.body:
		return bad("a request that begins a session has no body")
	case h.origins > 1:
		return bad("there is more than one Origin header")
	case h.authorizations > 1:
		return bad("there is more than one Authorization header")
	}
	if _, err := url.QueryUnescape(string(req.query)); err != nil {
		return bad("the query is malformed: " + err.Error())
	}
	return nil
}

func validHost(host []byte) bool {
	return len(host) > 0 && !bytes.ContainsFunc(host, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/\\@?#\"<>^`{|},", r)
	})
}

func validKey(key []byte) bool {
	var raw [18]byte
	if len(key) != 24 {
		return false
	}
	n, err := base64.StdEncoding.Decode(raw[:], key)
	return err == nil && n == 16
}

// Framing returns the framing of the session that the request begins. It is compressed only if both
// the client and the server want this.
func (r *Request) Framing(compress bool) Framing {
	if compress && r.Deflate {
		return Deflated
	}
	return Plain
}

// AppendAccept appends the answer with status 101. If protocol is not "", the answer selects
// this subprotocol. The parameter f is a result of [Request.Framing].
func (r *Request) AppendAccept(b []byte, protocol string, f Framing) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, 1.3
	var challenge [24 + len(guid)]byte
	copy(challenge[copy(challenge[:], r.key):], guid)
	sum := sha1.Sum(challenge[:])

	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if protocol != "" {
		b = append(append(b, "\r\nSec-WebSocket-Protocol: "...), protocol...)
	}
	if f == Deflated {
		b = append(b, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"...)
		if r.windowBits {
			b = append(b, "; server_max_window_bits=15"...)
		}
	}
	return append(b, "\r\n\r\n"...)
}

// appendOrigin appends the headers that let a page of another origin read the answer. It tells
// caches not to give the answer to pages of other origins.
func appendOrigin(b []byte, origin string) []byte {
	if origin == "" {
		return b
	}
	b = append(append(b, "Access-Control-Allow-Origin: "...), origin...)
	return append(b, "\r\nVary: Origin\r\n"...)
}

// AppendRefusal appends an answer that refuses the request. The connection ends after it.
func AppendRefusal(b []byte, r *Refusal) []byte {
	kind := "text/plain"
	if r.JSON {
		kind = "application/json"
	}
	b = fmt.Appendf(b, "HTTP/1.1 %d %s\r\nContent-Type: %s; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n",
		r.Status, http.StatusText(r.Status), kind, len(r.Reason)+1)
	b = appendOrigin(b, r.Origin)
	switch r.Status {
	case http.StatusUpgradeRequired:
		b = append(b, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"...)
	case http.StatusMethodNotAllowed:
		b = append(b, "Allow: GET\r\n"...)
	case http.StatusServiceUnavailable:
		b = append(b, "Retry-After: 1\r\n"...)
	}
	return fmt.Appendf(b, "\r\n%s\n", r.Reason)
}
