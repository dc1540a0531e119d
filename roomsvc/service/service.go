// Package service is the room service. It receives requests, applies the rules of package room,
// commits records through package stream, and answers. A gateway in the same process puts its
// requests directly into the queue of the partition (local.go).
//
//	NATS (room.<name>) -> arrivals -> queue of the partition -> rules -> commit -> answer
//
// Package owner decides which partitions an instance serves.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"roomcast/proto"
	"roomcast/proto/daemon"
	"roomcast/proto/grant"
	"roomcast/proto/history"
	"roomcast/roomsvc/events"
	"roomcast/roomsvc/owner"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// Service is one instance of the room service. Its methods are safe for concurrent use;
// Run is called once.
type Service struct {
	// Static after New.
	cfg     Config
	rules   *room.Rules
	guests  *grant.Grant // rights of clients in NATS accounts that Config.Trusted does not name
	stream  stream.Config
	metrics *metrics
	commits *stream.Committer
	parts   [proto.Partitions]*partition
	// arrivals holds messages from NATS until dispatch passes each to its partition. When it is
	// full, nats.go drops further messages and counts them. The senders get no answer, and send
	// these messages again.
	arrivals chan *nats.Msg
	barriers chan chan struct{} // see barrier; dispatch closes the received channel
	events   *events.Events
	local    Local         // a gateway in this process; nil = none. Set before Run
	acts     chan struct{} // semaphore with one element for each running request of the micro API
	readers  chan struct{} // semaphore with one element for each running read of the log
	tasks    sync.WaitGroup

	// Static after Run has begun.
	nc    *nats.Conn
	owner *owner.Owner

	keys        keyring
	credentials credentials

	renewed atomic.Int64 // the Unix minute of the last error that renew has logged; it logs at most one error a minute

	everything atomic.Pointer[nats.Subscription] // the subscription to room.*
	ready      atomic.Bool                       // Run has begun to serve and has not ended
	waits      atomic.Pointer[error]             // why Run cannot serve yet; nil = Run does not wait for JetStream
}

// New returns a service. Run starts it.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Dial == nil {
		return nil, errors.New("the service has no connection to NATS: Config.Dial is nil")
	}
	if cfg.Instance == "" {
		cfg.Instance = strings.ToLower(rand.Text()[:8])
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	// A new owner learns recent keys from the log. With a larger window, the newest records of the
	// window could push older ones out of the log. The next owner would not know their keys, and
	// would store a resent message twice.
	cfg.Window = min(cfg.Window, cfg.HistoryPerRoom/2)
	always, _ := cfg.syncAlways()
	zone, _ := cfg.zone()
	guests, _ := grant.FromFlag(cfg.GuestRights)
	s := &Service{
		cfg: cfg, rules: cfg.rules(zone), guests: guests, stream: cfg.stream(always),
		arrivals: make(chan *nats.Msg, 16384),
		barriers: make(chan chan struct{}, proto.Partitions),
		acts:     make(chan struct{}, maxActs),
		readers:  make(chan struct{}, readers),
	}
	s.stream.Lost, s.stream.Damaged = s.lostEnd, s.damaged
	s.commits = stream.NewCommitter(s.stream)
	if cfg.WitnessFile != "" {
		known, err := readWitnessFile(cfg.WitnessFile)
		if err != nil {
			return nil, err
		}
		s.commits.Recall(known)
	}
	for p := range s.parts {
		s.parts[p] = newPartition(s, p)
	}
	if err := s.newEvents(); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s)
	if cfg.Metrics != nil {
		if err := s.metrics.register(cfg.Metrics); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return s, nil
}

// Instance returns the name of this instance.
func (s *Service) Instance() string { return s.cfg.Instance }

// Ready returns nil while commands can be committed, otherwise the reason.
func (s *Service) Ready() error {
	if !s.ready.Load() {
		if err := s.waits.Load(); err != nil {
			return fmt.Errorf("JetStream cannot be used: %w", *err)
		}
		return errors.New("the room service is not running")
	}
	if !s.nc.IsConnected() {
		return errors.New("the connection to NATS is lost")
	}
	return s.owner.Err()
}

