// Package js holds the JavaScript client, whose modules a gateway serves. The npm package
// @roomcast/client is built from the same files.
package js

import "embed"

// Files holds the modules. room.js imports the others, events.js only where no WebSocket opens.
//
//go:embed room.js membership.js message.js events.js
var Files embed.FS
