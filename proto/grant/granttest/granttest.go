// Package granttest provides invalid grants, which a server must refuse.
package granttest

import (
	"fmt"
	"strings"
)

// Hostile returns invalid values of the claim "rooms", with the name of a test for each. A
// server must refuse a token with such a claim.
func Hostile() map[string]string {
	many := make([]string, 256+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"%d"`, i)
	}
	return map[string]string{
		"null":                    `null`,
		"text":                    `"*"`,
		"number":                  `1`,
		"true":                    `true`,
		"unknown right":           `{"lobby":"read write"}`,
		"right in upper case":     `{"lobby":"READ"}`,
		"rights with commas":      `{"lobby":"read,say"}`,
		"rights as a list":        `{"lobby":["read"]}`,
		"rights are null":         `{"lobby":null}`,
		"rights are an object":    `{"lobby":{"read":true}}`,
		"repeated":                `{"lobby":"","lobby":"read"}`,
		"repeated by an escape":   `{"lobby":"","lobb\u0079":"read"}`,
		"repeated in a list":      `["lobby","lobby"]`,
		"star in the middle":      `{"a*b":"read"}`,
		"star at the beginning":   `{"*a":"read"}`,
		"two stars":               `{"**":"read"}`,
		"empty pattern":           `{"":"read"}`,
		"not a room name":         `{"a b":"read"}`,
		"NATS wildcard":           `{"a.>":"read"}`,
		"two dots":                `{"a..*":"read"}`,
		"only a dot":              `{".*":"read"}`,
		"begins with a dot":       `{".a":"read"}`,
		"ends with a dot":         `{"a.":"read"}`,
		"another placeholder":     `{"{name}":"read"}`,
		"placeholder cut":         `{"user:{id":"read"}`,
		"placeholder upper case":  `{"user:{ID}":"read"}`,
		"nested placeholder":      `{"{{id}}":"read"}`,
		"percent-encoded":         `{"a%2A":"read"}`,
		"invisible":               `{"a\u200b":"read"}`,
		"lone surrogate":          `{"a\ud800":"read"}`,
		"not UTF-8":               "{\"a\xff\":\"read\"}",
		"pattern is null":         `[null]`,
		"pattern is a number":     `[1]`,
		"nested list":             `[["a"]]`,
		"too many":                `[` + strings.Join(many, ",") + `]`,
		"too long":                `{"lobby":"` + strings.Repeat(" ", (4<<10)) + `"}`,
		"longer than a room name": `{"` + strings.Repeat("a", 65) + `":"read"}`,
		"cut short":               `{"lobby":"read"`,
		"more follows":            `{"lobby":"read"}{}`,
	}
}
