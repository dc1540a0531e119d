package proto

import (
	"strconv"
	"strings"
	"time"
)

// EventsStream is the JetStream stream from which applications read the events of all rooms. It
// is optional.
const EventsStream = "ROOMEVENTS"

// PositionBucket is the key-value bucket, on disk, with the position of each reader of
// [EventsStream] in roomsvc.
const PositionBucket = "ROOMPOSITION"

// Subjects of [EventsStream]. The stream sources the log under [SubjectEventLog], and the
// owner of a partition adds the others.
const (
	SubjectEventLog    = "room.evt.log.*.*"
	SubjectEventErased = "room.evt.erased.*" // for roomsvc itself: see [EventErasedSubject]
	eventLogPrefix     = "room.evt.log."
	logPrefix          = "room.log."

	// EventLogTo is the destination of the stream's subject transform for [SubjectAnyLog].
	EventLogTo = "room.evt.log.{{wildcard(1)}}.{{wildcard(2)}}"
)

// SubjectPeople is the subject on which roomsvc sends [AskPeople] to all gateways.
const SubjectPeople = "room.sys.people"

// Occurrence is the kind of an event about people, and the third token of its subject.
type Occurrence string

// The kinds.
const (
	PersonJoined Occurrence = "joined"   // a person's first session has joined
	PersonLeft   Occurrence = "left"     // a person's last session has left
	RoomOccupied Occurrence = "occupied" // the first person has joined
	RoomVacated  Occurrence = "vacated"  // the last person has left
	RoomPresent  Occurrence = "present"  // lists the people; it corrects earlier events
)

// Occurrences lists all kinds.
var Occurrences = []Occurrence{PersonJoined, PersonLeft, RoomOccupied, RoomVacated, RoomPresent}

// HeaderCount holds the number of people in the room after an [Occurrence]. The payload may
// be sealed; the header is not.
const HeaderCount = "Rc-Count"

// EventSubject returns room.evt.<kind>.<p>.<g>.
func (r Room) EventSubject(kind Occurrence) string {
	return r.partitioned("room.evt." + string(kind) + ".")
}

// EventsOf returns room.evt.<kind>.*.*.
func EventsOf(kind Occurrence) string { return "room.evt." + string(kind) + ".*.*" }

// EventErasedSubject returns room.evt.erased.<n>. Its message is the stub of the event whose
// sequence in [EventsStream] was n.
func EventErasedSubject(n uint64) string {
	return strings.TrimSuffix(SubjectEventErased, "*") + strconv.FormatUint(n, 10)
}

// LogSubjectOfEvent returns the subject in the log of an event that the stream has sourced.
func LogSubjectOfEvent(subject string) (string, bool) {
	rest, ok := strings.CutPrefix(subject, eventLogPrefix)
	return logPrefix + rest, ok
}

// AppendOccurrence appends the payload of an event:
// {"room":…,"at":…,"<kind>":{"id":…,"name":…,"reason":…,"count":n}}. Who and reason are zero if
// the kind has none.
func AppendOccurrence(b []byte, kind Occurrence, room Room, at time.Time, who Identity, reason LeaveReason, count int) []byte {
	b = appendString(append(b, `{"room":`...), room.String())
	b = append(AppendTime(append(b, `,"at":"`...), at), `",`...)
	return appendPerson(b, string(kind), who, count, reason)
}

// AppendPresent appends the payload of [RoomPresent]:
// {"room":…,"at":…,"present":{"count":n,"members":[…],"more":true}}. The caller lists at most
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
