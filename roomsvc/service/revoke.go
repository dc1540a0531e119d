package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// answerRevoke stores a revocation, sends it to the gateways and answers.
func (a api) answerRevoke(r micro.Request) {
	var e proto.Revocation
	if err := json.Unmarshal(r.Data(), &e); err != nil {
		e = proto.Revocation{} // which Check refuses
	}
	if refusal := e.Check(); refusal != nil {
		a.respond(r, proto.Revoked{Error: &proto.Refused{Code: refusal.Code, Message: refusal.Message}})
		return
	}
	a.run(r, func(ctx context.Context) any {
		refused, err := a.s.credentials.revoke(ctx, &e)
		if err != nil {
			a.s.cfg.Log.Warn("store revocation", "error", err)
			refused = &proto.Refused{Code: proto.Unavailable, Message: "the revocation cannot be stored now; try again"}
		}
		return proto.Revoked{At: e.At, Error: refused}
	})
}

// revoke sets the time of e, stores e and sends it to the gateways. It returns a refusal if too
// many revocations are stored.
func (c *credentials) revoke(ctx context.Context, e *proto.Revocation) (*proto.Refused, error) {
	status, err := c.revoked.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("count revocations: %w", err)
	}
	if status.Values() >= proto.MaxRevocations {
		return &proto.Refused{Code: proto.Overloaded, Message: "there are too many revocations; change the key of the tokens instead"}, nil
	}
	e.At = time.Now().UnixMilli()
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(e.ID + "\x00" + e.Session))
	if _, err := c.revoked.Put(ctx, hex.EncodeToString(hash[:16]), body); err != nil {
		return nil, err
	}
	return nil, c.nc.Publish(proto.SubjectRevoked, body)
}

// answerRevocations sends a gateway one page of the stored revocations.
func (a api) answerRevocations(r micro.Request) {
	var ask proto.ListRevocations
	if err := json.Unmarshal(r.Data(), &ask); err != nil {
		a.respond(r, proto.Revocations{Error: "the request names no revision"})
		return
	}
	a.run(r, func(ctx context.Context) any {
		page, err := a.s.credentials.revocations(ctx, ask.After)
		if err != nil {
			a.s.cfg.Log.Warn("list revocations", "error", err)
			return proto.Revocations{Error: "the revocations cannot be read now"}
		}
		return page
	})
}

// revocations returns one page of the stored revocations, oldest first. The page begins behind the
// revision after. Any replica may read the page, but the stream's leader confirms that the last page
// is the last one, because a replica may be behind.
func (c *credentials) revocations(ctx context.Context, after uint64) (page proto.Revocations, err error) {
	const bucket = "KV_" + proto.RevokedBucket
	// The server counts the messages behind the page. Only with the subject ">" can it do so without
	// looking at each of them.
	found, err := jetstreamext.GetBatch(ctx, c.js, bucket, proto.MaxRevocations, jetstreamext.GetBatchSubject(">"),
		jetstreamext.GetBatchSeq(after+1), jetstreamext.GetBatchMaxBytes(proto.RevocationsPage))
	if err != nil {
		return page, err
	}
	for m, err := range found {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		} else if err != nil {
			return page, err
		}
		var e proto.Revocation
		if page.Last, page.More = m.Sequence, true; json.Unmarshal(m.Data, &e) == nil {
			page.List = append(page.List, e)
		}
	}
	if page.More {
		return page, nil
	}
	next, last, err := stream.After(ctx, c.nc, bucket, after)
	switch {
	case err != nil:
		return page, err
	case next > 0:
		return page, fmt.Errorf("a replica of %s is behind its leader", bucket)
	case last < after: // the bucket was made again, or a backup was restored; let the gateway read the list from its beginning
		return proto.Revocations{More: true}, nil
	}
	return proto.Revocations{Last: after}, nil
}
