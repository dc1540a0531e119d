// Package clocktest simulates a change of the system's clock, as a program sees it. In a
// time.Time, the wall reading has jumped, and the monotonic reading has not.
package clocktest

import (
	"time"
	"unsafe"
)

// Set returns t with its wall reading moved by whole seconds. The time t must come from
// time.Now. Package time has no such operation, so Set relies on the memory layout of a
// time.Time. Its first word has one flag bit, 33 bits of seconds and 30 bits of nanoseconds.
func Set(t time.Time, by time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(by/time.Second) << 30
	return t
}
