package service

import (
	"github.com/nats-io/nats.go"

	"roomcast/roomsvc/events"
)

// newEvents makes s.events, which sends events to applications.
func (s *Service) newEvents() (err error) {
	s.events, err = events.New(s.cfg.Events, events.Service{
		Dial: func(opts ...nats.Option) (*nats.Conn, error) {
			return s.cfg.Dial("roomsvc/"+s.cfg.Instance+"/events", opts...)
		},
		Owns: func(partition int) bool {
			return intake(s.parts[partition].intake.Load()) == serving && s.owner.Trusted()
		},
		Replicas: s.cfg.Replicas, Keys: s.cfg.Keys, Log: s.cfg.Log,
	})
	return err
}
