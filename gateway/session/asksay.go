package session

import (
	"bytes"
	"cmp"
	"time"

	"roomcast/gateway/backend"
	"roomcast/gateway/limit"
	"roomcast/gateway/publish"
	"roomcast/proto"
)

// asking is a message or a signal that waits for the backend's answer. Later messages and
// signals of the session wait for it, so that the order is kept.
type asking struct {
	question backend.Question
	size     int          // memory that it occupies, in bytes
	revoked  func() error // the refusal if the sender's credential has been revoked since; otherwise nil
	allowed  func(proto.Content)
	refused  func(*proto.Refusal)
}

// askSay asks the backend whether to allow a message. If so, it publishes the content that the
// backend returns.
func (c *commands) askSay(s *session, say publish.Say, done func(proto.Reply)) {
	id := s.id
	sent := say.Content
	sent.Body = bytes.Clone(sent.Body)
	c.enqueue(s, say.Room, sent, say.Act.Verb(), func(content proto.Content) {
		say.Content, say.Sent = content, &sent
		c.publish(id, say, done)
	}, func(refusal *proto.Refusal) {
		if s := c.get(id); s != nil && refusal.Temporary() {
			refusal = c.resendIn(s, say.Room, say.Key, refusal)
		}
		c.said(id, proto.Reply{Refusal: refusal}, done)
	})
}

// enqueue asks the backend about content. If the backend has not answered earlier questions of
// the session, enqueue first waits for these answers. The caller must not change the body of
// content later.
func (qs *questions) enqueue(s *session, room proto.Room, content proto.Content, verb proto.Verb, allowed func(proto.Content), refused func(*proto.Refusal)) {
	a := qs.asked[s.id]
	w := &asking{question: qs.question(s, backend.Say, room), size: 2 * len(content.Body), revoked: revokedSince(qs, s), allowed: allowed, refused: refused}
	if !qs.cfg.Hub.Memory.Take(limit.Says, w.size) {
		w.size = 0
		refused(proto.Refuse(proto.Overloaded, "too many questions to the application are waiting; send it again").After(time.Second))
		return
	}
	w.question.Content, w.question.Verb = content, verb
	if a.says = append(a.says, w); len(a.says) == 1 {
		qs.askNext(a)
	}
}

// revokedSince returns a function that checks whether the credential of a session has been revoked.
// It works after the end of the session too, when messages of the session may still wait.
func revokedSince(qs *questions, s *session) func() error {
	who, token, family, own, issued := s.who.ID, qs.tokenID(s), qs.family(s), qs.hub.Session(s.id), time.Unix(int64(s.iat), 0)
	list := qs.auth.Revoked()
	return func() error {
		return cmp.Or(list.Check(who, family, issued), list.Check(token, own, issued))
	}
}

// askNext asks the backend about the first of the waiting messages. It does so even after the
// session has ended, because the messages that the client has sent must not be lost.
func (qs *questions) askNext(a *asked) {
	qs.backend.Ask(&a.says[0].question, func(answer backend.Answer, err error) {
		qs.hub.Post(func() { qs.sayAnswered(a, answer, refusalIn(err)) })
	})
}

// sayAnswered handles the backend's answer for the first of the waiting messages. If the backend
// did not answer, sayAnswered also refuses the later messages of the same room. Otherwise they
// would be stored before the first message, which the client sends again.
func (qs *questions) sayAnswered(a *asked, answer backend.Answer, refusal *proto.Refusal) {
	w := a.says[0]
	a.says = a.says[1:]
	if refusal == nil {
		refusal = refusalIn(w.revoked())
	}
	content := w.question.Content
	if answer.Content != nil {
		content = *answer.Content
	}
	qs.finish(w, content, refusal)
	if refusal != nil && refusal.Temporary() {
		rest := a.says
		a.says = nil
		for _, later := range rest {
			if later.question.Room == w.question.Room {
				qs.finish(later, proto.Content{}, refusal)
			} else {
				a.says = append(a.says, later)
			}
		}
	}
	if len(a.says) > 0 {
		qs.askNext(a)
	}
}

func (qs *questions) finish(w *asking, content proto.Content, refusal *proto.Refusal) {
	qs.cfg.Hub.Memory.Add(limit.Says, -w.size)
	if refusal != nil {
		w.refused(refusal)
		return
	}
	w.allowed(content)
}
