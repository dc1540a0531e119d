package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Times of a [Mover].
const (
	moverPause   = time.Second     // between two rounds of questions
	moverAnswer  = time.Second     // limit for an answer
	moverMisses  = 2               // rounds without an answer before the mover tries another server
	moverLongest = 2 * time.Second // longest pause between two tries
)

// Mover moves connections away from a NATS server that is cut off from its peers or has no
// JetStream. Such a server keeps its clients, and answers them with "no responders" or not at
// all. The mover moves a connection only if another server answers its question. So no
// connection moves during an election, when no server answers.
//
// Set the fields, then call Run once. The caller still owns the connections.
type Mover struct {
	Conns []*nats.Conn // the mover moves them one by one, in this order
	Name  string       // of the connection that tries other servers
	Dial  Dialer
	// Works asks a question that only a working server can answer.
	Works func(ctx context.Context, nc *nats.Conn) error
	Log   *slog.Logger
}

// Run watches the connections until ctx ends.
func (m *Mover) Run(ctx context.Context) {
	misses := make([]int, len(m.Conns))
	var next time.Time // of the next try
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
	unknown verdict = iota // one server only, no connection, or a slow answer
	works
	useless
)

// ask asks over all connections at once.
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
	// The server has read the question if it answers a later ping. If it sends other messages
	// instead, it is only slow.
	limited, cancel = context.WithTimeout(ctx, moverAnswer)
	defer cancel()
	if nc.FlushWithContext(limited) == nil || nc.Stats().InMsgs == before {
		return useless
	}
	return unknown
}

// move tries another server. If that server works, move makes the lost connections leave theirs.
// It reports whether they have left.
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

// dialOther connects to a server that one of the lost connections does not use. It returns
// nil if it finds none; the next round tries again.
func (m *Mover) dialOther(lost []*nats.Conn) *nats.Conn {
	for range 2 * len(lost[0].Servers()) { // nats.go dials them in random order
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

// reconnect makes nc connect to the other servers in turn, until it reaches the server with this
// id. It fails after one round, or if a server does not answer.
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
