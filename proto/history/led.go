package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

const streamInfo = "STREAM.INFO."

const (
	// ledWithin is how recently a follower must have answered the leader. After such an answer,
	// no other leader can be elected for 4 s (minElectionTimeout of nats-server).
	ledWithin = 3 * time.Second
	// ledFor is how long a confirmation of the leader is used. The sum of ledWithin and ledFor
	// must not exceed the time that an election takes.
	ledFor = time.Second
)

// leadership records when the stream's leader was last confirmed. It is safe for concurrent use.
type leadership struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

func (l *leadership) fresh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.at) < ledFor
}

func (l *leadership) confirmed(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
}

// confirmLeader waits until a majority of the stream's replicas follows the leader. A leader
// that is cut off from the other replicas may not notice this for 20 s. During this time, its
// log lacks the newest records.
func (s *source) confirmLeader(ctx context.Context) error {
	if s.led.fresh() {
		return nil
	}
	return s.askInfo(ctx, func(info *streamState) error {
		follow := 0
		for _, r := range info.Cluster.Replicas {
			if (r.Current || r.Active > 0) && r.Active < ledWithin {
				follow++
			}
		}
		if 2*(follow+1) <= len(info.Cluster.Replicas)+1 {
			return fmt.Errorf("%w: its leader has lost the other replicas", errBusy)
		}
		s.led.confirmed(time.Now())
		return nil
	})
}

// confirmReadable waits until the stream's leader finds a message, if the stream has messages. A NATS
// server that stops closes its files before its connections. Meanwhile it answers that there is no
// message. A working server skips damaged messages, so one readable message is enough.
func (s *source) confirmReadable(ctx context.Context) error {
	return s.askInfo(ctx, func(info *streamState) error {
		if info.State.Messages == 0 {
			return nil
		}
		_, err := s.leader(ctx, request{Seq: 1, NextBy: ">"})
		if errors.Is(err, errNone) {
			return fmt.Errorf("%w: its leader does not find a message", errBusy)
		}
		return err
	})
}

// streamState is the part of the leader's answer to a request for the stream's state that the
// package uses.
type streamState struct {
	Error struct {
		Code        int    `json:"code"`
		Description string `json:"description"`
	} `json:"error"`
	State struct {
		Messages uint64 `json:"messages"`
	} `json:"state"`
	Cluster struct {
		Replicas []struct {
			Current bool          `json:"current"`
			Active  time.Duration `json:"active"` // time since the replica's last answer; 0 = it has not answered, or has just answered
		} `json:"replicas"`
	} `json:"cluster"`
}

// askInfo asks the stream's leader for the stream's state until take accepts the answer. If take
// returns errBusy, askInfo asks again.
func (s *source) askInfo(ctx context.Context, take func(*streamState) error) error {
	return s.ask(ctx, streamInfo+proto.StreamName, request{}, func(msgs []*nats.Msg) error {
		var info streamState
		if err := json.Unmarshal(msgs[0].Data, &info); err != nil {
			return fmt.Errorf("stream info: %w", err)
		}
		if info.Error.Code != 0 {
			return fmt.Errorf("stream info: %w: %s", errBusy, info.Error.Description)
		}
		return take(&info)
	})
}
