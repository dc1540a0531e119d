//go:build race

package service

// slow is the factor by which a test may take longer with the race detector.
const slow = 5
