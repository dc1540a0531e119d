package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Times for a [Mover].
const (
	moverPause   = time.Second     // time between two rounds; in a round, the mover asks a question over each connection
	moverAnswer  = time.Second     // how long to wait for an answer
	moverMisses  = 2               // rounds without an answer after which the mover tries another server
	moverLongest = 2 * time.Second // the longest time between two attempts to move
)

// Mover moves connections away from a NATS server that is cut off from its peers or has lost
// JetStream. Such a server keeps its clients connected, but answers their requests with "no
// responders" or not at all. The mover moves a connection only if another server answers the
// mover's question. So no connection moves during an election of a leader, when no server can
// answer.
//
// Set the fields, and then call Run once. The connections still belong to the caller.
type Mover struct {
	Conns []*nats.Conn // the mover moves them one by one, in this order
	Name  string       // name of the connection with which the mover tries other servers
	Dial  Dialer
	// Works asks a question that only a server that works can answer.
	Works func(ctx context.Context, nc *nats.Conn) error
	Log   *slog.Logger
}

// Run watches the connections until ctx ends.
func (m *Mover) Run(ctx context.Context) {
	misses := make([]int, len(m.Conns))
	var next time.Time // time of the next attempt to move
	pause := moverPause
	for tick := time.NewTicker(moverPause); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		var lost []*nats.Conn
		for i, verdict := range m.ask(ctx) {
			switch verdict {
			case works:
				misses[i] = 0
			case useless:
				if misses[i]++; misses[i] >= moverMisses {
					lost = append(lost, m.Conns[i])
				}
			}
		}
		switch {
		case len(lost) == 0:
			pause = moverPause
		case time.Now().Before(next):
		case m.move(ctx, lost):
			clear(misses)
		default:
			next = time.Now().Add(pause)
			pause = min(2*pause, moverLongest)
		}
	}
}

type verdict int8

const (
	unknown verdict = iota // the cluster has only one server, there is no connection, or the answer is slow
	works
	useless
)

// ask asks a question over all connections at the same time.
func (m *Mover) ask(ctx context.Context) []verdict {
	verdicts := make([]verdict, len(m.Conns))
	var group sync.WaitGroup
	for i, nc := range m.Conns {
		if len(nc.Servers()) < 2 || !nc.IsConnected() {
			continue
		}
		group.Go(func() { verdicts[i] = m.judge(ctx, nc) })
	}
	group.Wait()
	return verdicts
}

func (m *Mover) judge(ctx context.Context, nc *nats.Conn) verdict {
	limited, cancel := context.WithTimeout(ctx, moverAnswer)
	defer cancel()
	before := nc.Stats().InMsgs
	if m.Works(limited, nc) == nil {
		return works
	}
	// The flush sends a ping after the question. If the server answers the ping, it has read the
	// question and cannot answer it. If the server sends nothing at all, it is cut off. If it sends
	// only other messages, it may just be slow.
	limited, cancel = context.WithTimeout(ctx, moverAnswer)
	defer cancel()
	if nc.FlushWithContext(limited) == nil || nc.Stats().InMsgs == before {
		return useless
	}
	return unknown
}

// move connects to another server. If that server works, move makes the lost connections leave
// their server. It reports whether any of them has left.
func (m *Mover) move(ctx context.Context, lost []*nats.Conn) bool {
	other := m.dialOther(lost)
	if other == nil {
		return false
	}
	defer other.Close()
	limited, cancel := context.WithTimeout(ctx, moverAnswer)
	defer cancel()
	if m.Works(limited, other) != nil {
		return false
	}
	moved := false
	for _, nc := range lost {
		server := nc.ConnectedServerName()
		if nc.ConnectedServerId() == other.ConnectedServerId() {
			continue
		}
		m.Log.Warn("leaving a nats server that does not answer", "conn", nc.Opts.Name, "server", server)
		if err := reconnect(ctx, nc, other.ConnectedServerId()); err != nil {
			m.Log.Warn("leave nats server", "conn", nc.Opts.Name, "error", err)
			continue
		}
		moved = true
	}
	return moved
}

// dialOther connects to a server that at least one of the lost connections does not use. If it
// finds no such server, it returns nil, and a later round tries again.
func (m *Mover) dialOther(lost []*nats.Conn) *nats.Conn {
	for range 2 * len(lost[0].Servers()) { // nats.go tries the servers in random order
		other, err := m.Dial(m.Name, nats.Timeout(moverAnswer), nats.NoReconnect(),
			nats.DisconnectErrHandler(func(*nats.Conn, error) {}))
		if err != nil {
			return nil
		}
		for _, nc := range lost {
			if nc.ConnectedServerId() != other.ConnectedServerId() {
				return other
			}
		}
		other.Close()
	}
	return nil
}

// reconnect makes nc connect to the other servers one after another, until it reaches the server
// with the given id. It gives up after it has tried every server, or if a server does not
// answer.
func reconnect(ctx context.Context, nc *nats.Conn, id string) error {
	for range nc.Servers() {
		connected := nc.StatusChanged(nats.CONNECTED)
		err := nc.ForceReconnect()
		if err == nil {
			select {
			case <-connected:
			case <-time.After(moverAnswer):
				err = nats.ErrTimeout
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		nc.RemoveStatusListener(connected)
		if err != nil || nc.ConnectedServerId() == id {
			return err
		}
	}
	return nil
}
