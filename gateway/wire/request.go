package wire

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// MaxRequest is the default for the longest head of a request, in bytes.
const MaxRequest = 16 << 10

// Request is the head of an HTTP request. Its byte slices point into the buffer that was parsed.
// After the caller has reused this buffer, only Path may still be used.
type Request struct {
	// At most one of these two is set. If neither is set, net/http must answer the request.
	Upgrade bool    // the request is a valid WebSocket handshake
	Stream  *Stream // the stream that the request is for; nil = none

	Path  string // after percent-decoding
	query []byte // not decoded, without the question mark
	head  []byte // the lines of the headers

	Host          []byte
	Origin        []byte // nil = the request has none
	Cookie        []byte
	Authorization []byte
	Resume        []byte // value of the header Roomcast-Resume; nil = the request has none
	LastEventID   []byte // nil = the request has none
	SameOrigin    bool   // the browser says that the request comes from a page of the same origin
	CrossSite     bool   // the browser says that the request comes from a page of another site

	// All values of the X-Forwarded headers, joined by commas. The caller must ignore them if
	// the request does not come from a trusted proxy.
	ForwardedFor   []byte
	ForwardedProto []byte
	ForwardedHost  []byte
	Proxied        bool // the request came through a proxy, see [Proxied]

	Deflate bool // the client offers permessage-deflate in a form that this server accepts

	key        []byte
	protocols  []byte
	windowBits bool // the answer to the offer of permessage-deflate must name the server's window
}

// Refusal is an HTTP answer that refuses a request. It has a status and one line of text.
type Refusal struct {
	Status int
	Reason string
	JSON   bool   // Reason is JSON
	Origin string // pages of this origin may read the answer; "" = only pages of the server's own origin
}

func (r *Refusal) Error() string { return r.Reason }

func refuse(status int, reason string) error { return &Refusal{Status: status, Reason: reason} }

func bad(reason string) error { return refuse(http.StatusBadRequest, reason) }

// ParseRequest reads the head of a request at the beginning of buf and returns its length. If buf
// does not contain the whole head yet, the length is 0. The head may have at most limit bytes.
// Every error is a *Refusal. It says that the request is not valid HTTP, or that the handshake is
// not valid.
func ParseRequest(buf []byte, limit int) (req Request, n int, err error) {
	if len(buf) > 0 && (buf[0] < 'A' || buf[0] > 'Z') {
		return req, 0, bad("this is not HTTP")
	}
	end := bytes.Index(buf[:min(len(buf), limit)], []byte("\r\n\r\n"))
	if end < 0 {
		if len(buf) >= limit {
			return req, 0, refuse(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the request head is longer than %d bytes", limit))
		}
		return req, 0, nil
	}
	head := buf[:end+2] // all its lines, each with its line end
	n = end + 4
	line, head, _ := bytes.Cut(head, []byte("\r\n"))
	method, target, version, ok := requestLine(line)
	if !ok {
		return req, n, bad("the request line is malformed")
	}
	req.head = head
	var h handshake
	for len(head) > 0 {
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		name, value, ok := headerLine(line)
		if !ok {
			return req, n, bad("a header is malformed")
		}
		h.take(&req, name, value)
	}
	if h.upgrade {
		if req.Path, err = req.path(target); err == nil {
			err = h.check(&req, string(method), string(version))
		}
		req.Upgrade = err == nil
		return req, n, err
	}
	if path, pathErr := req.path(target); pathErr == nil && string(method) == http.MethodGet {
		if req.Stream = StreamOf(path); req.Stream != nil {
			req.Path = path
			req.Proxied = req.Proxied || string(version) != "HTTP/1.1" // see Proxied
			err = h.checkCommon(&req)
		}
	}
	return req, n, err
}

// path returns the decoded path of the request target, and stores the query.
func (r *Request) path(target []byte) (string, error) {
	target, err := originForm(r, target)
	if err != nil {
		return "", err
	}
	path, query, _ := bytes.Cut(target, []byte("?"))
	r.query = query
	decoded, err := url.PathUnescape(string(path))
	if err != nil || target[0] != '/' {
		return "", bad("the path is malformed")
	}
	return decoded, nil
}

// originForm returns the path and query of the request target. A target in absolute form, such as
// http://host/path, also contains a host. This host replaces the Host header (RFC 9112, 3.2.2).
func originForm(req *Request, target []byte) ([]byte, error) {
	scheme, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok || !bytes.EqualFold(scheme, []byte("http")) && !bytes.EqualFold(scheme, []byte("https")) {
		return target, nil
	}
	u, err := url.ParseRequestURI(string(target))
	if err != nil || u.User != nil || !validHost([]byte(u.Host)) {
		return nil, bad("the request target is malformed")
	}
	req.Host = []byte(u.Host)
	if start := bytes.IndexAny(rest, "/?"); start >= 0 && rest[start] == '/' {
		return rest[start:], nil
	}
	return []byte("/?" + u.RawQuery), nil
}

// requestLine divides a line such as "GET /path HTTP/1.1" into its parts.
func requestLine(line []byte) (method, target, version []byte, ok bool) {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ = bytes.Cut(rest, []byte(" "))
	ok = isToken(method) && len(target) > 0 && bytes.HasPrefix(version, []byte("HTTP/")) &&
		!bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7F }) &&
		bytes.IndexByte(version, ' ') < 0
	return method, target, version, ok
}