// Run serves until ctx ends. Then it hands its partitions over, answers the pending commands and
// returns. NATS must be reachable when Run begins. After later interruptions, Run continues.
func (s *Service) Run(ctx context.Context) (err error) {
	if s.nc, err = s.cfg.Dial("roomsvc/" + s.cfg.Instance); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer s.nc.Close()
	defer s.commits.Close()
	defer s.keepMoving()()
	if err := s.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	everything, err := s.nc.ChanSubscribe(proto.SubjectAnyRoom, s.arrivals)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", proto.SubjectAnyRoom, err)
	}
	s.everything.Store(everything)
	endpoints, err := api{s}.serve()
	if err != nil {
		return err
	}

	// When ctx ends, the partitions must still work until the owner has handed them over. So their
	// context does not end with ctx.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for _, p := range s.parts {
		s.tasks.Go(func() { p.run(serving) })
	}
	s.tasks.Go(func() { s.dispatch(serving) })
	s.tasks.Go(func() { newWitness(s).keep(serving) })
	s.tasks.Go(func() { s.keys.keep(serving, s.cfg.Instance) })
	s.tasks.Go(func() { s.events.Run(serving) })
	s.cfg.Log.Info("room service started", "instance", s.cfg.Instance,
		"replicas", s.cfg.Replicas, "sync", s.cfg.Sync, "server", s.nc.ConnectedServerName())
	s.ready.Store(true)
	err = s.owner.Run(ctx)
	s.ready.Store(false)

	if s.nc.IsConnected() {
		err = errors.Join(err, endpoints.Stop(), everything.Unsubscribe(), s.nc.FlushTimeout(s.cfg.Commit))
	}
	for range maxActs { // wait for the requests of the micro API; further ones are refused
		s.acts <- struct{}{}
	}
	stop()
	s.tasks.Wait()
	s.cfg.Log.Info("room service stopped", "instance", s.cfg.Instance)
	return err
}

