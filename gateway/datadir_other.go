//go:build !unix

package main

import "os"

// lock does nothing where there is no flock: whoever starts two gateways on one
// directory there is not warned.
func lock(*os.File) error { return nil }
