//go:build !linux

package loop

import "net"

func listenNative(cfg Config) ([]*Loop, net.Addr, error) { return listenPortable(cfg) }
