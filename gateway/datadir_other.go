//go:build !unix

package main

import "os"

// lock does nothing on systems without flock. On these systems, two gateways can use the same
// directory.
func lock(*os.File) error { return nil }