// headerLine divides "Name: value" into its parts and trims the value.
func headerLine(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte(":"))
	if !ok || !isToken(name) {
		return nil, nil, false // this also refuses a folded line, which begins with a blank
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7F {
			return nil, nil, false
		}
	}
	return name, bytes.Trim(value, " \t"), true
}

// isToken reports whether p is a token by the rules of RFC 9110.
func isToken(p []byte) bool {
	for _, c := range p {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return len(p) > 0
}

// hasToken reports whether a comma-separated list contains the token, in upper or lower case.
func hasToken(list []byte, token string) bool {
	for item := range bytes.SplitSeq(list, []byte(",")) {
		if strings.EqualFold(string(bytes.Trim(item, " \t")), token) {
			return true
		}
	}
	return false
}

// Header returns all values of a header, joined by the rules of RFC 9110 and RFC 6265. It
// returns "" if the header is missing. It searches the whole head.
func (r *Request) Header(name string) string {
	var list []byte
	for head := r.head; len(head) > 0; {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		if is, value, ok := headerLine(line); ok && strings.EqualFold(string(is), name) {
			sep := ", "
			if strings.EqualFold(name, "cookie") {
				sep = "; "
			}
			list = join(list, value, sep)
		}
	}
	return string(list)
}

// Query returns the first value of a query parameter, decoded. It returns "" if the parameter is
// missing.
func (r *Request) Query(name string) string {
	value, _ := r.Lookup(name)
	return value
}

// Queries returns all values of a query parameter, decoded.
func (r *Request) Queries(name string) (values []string) {
	for pair := range bytes.SplitSeq(r.query, []byte("&")) {
		key, value, _ := bytes.Cut(pair, []byte("="))
		if k, err := url.QueryUnescape(string(key)); err == nil && k == name {
			v, _ := url.QueryUnescape(string(value))
			values = append(values, v)
		}
	}
	return values
}

// Lookup is like Query, but also reports whether the query contains the parameter.
func (r *Request) Lookup(name string) (string, bool) {
	if values := r.Queries(name); len(values) > 0 {
		return values[0], true
	}
	return "", false
}

// Offered looks for the first offered subprotocol that begins with prefix, and returns the text
// after the prefix, which may be in upper or lower case. It returns false if there is no such
// subprotocol.
func (r *Request) Offered(prefix string) (rest string, offered bool) {
	for item := range bytes.SplitSeq(r.protocols, []byte(",")) {
		item = bytes.Trim(item, " \t")
		if n := len(prefix); len(item) >= n && strings.EqualFold(string(item[:n]), prefix) {
			return string(item[n:]), true
		}
	}
	return "", false
}

// Offers reports whether the client offers the subprotocol.
func (r *Request) Offers(protocol string) bool {
	for item := range bytes.SplitSeq(r.protocols, []byte(",")) {
		if string(bytes.Trim(item, " \t")) == protocol {
			return true
		}
	}
	return false
}
