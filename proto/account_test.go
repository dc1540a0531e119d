package proto_test

import (
	"testing"

	"roomcast/proto"
)

func TestOnlyReplySubjectsAreAnswerable(t *testing.T) {
	for reply, want := range map[string]bool{
		proto.AckPrefix("g1") + "x": true, "_R_.AQXYsE.R4ED1f": true, "_INBOX.x.1": true, "_INBOX_gw.g1.x": true,
		"": false, "room.lobby": false, "room.in.19.lobby": false, "room.log.19.lobby": false, "room.own.19": false,
		"room.out.19.lobby": false, "room.eph.19.lobby": false, "room.state.19.lobby": false, "room.state.19": false,
		"room.witness": false, "room.ack": false, "room.acknowledged.x": false, "_R_": false, "_R": false, "x._INBOX.y": false,
		"$KV.ROOMSVC.svc.x": false, "$KV.ROOMSECRET.resume": false, "$JS.API.STREAM.DELETE.ROOMS": false, "$JS.API.STREAM.PURGE.ROOMS": false,
		"$JS.ACK.x": false, "$SYS.REQ.SERVER.PING": false, "room.svc.close": false, "room.peer.release.x": false,
	} {
		if got := proto.Answerable(reply); got != want {
			t.Errorf("%q: got %v, want %v", reply, got, want)
		}
	}
}
