package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"roomcast/proto"
)

// maxActs is how many requests of the micro API may run at a time. Further ones are refused.
const maxActs = 64

// api is the micro API of a service.
type api struct{ s *Service }

// serve announces the instance as a NATS micro service, for operators:
//
//	nats micro ls · nats micro info roomsvc · nats micro stats roomsvc
//	nats req room.svc.close '{"room":"lobby","why":"done for today"}'
//	nats req room.svc.reopen '{"room":"lobby"}'
//	nats req room.svc.info ''
//
// Gateways use the micro API too: they request the signing keys and the states of empty rooms, mark
// tickets as used, and report lost events. Messages of members do not use it, because its queue
// group spreads requests over the instances. That would change the order of messages.
func (a api) serve() (micro.Service, error) {
	s := a.s
	api, err := micro.AddService(s.nc, micro.Config{
		Name:        "roomsvc",
		Version:     s.cfg.Version,
		Description: "orders, stamps, logs and moderates the messages of rooms",
		Metadata: map[string]string{
			"instance":   s.cfg.Instance,
			"stream":     proto.StreamName,
			"schema":     strconv.Itoa(proto.SchemaVersion),
			"partitions": strconv.Itoa(proto.Partitions),
		},
		StatsHandler: func(*micro.Endpoint) any { return s.info() },
	})
	if err != nil {
		return nil, fmt.Errorf("serve micro API: %w", err)
	}
	for _, e := range []struct {
		name, subject, payload string
		handle                 micro.HandlerFunc
	}{
		{"close", proto.SubjectClose, `{"room":"...","why":"..."}`, a.moderate(proto.ActClose)},
		{"reopen", proto.SubjectReopen, `{"room":"...","why":"..."}`, a.moderate(proto.ActReopen)},
		{"info", proto.SubjectInfo, "none", func(r micro.Request) {
			if err := r.RespondJSON(s.info()); err != nil {
				s.metrics.unsent.Inc()
			}
		}},
		{"keys", proto.SubjectKeys, "none", a.answerKeys},
		{"revoke", proto.SubjectRevoke, `{"id":"..."} or {"session":"..."}`, a.answerRevoke},
		{"revocations", proto.SubjectRevocations, `{"after":...}`, a.answerRevocations},
		{"ticket", proto.SubjectTicket, `{"number":"..."}`, a.answerTicket},
		{"state", proto.SubjectAskStates, `{"rooms":["..."]}`, a.answerStates},
		{"lost", proto.SubjectLost, `{"room":"...","epoch":"...","seq":...,"stream":...,"at":"..."}`, a.answerLost},
	} {
		opts := []micro.EndpointOpt{
			micro.WithEndpointSubject(e.subject), micro.WithEndpointMetadata(map[string]string{"payload": e.payload}),
		}
		if e.subject == proto.SubjectLost || e.subject == proto.SubjectAskStates { // every instance receives it, and the owner answers
			opts = append(opts, micro.WithEndpointQueueGroupDisabled())
		}
		err := api.AddEndpoint(e.name, answerable(e.handle), opts...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("serve micro API: %w", err), api.Stop())
		}
	}
	return api, nil
}

// answerable ignores a request whose reply subject is not for answers; see
// [proto.Answerable].
func answerable(handle micro.HandlerFunc) micro.HandlerFunc {
	return func(r micro.Request) {
		if proto.Answerable(r.Reply()) {
			handle(r)
		}
	}
}

// info describes an instance to an operator.
type info struct {
	Instance   string `json:"instance"`
	Partitions int    `json:"partitions"` // owned
	Rooms      int64  `json:"rooms"`      // in memory
	Commits    int64  `json:"commits"`    // records committed since the start
	Ready      bool   `json:"ready"`
	Why        string `json:"why,omitempty"` // why it is not ready
}

func (s *Service) info() info {
	i := info{Instance: s.cfg.Instance, Partitions: s.owner.Held(), Rooms: s.rooms(), Commits: s.metrics.committed.Load(), Ready: true}
	if err := s.Ready(); err != nil {
		i.Ready, i.Why = false, err.Error()
	}
	return i
}

// moderate passes an act on to the owner of its room, in the same way as every command, and returns
// its reply.
func (a api) moderate(act proto.Act) micro.HandlerFunc {
	s := a.s
	return func(r micro.Request) {
		var ask struct {
			Room string `json:"room"`
			Why  string `json:"why"`
		}
		reply := func(p proto.Reply) {
			if err := r.Respond(p.AppendJSON(nil)); err != nil {
				s.metrics.unsent.Inc()
			}
		}
		if err := json.Unmarshal(r.Data(), &ask); err != nil {
			reply(proto.Reply{Refusal: proto.Refuse(proto.BadRequest, `the request is not JSON such as {"room":"lobby","why":"done for today"}`)})
			return
		}
		to, err := proto.ParseRoom(ask.Room)
		if err != nil {
			reply(proto.Reply{Refusal: proto.Refuse(proto.BadRoom, "%v", err)})
			return
		}
		// Gateways can read this key in the log. The key is random, so that they cannot guess a
		// reply subject of this process from it.
		act := proto.Request{Act: act, Why: ask.Why, Rights: proto.AllRights, Key: rand.Text(), Hidden: true}
		msg := &nats.Msg{Subject: to.Subject(), Header: act.Header(), Data: act.Payload()}
		if from := r.Headers().Get(proto.HeaderFrom); from != "" {
			msg.Header.Set(proto.HeaderFrom, from)
		}
		if !a.start(func(ctx context.Context) {
			got, err := s.nc.RequestMsgWithContext(ctx, msg)
			if err != nil {
				reply(proto.Reply{Refusal: proto.Refuse(proto.Unavailable, "no owner of the room has answered; try again").After(unavailableRetry)})
				return
			}
			if err := r.Respond(got.Data); err != nil {
				s.metrics.unsent.Inc()
			}
		}) {
			reply(proto.Reply{Refusal: overloaded("too many acts are under way")})
		}
	}
}

// start calls do on another goroutine, because a handler that waits would delay the requests behind
// it. It returns false if too many requests are under way, or the service has stopped.
func (a api) start(do func(context.Context)) bool {
	select {
	case a.s.acts <- struct{}{}:
	default:
		return false
	}
	a.s.tasks.Go(func() {
		defer func() { <-a.s.acts }()
		ctx, cancel := context.WithTimeout(context.Background(), a.s.cfg.Commit)
		defer cancel()
		do(ctx)
	})
	return true
}
