package proto

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// EventsStream is the JetStream stream from which applications read the events of all rooms. A
// deployment may do without this stream.
const EventsStream = "ROOMEVENTS"

// PositionBucket is the key-value bucket, on disk, in which roomsvc keeps how far each of its
// readers has read [EventsStream].
const PositionBucket = "ROOMPOSITION"

// Subjects of [EventsStream]. The stream copies the log's records to SubjectEventLog (JetStream
// calls this a source). The owner of a partition publishes the other messages.
const (
	SubjectEventLog    = "room.evt.log.*.*"
	SubjectEventErased = "room.evt.erased.*" // only for roomsvc; see [EventErasedSubject]
	eventLogPrefix     = "room.evt.log."
	logPrefix          = "room.log."

	// EventLogTo is the subject to which the stream maps [SubjectAnyLog].
	EventLogTo = "room.evt.log.{{wildcard(1)}}.{{wildcard(2)}}"
)

// SubjectPeople is the subject on which roomsvc sends an [AskPeople] to all gateways.
const SubjectPeople = "room.sys.people"

// Occurrence is the kind of an event about people. It is the third token of the event's subject.
type Occurrence string

// The kinds of events about people.
const (
	PersonJoined Occurrence = "joined"   // the first session of a person has joined
	PersonLeft   Occurrence = "left"     // the last session of a person has left
	RoomOccupied Occurrence = "occupied" // the first person has joined the room
	RoomVacated  Occurrence = "vacated"  // the last person has left the room
	RoomPresent  Occurrence = "present"  // lists the people in the room, and corrects earlier events
)

// Occurrences lists all kinds of events about people.
var Occurrences = []Occurrence{PersonJoined, PersonLeft, RoomOccupied, RoomVacated, RoomPresent}

// HeaderCount is a header with the number of people in the room after an [Occurrence]. Unlike
// the payload, it is never sealed.
const HeaderCount = "Rc-Count"

// EventSubject returns room.evt.<kind>.<p>.<g>, for events about people in the room.
func (r Room) EventSubject(kind Occurrence) string {
	return r.partitioned("room.evt." + string(kind) + ".")
}

// ParseEventSubject reads the output of [Room.EventSubject]. It returns false for other subjects.
func ParseEventSubject(subject string) (kind Occurrence, room Room, ok bool) {
	parts := strings.Split(subject, ".")
	if len(parts) != 5 || parts[0] != "room" || parts[1] != "evt" || !slices.Contains(Occurrences, Occurrence(parts[2])) {
		return "", Room{}, false
	}
	room, err := RoomOfToken(parts[4])
	return Occurrence(parts[2]), room, err == nil
}

// EventsOf returns room.evt.<kind>.*.*, for the events of one kind in all rooms.
func EventsOf(kind Occurrence) string { return "room.evt." + string(kind) + ".*.*" }

// EventErasedSubject returns room.evt.erased.<n>. The message on this subject is a stub. It
// replaces the event whose sequence in [EventsStream] was n.
func EventErasedSubject(n uint64) string {
	return strings.TrimSuffix(SubjectEventErased, "*") + strconv.FormatUint(n, 10)
}

// LogSubjectOfEvent returns the subject that an event of [EventsStream] has in the log. It
// returns false if the event does not come from the log.
func LogSubjectOfEvent(subject string) (string, bool) {
	rest, ok := strings.CutPrefix(subject, eventLogPrefix)
	return logPrefix + rest, ok
}

// AppendOccurrence appends the payload of an event about people:
// {"room":…,"at":…,"<kind>":{"id":…,"name":…,"reason":…,"count":n}}. If the kind of event has no
// person or no reason, the caller passes zero for it.
func AppendOccurrence(b []byte, kind Occurrence, room Room, at time.Time, who Identity, reason LeaveReason, count int) []byte {
	b = appendString(append(b, `{"room":`...), room.String())
	b = append(AppendTime(append(b, `,"at":"`...), at), `",`...)
	return appendPerson(b, string(kind), who, count, reason)
}

// AppendPresent appends the payload of [RoomPresent]:
// {"room":…,"at":…,"present":{"count":n,"members":[…],"more":true}}. The caller passes at most
// [MaxListed] people.
func AppendPresent(b []byte, room Room, at time.Time, count int, people []Identity) []byte {
	b = appendString(append(b, `{"room":`...), room.String())
	b = append(AppendTime(append(b, `,"at":"`...), at), `","present":{"count":`...)
	b = append(strconv.AppendInt(b, int64(count), 10), `,"members":[`...)
	for i, who := range people {
		if i > 0 {
			b = append(b, ',')
		}
		b = who.AppendJSON(b)
	}
	b = append(b, ']')
	if count > len(people) {
		b = append(b, `,"more":true`...)
	}
	return append(b, "}}"...)
}
