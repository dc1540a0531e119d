package stream

import (
	"context"
	"sync/atomic"
	"time"

	"roomcast/proto"
)

// A stream of limited size drops its oldest messages, and a marker may be one of them. So the owner
// writes its marker again after the stream has stored a quarter of its limit.
const (
	wornPart     = 4
	overhead     = 256 // about how many bytes a message needs besides its payload
	measurePause = 2 * time.Second
)

// wear is the position of a marker in the stream. A wearMeter measures how many bytes the stream
// has stored since that position. The more bytes, the sooner the stream drops the marker: it is
// worn.
type wear struct {
	seq   uint64 // stream sequence
	bytes int64  // number of bytes that this connection had written before
}

// wearMeter estimates how many bytes the stream has stored since a position in the log. It takes
// the larger of two estimates. One is the number of bytes that its own connection has written. The
// other is the number of messages that all instances have stored, multiplied by their average size.
// It is safe for concurrent use.
type wearMeter struct {
	last    atomic.Uint64
	bytes   atomic.Int64
	average atomic.Int64 // bytes of a message; 0 = not known
}

// wrote counts a message that this connection has written, and returns the message's position.
func (m *wearMeter) wrote(seq uint64, payload int) wear {
	m.last.Store(seq)
	return wear{seq, m.bytes.Add(int64(payload) + overhead)}
}

func (m *wearMeter) since(w wear) int64 {
	all := int64(0)
	if last := m.last.Load(); last > w.seq {
		all = int64(last-w.seq) * m.average.Load()
	}
	return max(all, m.bytes.Load()-w.bytes)
}

// measure reads the stream's last sequence and the average size of its messages every measurePause,
// until the connection breaks. The acks show the last sequence too, but an instance that writes
// little gets few acks.
func (l *commitConn) measure() {
	tick := time.NewTicker(measurePause)
	defer tick.Stop()
	for {
		select {
		case <-l.broke:
			return
		case <-tick.C:
		}
		var info struct {
			State struct {
				Messages int64  `json:"messages"`
				Bytes    int64  `json:"bytes"`
				Last     uint64 `json:"last_seq"`
			} `json:"state"`
		}
		ctx, cancel := context.WithTimeout(context.Background(), l.c.attempt())
		err := api(ctx, l.nc, "STREAM.INFO."+proto.StreamName, struct{}{}, &info)
		cancel()
		if err == nil && info.State.Messages > 0 {
			l.worn.average.Store(info.State.Bytes / info.State.Messages)
			l.worn.last.Store(info.State.Last)
		}
	}
}
