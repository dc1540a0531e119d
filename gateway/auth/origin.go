package auth

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// ErrOrigin is wrapped by every error of CheckOrigin.
var ErrOrigin = errors.New("pages of this origin are not allowed here")

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
	if a.origins[key] || hostPort == withPort(strings.ToLower(host), strings.HasPrefix(key, "https:")) {
		return nil
	}
	if IsLoopback(hostPort) && IsLoopback(host) {
		return nil
	}
	return fmt.Errorf("%w; --allow-origin %s would allow it", ErrOrigin, key)
}

// IsLoopback reports whether host, with or without a port, names this machine.
func IsLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func parseOrigins(list []string) (map[string]bool, error) {
	origins := make(map[string]bool, len(list))
	for _, o := range list {
		key, _, err := splitOrigin(o)
		if err == nil && strings.Contains(o, "*") {
			err = errors.New("every origin must be listed, there are no wildcards")
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w; it looks like https://chat.example.org", o, err)
		}
		origins[key] = true
	}
	return origins, nil
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
