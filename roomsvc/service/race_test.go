//go:build race

package service

// slow is how much slower things may be here.
const slow = 5
