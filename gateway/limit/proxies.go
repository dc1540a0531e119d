package limit

import (
	"fmt"
	"net/netip"
	"strings"
)

// Proxies are the networks of proxies whose X-Forwarded headers are believed. They are
// immutable and safe for concurrent use; without any, no peer is believed.
type Proxies []netip.Prefix

// maxForwarded bounds the entries of X-Forwarded-For that count, from the right.
const maxForwarded = 32

// ParseProxies reads networks such as 10.0.0.0/8. An address stands for itself alone.
func ParseProxies(list []string) (Proxies, error) {
	var ps Proxies
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err == nil && p.Addr().Is4In6() {
			if p.Bits() < 96 {
				err = fmt.Errorf("write %s as a network of IPv4", text)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not a network such as 10.0.0.0/8: %w", text, err)
		}
		ps = append(ps, p.Masked())
	}
	return ps, nil
}

// Trust reports whether the peer is one of the proxies.
func (ps Proxies) Trust(peer netip.Addr) bool {
	peer = peer.Unmap().WithZone("")
	for _, p := range ps {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// Client returns the address of the client behind a trusted peer. It walks the header
// X-Forwarded-For from right to left and stops at the first address that is no proxy. A
// malformed entry ends the walk at the last good one, because nobody vouches for what stands
// before it.
func (ps Proxies) Client(peer netip.Addr, forwardedFor string) netip.Addr {
	client := peer.Unmap().WithZone("")
	for range maxForwarded {
		if !ps.Trust(client) {
			break
		}
		comma := strings.LastIndexByte(forwardedFor, ',')
		entry, err := parseForwarded(strings.Trim(forwardedFor[comma+1:], " \t"))
		if err != nil {
			break
		}
		if client = entry; comma < 0 {
			break
		}
		forwardedFor = forwardedFor[:comma]
	}
	return client
}

// parseForwarded reads one entry. Some proxies append the port, and put IPv6 in brackets.
func parseForwarded(entry string) (netip.Addr, error) {
	if inside, found := strings.CutPrefix(entry, "["); found {
		inside, closed := strings.CutSuffix(inside, "]")
		if closed {
			entry = inside
		}
	}
	a, err := netip.ParseAddr(entry)
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(entry); err == nil {
			a = ap.Addr()
		}
	}
	return a.Unmap().WithZone(""), err
}

// Last returns the last entry of a header that each proxy may have appended to.
func Last(list string) string {
	return strings.Trim(list[strings.LastIndexByte(list, ',')+1:], " \t")
}
