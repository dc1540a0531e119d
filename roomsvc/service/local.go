package service

import (
	"time"

	"roomcast/proto"
	"roomcast/roomsvc/room"
	"roomcast/roomsvc/stream"
)

// Local is a gateway in the same process. The service calls it directly with committed records. The
// methods must not block. NATS clients receive the same records from the stream.
type Local interface {
	// Receive accepts a record that the stream has acknowledged. The service calls it before it
	// answers the sender of the record. The records of one room come in the order of their seqs.
	Receive(rec proto.Record)
	// Missed says that the log may have records of a partition that were not passed to Receive.
	Missed(partition int)
}

// Attach makes the service pass its records to a gateway in this process. The caller calls it
// before Run. This instance must be the only one that uses the stream, because the gateway does not
// get the records of others.
func (s *Service) Attach(l Local) { s.local = l }

// Offer accepts a request from a gateway in this process, as if a trusted sender had sent it over
// NATS. Offer calls answer at most once, from any goroutine. The function answer must not block.
// Without an answer in time, the gateway offers the request again.
func (s *Service) Offer(to proto.Room, r *proto.Request, answer func(proto.Reply)) {
	p := s.parts[to.Partition()]
	c := command{local: r, reply: returnPath{local: answer}, to: to, since: time.Now()}
	if intake(p.intake.Load()) == foreign {
		s.refuse(c.reply, p.unavailable(stream.ErrUnavailable).Refusal)
		return
	}
	p.offer(c)
}

// missed reports to the gateway in this process that it may have missed records.
func (p *partition) missed() {
	if p.s.local != nil {
		p.s.local.Missed(p.number)
	}
}

// keyed reports whether the command has a key, by which an owner can recognise a resend.
func (c *command) keyed() bool {
	if c.reply.state != nil {
		return false
	}
	if c.local != nil {
		return c.local.Key != ""
	}
	return c.msg.Header.Get(proto.HeaderKey) != "" || c.msg.Header.Get(proto.HeaderOnce) != ""
}

// read converts a command into the type of package room, and checks it. It returns a refusal if the
// command is not valid or not permitted.
func (s *Service) read(c *command) (cmd room.Command, refusal *proto.Refusal) {
	if c.local == nil {
		if cmd, refusal = readCommand(c.msg, c.to, s.cfg.Keys, s.cfg.MaxMessage); refusal == nil {
			refusal = s.restrict(c.msg, c.to, &cmd)
		}
		return cmd, refusal
	}
	if refusal = c.local.Check(s.cfg.MaxMessage); refusal == nil {
		if cmd.Request = *c.local; cmd.Key != "" {
			cmd.Digests = s.cfg.Keys.Digests(cmd.Covered())
		}
	}
	return cmd, refusal
}
