package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"roomcast/proto/daemon"
)

// ErrOrigin is wrapped by every error of CheckOrigin.
var ErrOrigin = errors.New("pages of this origin are not allowed here")

// ErrHost is wrapped by every error of CheckHost.
var ErrHost = errors.New("this gateway is for its own machine and does not answer to this Host")

// CheckHost says whether a request may name the given host. A listener on loopback
// answers only to names of loopback and to hosts of --allow-origin: otherwise a page
// could let its own name point to this machine and pass for a page of it (DNS
// rebinding). A request that came through a proxy is exempt: it has no rights of
// this machine.
func (a *Auth) CheckHost(host string, proxied bool) error {
	if !a.loopback || proxied || daemon.IsLoopback(host) || a.hosts[hostname(host)] {
		return nil
	}
	return fmt.Errorf("%w; --allow-origin with this host would allow it, and so does a proxy that sends X-Forwarded-For", ErrHost)
}

// CheckOrigin says whether a page of the given Origin header may open a WebSocket or
// call the API at the given Host header. A browser sends the cookies and the network
// position of its user along with any page's request, so the origin is all that tells
// our page from another. Allowed are: no origin (not a browser), the same host and
// port, a page of this machine speaking to this machine, and exactly what
// --allow-origin lists.
func (a *Auth) CheckOrigin(origin, host string) error {
	if origin == "" {
		return nil
	}
	key, hostPort, err := splitOrigin(origin)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOrigin, err)
	}
	https := strings.HasPrefix(key, "https:")
	// Without a certificate of our own we do not know the scheme: a proxy may end TLS.
	same := hostPort == withPort(strings.ToLower(host), https) && (https || !a.https)
	if a.origins[key] || same || daemon.IsLoopback(hostPort) && daemon.IsLoopback(host) {
		return nil
	}
	return fmt.Errorf("%w; --allow-origin %s would allow it", ErrOrigin, key)
}

// parseOrigins returns the origins in the spelling of browsers, and their host names.
func parseOrigins(list []string) (origins, hosts map[string]bool, err error) {
	origins, hosts = make(map[string]bool, len(list)), make(map[string]bool, len(list))
	for _, o := range list {
		key, hostPort, err := splitOrigin(toASCII(o))
		if err == nil && strings.Contains(o, "*") {
			err = errors.New("every origin must be listed, there are no wildcards")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w; it looks like https://chat.example.org", o, err)
		}
		origins[key], hosts[hostname(hostPort)] = true, true
	}
	return origins, hosts, nil
}

// toASCII returns an origin whose host is spelt as browsers send it: 聊天.example is
// xn--rss932g.example. The standard library has that conversion only inside of
// net/http, which applies it when it writes a request. What has no such spelling is
// returned as it is.
func toASCII(origin string) string {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return origin
	}
	var head bytes.Buffer
	if err := (&http.Request{URL: u, Host: u.Host}).Write(&head); err != nil {
		return origin
	}
	r, err := http.ReadRequest(bufio.NewReader(&head))
	if err != nil || r.Host == "" {
		return origin
	}
	return strings.Replace(origin, u.Host, r.Host, 1)
}

// hostname returns a host in lower case and without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// splitOrigin returns an origin in one spelling (lower case, with its port) and its
// host:port.
func splitOrigin(origin string) (key, hostPort string, err error) {
	u, err := url.Parse(origin)
	if err != nil {
		return "", "", errors.New("not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", "", errors.New("neither http nor https")
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }) {
		return "", "", errors.New("not a host name")
	}
	if u.Hostname() == "" || u.User != nil || u.Path != "" || strings.ContainsAny(origin, "?#") {
		return "", "", errors.New("not just a scheme, a host and a port")
	}
	hostPort = withPort(strings.ToLower(u.Host), u.Scheme == "https")
	return u.Scheme + "://" + hostPort, hostPort, nil
}

func withPort(host string, tls bool) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if tls {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
