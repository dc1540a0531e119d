package auth

import (
	"net/netip"
	"time"

	"roomcast/proto"
)

// CheckPeer returns a refusal if too many bad credentials have come from the address. The
// parameter proxied is true if the request came through a proxy.
func (a *Auth) CheckPeer(peer netip.Addr, proxied bool, now time.Time) error {
	if !Counts(peer, proxied) {
		return nil
	}
	if wait := a.failures.Wait(peer, now); wait > 0 {
		return proto.Refuse(proto.RateLimited, "too many tokens from your address were refused; try again later").After(wait)
	}
	return nil
}

// CountFailure counts a credential that was refused with err, for the address that sent it.
// Expired tokens do not count. They were valid before, and many clients with the same address may
// send them.
func (a *Auth) CountFailure(peer netip.Addr, proxied bool, err error, now time.Time) {
	if Counts(peer, proxied) && CloseCode(err) == proto.CloseBadToken {
		a.failures.Add(peer, now)
	}
}

// Counts reports whether refused credentials are counted for an address. All clients of a proxy
// have the proxy's address. So nothing is counted for a proxy on loopback or in a private
// network.
func Counts(peer netip.Addr, proxied bool) bool {
	peer = peer.Unmap()
	return peer.IsValid() && (!proxied || !peer.IsLoopback() && !peer.IsPrivate())
}
