package auth

import (
	"net/netip"
	"time"

	"roomcast/proto"
)

// CheckPeer refuses a credential from an address that has sent too many bad ones. Proxied says that
// a proxy passed the request on.
func (a *Auth) CheckPeer(peer netip.Addr, proxied bool, now time.Time) error {
	if !Counts(peer, proxied) {
		return nil
	}
	if wait := a.failures.Wait(peer, now); wait > 0 {
		return proto.Refuse(proto.RateLimited, "too many tokens from your address were refused; try again later").After(wait)
	}
	return nil
}

// CountFailure counts a credential from an address that was refused with err. It does not count
// expired tokens: they were good, and many clients of one address may send them.
func (a *Auth) CountFailure(peer netip.Addr, proxied bool, err error, now time.Time) {
	if Counts(peer, proxied) && CloseCode(err) == proto.CloseBadToken {
		a.failures.Add(peer, now)
	}
}

// Counts reports whether refused credentials count for an address. All clients of a proxy share its
// address, so a proxy on loopback or in a private network does not count.
func Counts(peer netip.Addr, proxied bool) bool {
	peer = peer.Unmap()
	return peer.IsValid() && (!proxied || !peer.IsLoopback() && !peer.IsPrivate())
}
