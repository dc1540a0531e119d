// Package service is the room service: it takes commands in from NATS, lets the rules of
// package room decide, commits what is to be stored, and answers.
package service

import (
	"context"
	"errors"
)

// Service is one instance of the room service.
type Service struct{ cfg Config }

// New returns a service that Run starts.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &Service{cfg: cfg}, nil
}

// Run serves until ctx ends, then hands its partitions over and returns when it is done.
func (s *Service) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready returns nil while commands can be committed, and otherwise why they cannot.
func (s *Service) Ready() error { return errors.New("not started") }
