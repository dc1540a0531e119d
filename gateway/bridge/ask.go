package bridge

import (
	"context"
	"errors"
	"fmt"

	"roomcast/proto"
)

// Ask sends a question to the application's backend over NATS. The last part of the question's
// subject is kind. Ask returns the first answer.
func (b *Bridge) Ask(ctx context.Context, kind string, question []byte) ([]byte, error) {
	if !b.connected.Load() {
		return nil, errors.New("nats is not connected")
	}
	m, err := b.sayConn.RequestWithContext(ctx, proto.PrefixAsk+kind, question)
	if err != nil {
		return nil, fmt.Errorf("ask on %s%s: %w", proto.PrefixAsk, kind, err)
	}
	return m.Data, nil
}
