package service

import (
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/natstest"
)

// An operator who purges the log removes the ownership markers too. The owner must notice this even
// in a partition without commits. In a partition with commits, the next commit would fail and show
// that the marker is gone.
func TestPurgedLogIsServedAgain(t *testing.T) {
	srv := startNATS(t, true)
	_, stop := startService(t, srv)
	defer stop()
	nc := srv.Connect(t)
	natstest.Purge(t, nc, proto.StreamName, ">")
	for _, room := range []string{"lobby", "hall"} {
		natstest.Eventually(t, room+" to be served", func() bool {
			m, err := nc.RequestMsg(message(room, "u", "k", "hi"), time.Second)
			if err != nil {
				return false
			}
			reply, err := proto.ParseReply(m.Data)
			return err == nil && reply.Refusal == nil && reply.Seq == 1
		})
	}
}
