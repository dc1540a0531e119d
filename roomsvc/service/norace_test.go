//go:build !race

package service

// slow is the factor by which a test may take longer.
const slow = 1
