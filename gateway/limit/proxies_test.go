package limit

import (
	"net/netip"
	"strings"
	"testing"
)

func TestTheClientIsTheAddressBeforeTheTrustedProxies(t *testing.T) {
	ps, err := ParseProxies([]string{"10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48", "::ffff:172.16.0.0/108"})
	if err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat("10.0.0.1, ", 100) + "10.0.0.1"
	for name, tt := range map[string]struct{ peer, forwarded, want string }{
		"an untrusted peer":                      {"203.0.113.9", "198.51.100.1", "203.0.113.9"},
		"a trusted peer":                         {"10.0.0.1", "198.51.100.1", "198.51.100.1"},
		"no header":                              {"10.0.0.1", "", "10.0.0.1"},
		"the first untrusted entry, from behind": {"10.0.0.1", "1.1.1.1, 198.51.100.1, 10.9.9.9, 192.0.2.1", "198.51.100.1"},
		"a forged entry before it":               {"10.0.0.1", "10.0.0.2, 198.51.100.1", "198.51.100.1"},
		"only proxies":                           {"10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"},
		"a malformed last entry":                 {"10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"},
		"a malformed entry behind a good one":    {"10.0.0.1", "198.51.100.1, x, 10.0.0.7", "10.0.0.7"},
		"an empty entry":                         {"10.0.0.1", "198.51.100.1,, 10.0.0.7", "10.0.0.7"},
		"a port":                                 {"10.0.0.1", "198.51.100.1:4711", "198.51.100.1"},
		"IPv6":                                   {"10.0.0.1", "2001:db8::7", "2001:db8::7"},
		"IPv6 with brackets":                     {"10.0.0.1", "[2001:db8::7]", "2001:db8::7"},
		"IPv6 with a port":                       {"10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"},
		"IPv6 with a zone":                       {"10.0.0.1", "fe80::7%eth0", "fe80::7"},
		"IPv6 of a proxy":                        {"2001:db8:1:2::3", "198.51.100.1", "198.51.100.1"},
		"IPv4 in IPv6":                           {"::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"},
		"a network of IPv4 in IPv6":              {"172.17.0.1", "198.51.100.1", "198.51.100.1"},
		"beside it":                              {"172.32.0.1", "198.51.100.1", "172.32.0.1"},
		"too many entries":                       {"10.0.0.1", "198.51.100.1, " + many, "10.0.0.1"},
		"spaces and tabs":                        {"10.0.0.1", " \t198.51.100.1\t ", "198.51.100.1"},
	} {
		if got := ps.Client(netip.MustParseAddr(tt.peer), tt.forwarded); got != netip.MustParseAddr(tt.want) {
			t.Errorf("%s: got %v, want %s", name, got, tt.want)
		}
	}
	if got := Proxies(nil).Client(netip.MustParseAddr("127.0.0.1"), "198.51.100.1"); !got.IsLoopback() {
		t.Errorf("without proxies: got %v, want the peer", got)
	}
}

func TestBadNetworksAreRefused(t *testing.T) {
	for _, text := range []string{"", "10.0.0.0/33", "proxy.example", "10.0.0", "fe80::1%eth0", "fe80::%eth0/64", "::ffff:10.0.0.0/90", "10.0.0.0-10.0.0.9"} {
		if ps, err := ParseProxies([]string{text}); err == nil {
			t.Errorf("%q: got %v, want an error", text, ps)
		}
	}
}

// A connection from a proxy counts for the address of a client as soon as a request names this
// address.
func TestConnectionsOfProxiesCountForTheirClients(t *testing.T) {
	ps, _ := ParseProxies([]string{"10.0.0.1"})
	c := NewCaps(CapsConfig{PerAddress: 2, Total: 4, Proxies: ps})
	now := c.start
	proxy, ann, ben := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1")
	for i := range 4 {
		if r := c.Open(proxy, now); r != nil {
			t.Fatalf("connection %d of the proxy: %v", i, r)
		}
	}
	if c.Open(proxy, now) == nil {
		t.Fatal("the proxy has more connections than all may have")
	}
	for i, want := range []bool{true, true, false} {
		if r := c.OpenClient(ann); (r == nil) != want {
			t.Errorf("session %d of ann: got %v", i, r)
		}
	}
	if r := c.OpenClient(ben); r != nil {
		t.Errorf("another /64: got %v", r)
	}
	c.CloseForwarded(ann)
	if r := c.OpenClient(ann); r != nil {
		t.Errorf("after one session of ann has ended: got %v", r)
	}
	c.CloseForwarded(ann)
	c.CloseForwarded(ann)
	c.CloseForwarded(ben)
	if c.Count() != 0 {
		t.Errorf("got %d connections, want 0", c.Count())
	}
	for i := range c.shards {
		if n := len(c.shards[i].count); n != 0 {
			t.Errorf("%d addresses are still counted", n)
		}
	}
}
