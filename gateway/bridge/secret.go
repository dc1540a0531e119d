package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"roomcast/proto"
	"roomcast/proto/seal"
)

const (
	secretWait = 500 * time.Millisecond // between two attempts
	secretTime = 5 * time.Second        // for one attempt
)

// Secret returns the key that signs resume strings, nil until it is known.
func (b *Bridge) Secret() []byte {
	if s := b.secret.Load(); s != nil {
		return *s
	}
	return nil
}

// fetchSecret asks roomsvc for the secret until it has it and the log is readable. A
// gateway that lacks the key of the log could serve nobody.
func (b *Bridge) fetchSecret(ctx context.Context) {
	for said := ""; ; {
		secret, err := b.askSecret(ctx)
		if err == nil {
			b.secret.Store(&secret)
			return
		}
		b.noSecret.Store(&err)
		switch why := err.Error(); {
		case why == said:
		case errors.Is(err, seal.ErrNoKey):
			b.cfg.Log.Error("read log", "error", err)
			said = why
		default:
			b.cfg.Log.Info("waiting for the secret of resume strings, which roomsvc holds", "error", err)
			said = why
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(secretWait):
		}
	}
}

func (b *Bridge) askSecret(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTime)
	defer cancel()
	m, err := b.readConn.RequestWithContext(ctx, proto.SubjectKeys, nil)
	if err != nil {
		return nil, fmt.Errorf("ask on %s: %w", proto.SubjectKeys, err)
	}
	var keys proto.Keys
	if err := json.Unmarshal(m.Data, &keys); err != nil {
		return nil, fmt.Errorf("read answer on %s: %w", proto.SubjectKeys, err)
	}
	if len(keys.Resume) < 32 {
		return nil, fmt.Errorf("the secret has %d bytes, it must have 32", len(keys.Resume))
	}
	if keys.Imported {
		b.log.UseAPI(proto.ImportedAPI)
	}
	return keys.Resume, b.log.Readable(ctx)
}
