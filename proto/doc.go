// Package proto is the contract of Roomcast: names, subjects, records, commands,
// events, refusals and close codes. It has no goroutine, no I/O and needs nothing
// but the standard library. PROTOCOL.md beside this file is the same contract for
// somebody who writes a client in another language; testdata/golden holds the
// examples that the Go and the JavaScript tests read.
//
// # Glossary
//
// One word per idea, the same in code, logs, metrics and documents:
//
//	room       a named, ordered conversation; see [Room]
//	partition  one of 256 fixed slices of all rooms; see [Room.Partition]
//	member     a session that is in a room
//	sender     who a message is from: an authenticated or self-kept identity; see [Identity]
//	session    one WebSocket connection and what it may do
//	command    what a client asks for: say, join, leave, history, ...; see [Command]
//	key        a sender's own name for one message, the unit of exactly-once
//	message    what a sender says
//	event      what the room tells its members, numbered seq = 1, 2, 3, ...; see [Event]
//	signal     an event that is not stored and has no number
//	record     an event as the log keeps it; see [Record]
//	log        all records of a room; the stream holds the logs of all rooms
//	refusal    a typed "no" that says what to do next; see [Refusal]
//	gap        an announced hole: events that can no longer be had; see [Gap]
//	epoch      one unbroken history of a room; a new one begins when the log has aged out or lost its end
//	snapshot   what must be known of a room beyond its log; see [Snapshot]
//	digest     identifies what a key covers; see [Digest]
//	owner      the roomsvc instance that alone commits a partition
//	lease      how long an instance counts as alive without renewing it
//	fence      what makes an outdated owner's commit fail
//	commit     making records durable: the stream has acknowledged them
//	lane       what one sender says in one room: one request on its way, the rest behind it
//	feed       what follows rooms for a gateway and brings their records into order
//	ring       the newest part of a room's log, as the frames that members are written
//	cursor     how far a member has been served
//	stamp      the time text that text sessions see before a message
package proto
