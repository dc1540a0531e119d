package server

import (
	"mime"
	"net/http"
	"unicode/utf8"

	"roomcast/gateway/backend"
	"roomcast/gateway/publish"
	"roomcast/proto"
)

// say handles a message. The body is a say command as JSON, or plain text.
func (a *api) say(r *http.Request, by *caller) (answer, error) {
	room, err := roomOf(r, by, proto.RightSay)
	if err != nil {
		return nil, err
	}
	reply, err := a.send(r, by, room, func(body []byte) (cmd proto.Command, err error) {
		switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
		case "application/json":
			return proto.ParseBody(proto.VerbSay, body)
		case "text/plain":
			cmd.Content, cmd.Line = proto.Content{Kind: proto.Text, Body: body}, true
			if !utf8.Valid(body) {
				err = proto.Refuse(proto.BadRequest, "the text is not valid UTF-8")
			}
			return cmd, err
		default:
			return cmd, proto.Refuse(proto.BadRequest, "the Content-Type must be application/json or text/plain, not %q", kind)
		}
	})
	return reply.AppendJSON(nil), err
}

// parser reads the body of a request as a command.
type parser func(body []byte) (proto.Command, error)

// send sends the message or act in the body of a request to the room's owner, and waits for the
// reply. If the reply is a refusal, send returns it as an error.
func (a *api) send(r *http.Request, by *caller, room proto.Room, parse parser) (none proto.Reply, err error) {
	s, err := a.read(r, by, room, parse)
	if err == nil {
		s.Key, err = keyOf(r, s.Key)
	}
	if err != nil {
		return none, err
	}
	if s.Act.HasContent() {
		if err = a.askSay(r, by, &s, s.Act.Verb()); err != nil {
			return none, err
		}
	}
	reply, err := await(r.Context(), func(done func(proto.Reply, error)) {
		a.bridge.Say(s, func(r proto.Reply) { done(r, nil) })
	})
	switch {
	case err != nil:
		return none, err
	case reply.Refusal != nil:
		return none, reply.Refusal
	case reply.Close != 0:
		return none, proto.Refuse(proto.ClosedByWord, "the text is a close word: it was not stored, and there is no connection to close")
	}
	return reply, nil
}

// read returns what the command in the body of a request sends to a room.
func (a *api) read(r *http.Request, by *caller, room proto.Room, parse parser) (s publish.Say, err error) {
	body, err := readBody(r)
	if err != nil {
		return s, err
	}
	cmd, err := parse(body)
	if err != nil {
		return s, err
	}
	if !cmd.Room.IsZero() && cmd.Room != room {
		return s, proto.Refuse(proto.BadRequest, "the body and the path name different rooms; leave room out of the body")
	}
	if refusal := proto.CheckSize(len(cmd.Content.Body), a.maxMessage); refusal != nil {
		return s, refusal
	}
	s = publish.Say{
		Room: room, Act: cmd.Act, Terms: cmd.Terms, Content: cmd.Content, Line: cmd.Line, Key: cmd.Key, Why: cmd.Why,
		Patience: apiPatience, Rights: by.rights(room),
	}
	s.From, err = senderOf(r, by)
	return s, err
}

// askSay asks the backend whether to allow a message or a signal, unless the caller is a
// program. The backend may change the content.
func (a *api) askSay(r *http.Request, by *caller, s *publish.Say, verb proto.Verb) error {
	if !by.asked() || !a.backend.Asks(backend.Say) {
		return nil
	}
	q := backend.Question{Kind: backend.Say, Who: s.From, Room: s.Room, Headers: by.headers, Content: s.Content, Verb: verb}
	answer, err := await(r.Context(), func(done func(backend.Answer, error)) { a.backend.Ask(&q, done) })
	if err != nil {
		return err
	}
	sent := s.Content
	if s.Sent = &sent; answer.Content != nil {
		s.Content = *answer.Content
	}
	return nil
}
