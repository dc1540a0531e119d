package loop

// FD returns a connection's descriptor.
func FD(l *Loop, id ID) int { return int(l.conns.get(id).fd) }
