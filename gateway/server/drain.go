package server

import (
	"log/slog"
	"time"
)

// drainStep is how often some connections are sent away.
const drainStep = 50 * time.Millisecond

// lastAnswers is how long sessions are kept, beyond the time to drain, that wait to hear
// what became of a message: more than any of them has patience.
const lastAnswers = 12 * time.Second

// lastWords is how long sessions have, after the last close frame was queued, to read
// it and to end their side.
const lastWords = 3 * time.Second

// drain stops accepting and sends the sessions away as going away, evenly over the
// given time, so that the gateways they come back to are not stormed. It returns when
// all have gone, or have had their time.
func (f *front) drain(over time.Duration, log *slog.Logger) {
	for _, l := range f.loops {
		l.Post(l.StopAccepting)
	}
	begun := time.Now()
	total := f.sendAway(0)
	log.Info("gateway stops", "sessions", total, "drain_time", over)
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for left := total; left > 0 && time.Since(begun) < over+lastAnswers; <-tick.C {
		// How many may still be there by now, if they go evenly.
		stay := 0
		if remaining := over - time.Since(begun); remaining > 0 {
			stay = int(float64(total) * float64(remaining) / float64(over))
		}
		left = f.sendAway(max(0, left-stay))
	}
	for end := time.Now().Add(lastWords); f.sockets() > 0; <-tick.C {
		if time.Now().After(end) {
			log.Warn("sessions did not end in time", "sessions", f.sockets())
			return
		}
	}
}

func (f *front) sockets() (n int64) {
	for _, ss := range f.sessions {
		n += ss.Stats().Sockets.Load()
	}
	return n
}

// sendAway closes about n sessions, spread over the loops, and returns how many are
// left.
func (f *front) sendAway(n int) (left int) {
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
		case <-f.broken: // a loop has failed and answers no more
			return 0
		}
	}
	return left
}
