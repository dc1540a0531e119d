// Package clocktest gives tests what setting the system's clock gives a program: times
// whose wall reading has jumped and whose monotonic reading has not.
package clocktest

import (
	"time"
	"unsafe"
)

// Set returns t, which must come from time.Now, with its wall reading moved by whole
// seconds. Package time has no such operation. Set relies on its layout: behind one flag
// bit, the first word of such a time has 33 bits of seconds and 30 bits of nanoseconds.
func Set(t time.Time, by time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(by/time.Second) << 30
	return t
}
