package auth

import (
	"net/netip"
	"time"

	"roomcast/proto"
)

// CheckPeer refuses a credential from an address that has shown too many bad ones. Proxied
// says that a proxy passed the request on.
func (a *Auth) CheckPeer(peer netip.Addr, proxied bool, now time.Time) error {
	if !Counts(peer, proxied) {
		return nil
	}
	if wait := a.failures.Wait(peer, now); wait > 0 {
		return proto.Refuse(proto.RateLimited, "too many tokens from your address were refused; try again later").After(wait)
	}
	return nil
}

// CountFailure counts a token from an address, which Token or Check has refused with err. A
// token that has expired was good, and many clients of one address may have such.
func (a *Auth) CountFailure(peer netip.Addr, proxied bool, err error, now time.Time) {
	if Counts(peer, proxied) && CloseCode(err) == proto.CloseBadToken {
		a.failures.Add(peer, now)
	}
}

// Counts reports whether refused credentials count for an address. All clients of a proxy
// have its address; one that is near is not counted.
func Counts(peer netip.Addr, proxied bool) bool {
	peer = peer.Unmap()
	return peer.IsValid() && (!proxied || !peer.IsLoopback() && !peer.IsPrivate())
}
