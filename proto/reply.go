package proto

import (
	"fmt"
	"strconv"
	"time"
)

// Reply is what roomsvc answers to a request on room.<g>: exactly one of an ack (Seq
// is not 0), a refusal and a close.
type Reply struct {
	Seq       uint64    // the message is stored under this number
	At        time.Time // when it was stored
	Duplicate bool      // it had been stored before, under the same sender and key
	Refusal   *Refusal  // it was not stored
	Close     CloseCode // the connection it came from is to be closed; nothing was stored
}

// AppendJSON appends {"ok":{…}}, {"error":{…}} or {"close":{…}}.
func (r *Reply) AppendJSON(b []byte) []byte {
	switch {
	case r.Refusal != nil:
		b = append(b, `{"error":`...)
		b = r.Refusal.AppendJSON(b)
		return append(b, '}')
	case r.Close != 0:
		b = append(b, `{"close":{"code":`...)
		b = strconv.AppendUint(b, uint64(r.Close), 10)
		return append(b, "}}"...)
	}
	return append(r.AppendAck(append(b, `{"ok":`...)), '}')
}

// ParseReply reads what [Reply.AppendJSON] wrote.
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
					var s string
					if s, err = r.str(); err == nil {
						reply.At, err = ParseTime(s)
					}
				case "duplicate":
					var v []byte
					v, err = r.value()
					reply.Duplicate = string(v) == "true"
				default:
					_, err = r.value()
				}
				return err
			})
		case "error":
			reply.Refusal = &Refusal{}
			return r.object(func(name string) (err error) {
				var s string
				switch name {
				case "code":
					s, err = r.str()
					reply.Refusal.Code = Code(s)
				case "message":
					reply.Refusal.Message, err = r.str()
				case "retry_ms":
					var ms uint64
					ms, err = r.integer()
					reply.Refusal.Retry = time.Duration(ms) * time.Millisecond
				default:
					_, err = r.value()
				}
				return err
			})
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
