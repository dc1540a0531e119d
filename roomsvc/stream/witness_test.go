package stream

import (
	"testing"
	"time"

	"roomcast/proto"
)

func TestJudgeNoticesALogThatLostItsEnd(t *testing.T) {
	made, anew := time.Unix(1000, 0), time.Unix(2000, 0)
	for name, c := range map[string]struct {
		known   proto.Witness
		created time.Time
		marker  uint64
		want    proto.Witness
		loss    *Loss
	}{
		"a first start":            {proto.Witness{}, made, 1, proto.Witness{Created: made, Last: 1}, nil},
		"a log of another process": {proto.Witness{}, made, 77, proto.Witness{Created: made, Last: 77}, nil},
		"the next marker":          {proto.Witness{Created: made, Last: 76}, made, 77, proto.Witness{Created: made, Last: 77}, nil},
		"a log that others wrote":  {proto.Witness{Created: made, Last: 5}, made, 77, proto.Witness{Created: made, Last: 77}, nil},
		"a lost end": {proto.Witness{Created: made, Last: 100}, made, 41,
			proto.Witness{Created: made, Last: 41, Cut: 40, Losses: 1}, &Loss{Missing: 60, Cut: 40}},
		"exactly the last record lost": {proto.Witness{Created: made, Last: 100}, made, 100,
			proto.Witness{Created: made, Last: 100, Cut: 99, Losses: 1}, &Loss{Missing: 1, Cut: 99}},
		"a second loss": {proto.Witness{Created: made, Last: 60, Cut: 40, Losses: 1}, made, 51,
			proto.Witness{Created: made, Last: 51, Cut: 50, Losses: 2}, &Loss{Missing: 10, Cut: 50}},
		"a cut of long ago": {proto.Witness{Created: made, Last: 60, Cut: 40, Losses: 1}, made, 61,
			proto.Witness{Created: made, Last: 61, Cut: 40, Losses: 1}, nil},
		"a stream that was made again": {proto.Witness{Created: made, Last: 100}, anew, 1,
			proto.Witness{Created: anew, Last: 1, Cut: 0, Losses: 1}, &Loss{Created: true, Missing: 100}},
		"a stream that was made again and is longer": {proto.Witness{Created: made, Last: 100}, anew, 500,
			proto.Witness{Created: anew, Last: 500, Cut: 499, Losses: 1}, &Loss{Created: true, Cut: 499}},
	} {
		got, loss := judge(c.known, c.created, c.marker)
		if got != c.want || (loss == nil) != (c.loss == nil) || loss != nil && *loss != *c.loss {
			t.Errorf("%s: got %+v and loss %+v, want %+v and %+v", name, got, loss, c.want, c.loss)
		}
	}
}

func TestNewerWitnessCounts(t *testing.T) {
	made := time.Unix(1000, 0)
	long, lost := proto.Witness{Created: made, Last: 1000}, proto.Witness{Created: made, Last: 50, Cut: 40, Losses: 1}
	for _, c := range []struct{ a, b, want proto.Witness }{
		{proto.Witness{}, long, long},
		{long, lost, lost},
		{proto.Witness{Created: made, Last: 7}, long, long},
		{lost, proto.Witness{Created: made, Last: 90, Cut: 40, Losses: 1}, proto.Witness{Created: made, Last: 90, Cut: 40, Losses: 1}},
	} {
		if got := newer(c.a, c.b); got != c.want {
			t.Errorf("newer(%+v, %+v) = %+v, want %+v", c.a, c.b, got, c.want)
		}
		if got := newer(c.b, c.a); got != c.want {
			t.Errorf("newer(%+v, %+v) = %+v, want %+v", c.b, c.a, got, c.want)
		}
	}
}
