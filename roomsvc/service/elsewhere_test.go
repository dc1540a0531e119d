package service

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// An instance that could not take its partitions refuses their commands. When another instance
// takes the partitions, the first instance must ignore the commands. Otherwise the sender would get
// two answers, and would use the first one, the refusal.
func TestInstanceThatCannotCommitDoesNotAnswerForOthers(t *testing.T) {
	modes(t, func(t *testing.T, mapped bool) {
		srv := startNATS(t, mapped)
		cut := make(chan struct{})
		a, stopA := startService(t, srv, func(c *Config) {
			dial := c.Dial
			c.Instance = "a"
			c.Dial = func(name string, opts ...nats.Option) (*nats.Conn, error) {
				select {
				case <-cut:
					if name == "roomsvc/a/commit" {
						return nil, errors.New("cut off")
					}
				default:
				}
				return dial(name, opts...)
			}
		})
		natstest.Eventually(t, "a to own all", func() bool { return a.owner.Held() == proto.Partitions })
		close(cut)
		a.commits.Close() // this makes every fence of a void
		natstest.Eventually(t, "a to own nothing", func() bool { return a.owner.Held() == 0 })
		b, stopB := startService(t, srv)
		natstest.Eventually(t, "b to own its share, and a to ignore its commands", func() bool {
			n := 0
			for p := range proto.Partitions {
				if intake(b.parts[p].intake.Load()) == serving {
					if intake(a.parts[p].intake.Load()) != foreign {
						return false
					}
					n++
				}
			}
			return n > 15
		})
		nc := srv.Connect(t)
		for _, room := range rooms {
			if intake(b.parts[proto.MustRoom(room).Partition()].intake.Load()) != serving {
				continue
			}
			if r := say(t, nc, room, "u", "1", "hi"); r.Refusal != nil {
				t.Errorf("%s: got %+v, want it stored", room, r)
			}
		}
		stopB()
		stopA()
	})
}
