package proto

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Reply is the owner's answer to a [Request]: an ack (Seq is not 0), a refusal or a close.
type Reply struct {
	Seq       uint64    // of the stored event
	At        time.Time // of the stored event
	Duplicate bool      // an earlier request of the same sender and key stored the event
	Refusal   *Refusal  // not nil: nothing was stored
	Close     CloseCode // not 0: the sender's connection must be closed; nothing was stored
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

// ParseReply reads the output of [Reply.AppendJSON].
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
