package limit

import (
	"fmt"
	"net/netip"
	"strings"
)

// Proxies contains the networks of trusted proxies, whose X-Forwarded headers the gateway
// believes. It is immutable and safe for concurrent use. An empty Proxies trusts no peer.
type Proxies []netip.Prefix

// maxForwarded is how many entries of X-Forwarded-For are read, from the right.
const maxForwarded = 32

// ParseProxies reads networks such as 10.0.0.0/8. A single address means only this address.
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

// Trust reports whether the peer is a trusted proxy.
func (ps Proxies) Trust(peer netip.Addr) bool {
	peer = peer.Unmap().WithZone("")
	for _, p := range ps {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// Client returns the address of the client behind a trusted peer. It reads the header
// X-Forwarded-For from right to left, and stops at the first address that is not a trusted proxy.
// For example, with the trusted network 10.0.0.0/8, the client in "198.51.100.7, 203.0.113.5,
// 10.0.0.2" is 203.0.113.5. This client may have invented the address to the left of its own.
//
// A malformed entry also ends the search. Then the client is the entry to the right of it.
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

// parseForwarded reads one entry. Some proxies append a port, and put an IPv6 address in
// brackets.
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

// Last returns the last entry of a list with commas. In a forwarding header, this is the entry
// that the nearest proxy has appended.
func Last(list string) string {
	return strings.Trim(list[strings.LastIndexByte(list, ',')+1:], " \t")
}
