package proto

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Reply is the owner's answer to a [Request]. It is an ack if Seq is not 0. Otherwise it is a
// refusal, or it closes the sender's connection.
type Reply struct {
	Seq       uint64    // seq of the stored event
	At        time.Time // time of the stored event
	Duplicate bool      // an earlier request of this sender with the same key has stored the event
	Refusal   *Refusal  // if not nil, the request was refused and nothing was stored
	Close     CloseCode // if not 0, the sender's connection must be closed, and nothing was stored
}

// AppendJSON appends {"ok":{…}}, {"error":{…}} or {"close":{…}}.
func (r *Reply) AppendJSON(b []byte) []byte {
	switch {
	case r.Refusal != nil:
		b = r.Refusal.AppendJSON(append(b, `{"error":`...))
		return append(b, '}')
	case r.Close != 0:
		b = strconv.AppendUint(append(b, `{"close":{"code":`...), uint64(r.Close), 10)
		return append(b, "}}"...)
	}
	return append(r.AppendAck(append(b, `{"ok":`...)), '}')
}

// ParseReply reads a reply that [Reply.AppendJSON] has written.
func ParseReply(b []byte) (Reply, error) {
	var reply Reply
	r := jsonReader{b: b}
	err := r.object(func(name string) error {
		switch name {
		case "ok":
			return r.object(func(name string) (err error) {
				switch name {
				case "seq":
					reply.Seq, err = r.integer()
				case "at":
					reply.At, err = r.time()
				case "duplicate":
					reply.Duplicate, err = r.boolean()
				default:
					_, err = r.value()
				}
				return err
			})
		case "error":
			refusal, err := r.value()
			if err != nil {
				return err
			}
			reply.Refusal = new(Refusal)
			return json.Unmarshal(refusal, reply.Refusal)
		case "close":
			return r.object(func(name string) (err error) {
				if name == "code" {
					var n uint64
					n, err = r.integer()
					reply.Close = CloseCode(n)
					return err
				}
				_, err = r.value()
				return err
			})
		}
		_, err := r.value()
		return err
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && reply.Seq == 0 && reply.Refusal == nil && reply.Close == 0 {
		err = fmt.Errorf("neither ok nor error nor close")
	}
	if err != nil {
		return reply, fmt.Errorf("parse reply: %w", err)
	}
	return reply, nil
}
