// Package js holds the JavaScript client, whose modules a gateway serves as they are. The npm
// package @roomcast/client is built from the same files.
package js

import "embed"

// Files holds the modules. room.js imports the others.
//
//go:embed room.js membership.js message.js
var Files embed.FS
