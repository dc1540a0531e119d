//go:build !unix

package main

import "os"

// lock does nothing on systems without flock. There, two gateways can use one directory.
func lock(*os.File) error { return nil }
