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

	"roomcast/gateway/limit"
	"roomcast/proto/daemon"
)

// Every error of CheckOrigin wraps ErrOrigin.
var ErrOrigin = errors.New("pages of this origin are not allowed")

// Every error of CheckHost wraps ErrHost.
var ErrHost = errors.New("this gateway serves only its own machine and does not accept this Host")

// CheckHost returns an error if the Host of a request is not allowed. A listener on a loopback
// address accepts only names of loopback and the hosts in --allow-origin. Otherwise a page could
// make its own name point to this machine, and would look like a local page (DNS rebinding).
// CheckHost accepts every request through a proxy, because such a request does not get the rights
// of this machine.
func (a *Auth) CheckHost(host string, proxied bool) error {
	if !a.loopback || proxied || daemon.IsLoopback(host) || a.hosts[hostname(host)] {
		return nil
	}
	return fmt.Errorf("%w; set --allow-origin for this host, or use a proxy that sends X-Forwarded-For", ErrHost)
}

// Site is the address that a client has used in its request: the Host header, or what a trusted
// proxy says.
type Site struct {
	Scheme string // http or https; "" = that of the listener, or unknown because of a proxy
	Host   string // with or without a port
}

// Forwarded returns the site that a trusted proxy names in X-Forwarded-Proto and
// X-Forwarded-Host. If a header has several values, the last one counts, because the nearest
// proxy has added it.
func (s Site) Forwarded(scheme, host string) Site {
	if scheme = strings.ToLower(limit.Last(scheme)); scheme == "http" || scheme == "https" {
		s.Scheme = scheme
	}
	if host = limit.Last(host); host != "" {
		s.Host = host
	}
	return s
}

// CheckOrigin returns an error if a page with the given Origin header may not open a WebSocket to
// the site or call its API. Requests of any page carry the cookies of the browser's user and come
// from the user's place in the network. So only the origin distinguishes our page from a hostile
// one.
//
// CheckOrigin allows a request without an origin, because it does not come from a browser. It
// allows a page from the same host and port, and a page on loopback if the site is on loopback
// too. It also allows the origins in --allow-origin.
func (a *Auth) CheckOrigin(origin string, to Site) error {
	if origin == "" {
		return nil
	}
	key, hostPort, err := splitOrigin(origin)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOrigin, err)
	}
	if a.origins[key] || a.same(key, hostPort, to) || daemon.IsLoopback(hostPort) && daemon.IsLoopback(to.Host) {
		return nil
	}
	scheme, _, _ := strings.Cut(key, ":")
	key = strings.TrimSuffix(key, map[string]string{"http": ":80", "https": ":443"}[scheme]) // as browsers send it
	return fmt.Errorf("%w; the server's operator can allow them with --allow-origin %s", ErrOrigin, key)
}

// CookieCounts reports whether a cookie may authenticate a request from a page with this origin.
// A browser sends the cookie with the requests of every page. So the origin must be that of the
// gateway, with the same scheme, host and port, or be in --allow-origin. For other pages on
// loopback, CookieCounts makes no exception, unlike CheckOrigin.
func (a *Auth) CookieCounts(origin string, to Site) bool {
	key, hostPort, err := splitOrigin(origin)
	return err == nil && (a.origins[key] || a.same(key, hostPort, to))
}

// OwnPage reports whether a page with this origin comes from the gateway itself.
func (a *Auth) OwnPage(origin string, to Site) bool {
	key, hostPort, err := splitOrigin(origin)
	return err == nil && a.same(key, hostPort, to)
}

// same reports whether an origin in normal form is the site's own origin. If the gateway has no
// certificate, there may be a proxy that ends TLS. Then the scheme is unknown, unless a trusted
// proxy names it.
func (a *Auth) same(key, hostPort string, to Site) bool {
	scheme, _, _ := strings.Cut(key, ":")
	if to.Scheme == "" && a.https {
		to.Scheme = "https"
	}
	return hostPort != "" && hostPort == withPort(strings.ToLower(to.Host), scheme == "https") && (to.Scheme == "" || to.Scheme == scheme)
}

// parseOrigins returns the origins in the form that browsers send, and the host names in them.
func parseOrigins(list []string) (origins, hosts map[string]bool, err error) {
	origins, hosts = make(map[string]bool, len(list)), make(map[string]bool, len(list))
	for _, o := range list {
		key, hostPort, err := splitOrigin(toASCII(o))
		if err == nil && strings.Contains(o, "*") {
			err = errors.New("list every origin; there are no wildcards")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w; an origin looks like https://chat.example.org", o, err)
		}
		if origins[key] = true; hostPort != "" {
			hosts[hostname(hostPort)] = true
		}
	}
	return origins, hosts, nil
}

// toASCII returns an origin with its host in the form that browsers send: 聊天.example becomes
// xn--rss932g.example. In the standard library, only net/http has this conversion, and applies
// it when it writes a request. If an origin cannot be converted, toASCII returns it unchanged.
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

// splitOrigin returns an origin in normal form (lower case, with its port), and the origin's
// host:port. The origin of an installed app can have a scheme of its own, such as
// capacitor://localhost. Its host is not a host in the network, so hostPort is empty.
func splitOrigin(origin string) (key, hostPort string, err error) {
	if origin == "null" {
		return "", "", errors.New("null is the origin of files and of sandboxed frames")
	}
	u, err := url.Parse(origin)
	if err != nil {
		return "", "", errors.New("not a URL")
	}
	switch u.Scheme {
	case "", "ws", "wss", "file":
		return "", "", errors.New("not the scheme of a page")
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }) {
		return "", "", errors.New("not a host name")
	}
	if u.Hostname() == "" || u.User != nil || u.Path != "" || strings.ContainsAny(origin, "?#") {
		return "", "", errors.New("more than a scheme, a host and a port")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return u.Scheme + "://" + strings.ToLower(u.Host), "", nil
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
