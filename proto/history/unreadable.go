package history

import (
	"errors"

	"roomcast/proto"
	"roomcast/proto/seal"
)

// Unreadable returns the refusal for clients if err means that this process cannot read a record of
// the log. Otherwise it returns nil. The refusal sets no time for another try, because another try
// would not help. The result everywhere reports whether the cause also affects other rooms: this
// process is too old, or lacks a key.
func Unreadable(err error) (why *proto.Refusal, everywhere bool) {
	switch {
	case errors.Is(err, proto.ErrNewerSchema):
		return proto.Refuse(proto.Unsupported, "a newer version of roomcast wrote the room's log; upgrade this server"), true
	case errors.Is(err, seal.ErrNoKey):
		return proto.Refuse(proto.Unsupported, "the room's log is encrypted with a key that this server does not have"), true
	case errors.Is(err, seal.ErrPlain):
		return proto.Refuse(proto.Unsupported, "the room's log is not encrypted, and this server reads encrypted logs only"), true
	case errors.Is(err, seal.ErrTampered), errors.Is(err, seal.ErrEnvelope):
		return proto.Refuse(proto.Unavailable, "a record of the room was changed after it was stored; an operator must look at the log"), false
	}
	return nil, false
}
