package stream

import (
	"bytes"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// An ack of the log's stream begins with ackStart, and an ack of the stream of snapshots begins
// with stateAckStart. An answer with an error begins with neither.
var (
	ackStart      = []byte(`{"stream":"` + proto.StreamName + `"`)
	stateAckStart = []byte(`{"stream":"` + proto.StateStream + `"`)
	ackSeq        = []byte(`"seq":`)
)

// parseAck returns the stream sequence in an ack of the log, or the error in it.
func parseAck(msg *nats.Msg) (uint64, error) { return parseAckOf(ackStart, msg) }

// parseStateAck does the same as parseAck for an ack of the stream of snapshots.
func parseStateAck(msg *nats.Msg) (uint64, error) { return parseAckOf(stateAckStart, msg) }

func parseAckOf(start []byte, msg *nats.Msg) (uint64, error) {
	if bytes.HasPrefix(msg.Data, start) {
		if i := bytes.Index(msg.Data, ackSeq); i > 0 {
			seq := uint64(0)
			for _, c := range msg.Data[i+len(ackSeq):] {
				if c < '0' || c > '9' {
					break
				}
				seq = seq*10 + uint64(c-'0')
			}
			if seq > 0 {
				return seq, nil
			}
		}
	}
	return 0, refused(msg)
}
