// Package proto is the contract between clients, gateways, the room service and the log.
// It has no goroutine and no I/O, and imports only the standard library. PROTOCOL.md
// beside this file is the same contract for authors of clients in other languages. The
// Go, JavaScript and Python tests read the examples in testdata/golden.
//
// # Where to look
//
//	verb.go, act.go   the tables of verbs and acts: begin here to add one
//	command.go        a frame of a JSON session, from a client to a gateway
//	request.go        a message or an act, from a gateway to the owner of a room
//	reply.go          the owner's answer
//	event.go          a stored message or act, for members and for the log
//	unstored.go       signals, joins and leaves, which the log does not contain
//	record.go         an event in the log, with its header
//	answer.go         the answers that WebSocket, HTTP and NATS share
//	refusal.go        errors that a client can act on
//	close.go          the table of close codes
//	room.go           names, partitions; subject.go: the subjects built from them
//	snapshot.go       the state of a room that outlives its log
//
// # Glossary
//
// Each idea has one word, the same in code, logs, metrics and documents:
//
//	room       a named, ordered conversation; see [Room]
//	partition  one of 256 fixed slices of all rooms; see [Room.Partition]
//	session    one client connection with an identity and rights
//	member     a session that is in a room
//	person     all sessions with the same id
//	guest      a client without a credential; on NATS, a client of an account that is not trusted
//	sender     the identity behind a message; see [Identity]
//	moderator  a sender with the right to moderate
//	backend    the application's server, which a gateway asks what a client may do
//	verb       the kind of a command: say, join, history, ...; see [Verbs]
//	command    one frame of a JSON session; see [Command]; in roomsvc, a request that a partition handles
//	right      permission for verbs in a room: read, say, moderate; see [Right]
//	grant      the rights of a client in all rooms; see package grant
//	request    a message or an act on its way to the owner of its room; see [Request]
//	reply      the owner's answer to a request; see [Reply]
//	ack        the reply, or the answer to a client, that says that an event is stored
//	key        a name that a sender gives to a request, by which the owner recognises a resend
//	digest     a hash of the content for which a key was given; see [Digest]
//	message    content that a sender says in a room; see [Content]
//	line       text that a person typed
//	close word  a line with which a sender closes its own connection, by default 关闭
//	act        a moderator's request that changes a room, such as close; see [Acts]
//	event      a stored message or act, numbered seq = 1, 2, 3, ...; see [Event]
//	stub       what remains of a deleted event: its seq, time and sender; see [Stub]
//	signal     a short-lived notification to members that is not stored
//	ephemeral  a signal, a join or a leave: sent to members, but not stored
//	record     an event as the log keeps it; see [Record]
//	log        the records of one room; the stream contains the logs of all rooms
//	head       the newest record of a room, or a description of it; of a ring: the offset after its newest frame
//	page       consecutive records of a room: those that one read returns, or one of the fixed groups of 64
//	seal       to encrypt a payload; see package seal
//	restrictions  the bans, mutes and slow mode of a room, and which of its messages were deleted or edited
//	hole       a record that has not arrived, although a later one has
//	epoch      one unbroken history of a room; another one begins after the log has aged out or lost its end
//	replay     the events from the log that a client receives after its join
//	resume     to continue after an interruption from the last event that the client has received
//	gap        the announcement of events that a member does not receive; see [Gap]
//	reset      a gap after which the member receives a new epoch, or the log from its beginning
//	snapshot   the state of a room that outlives its log; see [Snapshot]
//	witness    the stored position of the stream's end, by which a loss of the end is noticed
//	refusal    a typed error that says what to do next; see [Refusal]
//	ticket     a credential that opens one session; the application requests it for a user
//	resume string  a credential in hello, with which a client's next session has the same identity
//	instance   one process of the room service, roomsvc
//	owner      the instance that commits the records of a partition
//	term       the time in which one instance owns a partition, from its marker to the next one
//	lease      the time for which an instance counts as alive without a renewal
//	fence      an owner's right to commit; the stream refuses commits under an older fence
//	marker     the message in the stream with which an owner takes a fence
//	commit     to store records; they are committed when the stream has acknowledged them
//	carrier    what carries requests, replies and records between gateways and owners: NATS, or direct calls
//	follow     to receive the records of a room
//	feed       a goroutine of a gateway that receives the records of some partitions
//	loop       an event loop: a goroutine of a gateway that serves many connections
//	hub        the rooms and members of one loop
//	slot       the index of a connection in its loop
//	delivery   an event, a signal or a gap that a feed passes to a loop
//	frame      the bytes of one event or answer, as a connection receives them
//	format     the form of the frames for one kind of session, such as JSON sessions
//	audience   the members of a room in one loop whose frames have the same format
//	ring       the newest part of a room's log in a gateway, as encoded frames
//	cursor     a member's position in its ring; without one, the member is served from the log
//	notice     what a hub tells a session, such as that a room was closed
//	tracker    what a gateway knows of the people in one room
//	share      a gateway's list of the people that it has in a room
//	mark       the number of a state of this list
//	stamp      the time text that text sessions see before a message
package proto