// keepMoving starts a goroutine. It moves the connection to another NATS server when the present
// server does not work for this service. The function stop ends the goroutine.
func (s *Service) keepMoving() (stop func()) {
	mover := daemon.Mover{
		Conns: []*nats.Conn{s.nc}, Name: "roomsvc/" + s.cfg.Instance + "/try", Dial: s.cfg.Dial, Log: s.cfg.Log,
		Works: func(ctx context.Context, nc *nats.Conn) error { return owner.Try(ctx, nc, s.cfg.Instance) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		mover.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

// open creates or checks everything that the service needs in JetStream. While JetStream is
// unavailable, open tries again and again. Returning the error would not help, because a restarted
// service would find the same state.
func (s *Service) open(ctx context.Context) error {
	s.owner = owner.New(s.nc, s.commits, partitions{s}, owner.Config{
		ID: s.cfg.Instance, Lease: s.cfg.Lease, Replicas: s.cfg.Replicas,
		Renew: min(24*time.Hour, s.cfg.HistoryAge/4), Log: s.cfg.Log,
	})
	log := history.New(s.nc, s.cfg.Keys)
	said, reported := "", time.Time{}
	for {
		err := s.tryOpen(ctx, log)
		if err == nil || ctx.Err() != nil || !temporary(err) {
			s.waits.Store(nil)
			return err
		}
		s.waits.Store(&err)
		if err.Error() != said || time.Since(reported) > reportPause {
			said, reported = err.Error(), time.Now()
			s.cfg.Log.Warn("waiting for jetstream", "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// damaged tells the operator that NATS has a record of the room but cannot read it.
func (s *Service) damaged(room proto.Room) {
	s.metrics.damaged.Inc()
	s.cfg.Log.Error("read room: its store is damaged; restore a replica or a backup", "room", room.String(), "stream", proto.StreamName)
}

// reportPause is how long the service waits before it logs the same reason again.
const reportPause = time.Minute

func (s *Service) tryOpen(ctx context.Context, log *history.Log) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := stream.Ensure(ctx, s.nc, s.stream); err != nil {
		return err
	}
	if err := log.Readable(ctx); err != nil {
		return err
	}
	if err := s.events.Open(ctx, s.nc); err != nil {
		return err
	}
	if err := errors.Join(s.keys.open(ctx, s.nc, s.cfg.Replicas, s.cfg.Log), s.credentials.open(ctx, s.nc, s.cfg.Replicas, s.cfg.Log)); err != nil {
		return err
	}
	return s.owner.Open(ctx)
}

// codeNoPeers is JetStream's error code if the cluster has fewer servers than a stream needs for
// its replicas.
const codeNoPeers = 10005

// temporary reports whether the cause of err may pass without an operator's help, so that open
// should try again. A stream, consumer or bucket that is not found is temporary, because open makes
// those that are missing. Another instance has begun to make it, and the cluster does not have it
// yet.
func temporary(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code >= 500 || api.Code == http.StatusNotFound || api.ErrorCode == codeNoPeers
	}
	// These errors occur while a stream elects a leader, or while the connection moves to another
	// server.
	for _, passing := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse,
		nats.ErrDisconnected, nats.ErrReconnectBufExceeded, jetstream.ErrKeyNotFound, jetstream.ErrBucketNotFound,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// dispatch passes each arriving message to its partition. The NATS account should map each
// room.<name> to the subject of its partition. Without that mapping, every instance receives the
// messages of all rooms. Then [partition.offer] ignores the messages for partitions that other
// instances own.
func (s *Service) dispatch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-s.arrivals:
			if msg.Sub == nil {
				close(<-s.barriers)
				continue
			}
			to, err := proto.RoomOfSubject(msg.Subject)
			if err != nil {
				s.refuse(returnPath{subject: msg.Reply}, proto.Refuse(proto.BadRoom, "%v", err))
				continue
			}
			s.parts[to.Partition()].offer(command{msg: msg, reply: returnPath{subject: msg.Reply}, to: to, since: time.Now()})
		}
	}
}

// dropped returns how many commands nats.go has dropped because arrivals was full.
func (s *Service) dropped() (n int) {
	subs := []*nats.Subscription{s.everything.Load()}
	for _, p := range s.parts {
		p.subscription.mu.Lock()
		subs = append(subs, p.subscription.sub)
		p.subscription.mu.Unlock()
	}
	for _, sub := range subs {
		if sub != nil {
			if d, err := sub.Dropped(); err == nil {
				n += d
			}
		}
	}
	return n
}

// barrier returns when dispatch has handled every message that NATS held for this instance at the
// time of the call.
func (s *Service) barrier() error {
	if err := s.nc.FlushTimeout(s.cfg.Commit); err != nil {
		return err
	}
	done := make(chan struct{})
	s.barriers <- done
	s.arrivals <- &nats.Msg{} // dispatch recognises the barrier by the missing subscription
	<-done
	return nil
}

// answer publishes the reply to a command. The parameter since is when the command arrived. answer
// publishes only to subjects that are meant for answers. Otherwise a sender could name any reply
// subject, and make this instance publish where the sender itself may not.
func (s *Service) answer(to returnPath, reply proto.Reply, since time.Time) {
	if to.state != nil {
		to.state.done(reply.Refusal == nil)
		return
	}
	s.metrics.answered(&reply, since)
	daemon.AuditReply(s.cfg.Log, to.act, &reply)
	if to.local != nil {
		to.local(reply)
		return
	}
	if !proto.Answerable(to.subject) {
		return
	}
	if err := s.nc.Publish(to.subject, reply.AppendJSON(make([]byte, 0, 128))); err != nil {
		s.metrics.unsent.Inc() // the sender sends the command again
	}
}

// refuse answers a command to which the rules of its room were not applied.
func (s *Service) refuse(to returnPath, r *proto.Refusal) {
	s.answer(to, proto.Reply{Refusal: r}, time.Time{})
}
