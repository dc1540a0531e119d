package server

import (
	"log/slog"
	"time"
)

// drainStep is the time from one group of sessions that drain closes to the next.
const drainStep = 50 * time.Millisecond

// lastAnswers is how long after the drain time sessions may still wait for answers to their
// messages. It is longer than any request may wait for its answer.
const lastAnswers = 12 * time.Second

// lastWords is how long clients have to read the last close frame and to close the connection.
// The time begins when the frame has been queued.
const lastWords = 3 * time.Second

// drain stops accepting connections and closes all sessions with the code for going away. It
// spreads the closes evenly over the given time. Otherwise all clients would reconnect to other
// gateways at the same moment. drain returns when all sessions have ended, or some seconds after
// the given time.
func (f *listener) drain(over time.Duration, log *slog.Logger) {
	for i, l := range f.loops {
		l.Post(l.StopAccepting)
		l.Post(func() { f.sessions[i].Warn(over) })
	}
	begun := time.Now()
	total := f.closeSessions(0)
	log.Info("gateway is stopping", "sessions", total, "drain_time", over)
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for left := total; left > 0 && time.Since(begun) < over+lastAnswers; <-tick.C {
		// If sessions were closed at an even pace, this many would be open now.
		stay := 0
		if remaining := over - time.Since(begun); remaining > 0 {
			stay = int(float64(total) * float64(remaining) / float64(over))
		}
		left = f.closeSessions(max(0, left-stay))
	}
	for end := time.Now().Add(lastWords); f.sockets() > 0; <-tick.C {
		if time.Now().After(end) {
			log.Warn("sessions did not end in time", "sessions", f.sockets())
			return
		}
	}
}

func (f *listener) sockets() (n int64) {
	for _, ss := range f.sessions {
		n += ss.Stats().Sockets.Load()
	}
	return n
}

// closeSessions closes about n sessions, distributed over the loops. It returns how many
// sessions are left.
func (f *listener) closeSessions(n int) (left int) {
	answers := make(chan int, len(f.loops))
	asked := 0
	share := (n + len(f.loops) - 1) / len(f.loops)
	for i, l := range f.loops {
		if l.Post(func() { answers <- f.sessions[i].Drain(share) }) {
			asked++
		}
	}
	for range asked {
		select {
		case n := <-answers:
			left += n
		case <-f.broken: // a loop that has failed does not answer
			return 0
		}
	}
	return left
}
