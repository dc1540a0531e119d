package service

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"roomcast/proto"
	"roomcast/proto/history/historytest"
)

// A damaged revocation is lost. The gateways still receive the others, and know when they have all.
func TestDamagedRevocationHidesNoOther(t *testing.T) {
	w := newWreck(t)
	call := func(subject string, request, answer any) {
		t.Helper()
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		m, err := w.nc.Request(subject, body, 10*time.Second)
		if err == nil {
			err = json.Unmarshal(m.Data, answer)
		}
		if err != nil {
			t.Fatalf("request on %s: %v", subject, err)
		}
	}
	for _, id := range []string{"ann", "ben", "dan"} {
		var answer proto.Revoked
		if call(proto.SubjectRevoke, proto.Revocation{ID: id}, &answer); answer.Error != nil {
			t.Fatal(answer.Error)
		}
	}
	for _, tt := range []struct {
		damaged string
		want    []string
	}{{"dan", []string{"ann", "ben"}}, {"ann", []string{"ben"}}} {
		w.damaged(false, func(s historytest.Store) { s.Flip("KV_"+proto.RevokedBucket, `"id":"`+tt.damaged[:2]) })
		var ids []string
		page := proto.Revocations{More: true}
		for asked := 0; page.More; asked++ {
			if asked == 5 {
				t.Fatalf("the list has no end after %v", ids)
			}
			after := page.Last
			page = proto.Revocations{}
			if call(proto.SubjectRevocations, proto.ListRevocations{After: after}, &page); page.Error != "" {
				t.Fatal(page.Error)
			}
			for _, e := range page.List {
				ids = append(ids, e.ID)
			}
		}
		if !slices.Equal(ids, tt.want) {
			t.Errorf("got the revocations of %v, want %v", ids, tt.want)
		}
	}
}
