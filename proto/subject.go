package proto

import (
	"errors"
	"strconv"
	"strings"
)

// StreamName is the JetStream stream that holds the log of every room.
const StreamName = "ROOMS"

// LeaseBucket is the key-value bucket in which roomsvc instances keep their leases. It
// is held in memory: when all servers have stopped there is no lease left to keep.
const LeaseBucket = "ROOMSVC"

// SecretBucket and SecretKey name the key-value entry, on disk, that holds the 32 random
// bytes which sign resume strings. The first roomsvc makes it; gateways only read it.
const (
	SecretBucket = "ROOMSECRET"
	SecretKey    = "resume"
)

// Wildcards over all rooms.
const (
	SubjectAnyRoom = "room.*"       // the public way in, when the account has no mapping
	SubjectAnyLog  = "room.log.*.*" // committed records
	SubjectAnyOwn  = "room.own.*"   // ownership markers
	SubjectAnyOut  = "room.out.*.*" // records as the stream republishes them
	SubjectAnyWho  = "room.who.*.*" // who is in a room
	SubjectAnyGate = "room.gw.*"    // signs of life of gateways
)

// Subjects of the room service itself: its micro endpoints, and what its instances tell
// each other.
const (
	SubjectAnyService     = "room.svc.>"
	SubjectClose          = "room.svc.close"
	SubjectReopen         = "room.svc.reopen"
	SubjectInfo           = "room.svc.info"
	SubjectServiceChanged = "room.svc.changed" // an instance came, or is about to leave
)

// ReleaseSubject returns room.svc.release.<id>, where the instance id is asked to give up
// a partition.
func ReleaseSubject(id string) string { return "room.svc.release." + id }

// RepublishTo is the destination of the stream's RePublish for [SubjectAnyLog].
const RepublishTo = "room.out.{{wildcard(1)}}.{{wildcard(2)}}"

// Subject returns room.<g>, the public way in: a request whose reply is the ack or
// the refusal.
func (r Room) Subject() string { return "room." + r.name }

// LogSubject returns room.log.<p>.<g>, where the owner commits the room's records.
func (r Room) LogSubject() string { return r.partitioned("room.log.") }

// OutSubject returns room.out.<p>.<g>, where the stream republishes them.
func (r Room) OutSubject() string { return r.partitioned("room.out.") }

// EphemeralSubject returns room.eph.<p>.<g>: signals, joins and leaves, never stored.
func (r Room) EphemeralSubject() string { return r.partitioned("room.eph.") }

// WhoSubject returns room.who.<p>.<g>, where gateways are asked who is in the room.
func (r Room) WhoSubject() string { return r.partitioned("room.who.") }

func (r Room) partitioned(prefix string) string {
	if r.IsZero() {
		panic("proto: subject of no room")
	}
	return prefix + strconv.Itoa(r.Partition()) + "." + r.name
}

// InSubject returns room.in.<p>.*, which an owner of partition p subscribes to: where
// room.<g> arrives when the account maps it by partition.
func InSubject(p int) string { return "room.in." + strconv.Itoa(p) + ".*" }

// OwnSubject returns room.own.<p>, the fence of partition p.
func OwnSubject(p int) string { return "room.own." + strconv.Itoa(p) }

// GatewaySubject returns room.gw.<id>, where a gateway tells the others that it lives.
func GatewaySubject(id string) string { return "room.gw." + id }

// OutPartition returns room.out.<p>.*, all records of partition p.
func OutPartition(p int) string { return "room.out." + strconv.Itoa(p) + ".*" }

// EphemeralPartition returns room.eph.<p>.*, everything unstored of partition p.
func EphemeralPartition(p int) string { return "room.eph." + strconv.Itoa(p) + ".*" }

// errSubject is what RoomOfSubject says of subjects that are not ours.
var errSubject = errors.New("not a room subject")

// RoomOfSubject returns the room a subject speaks of: the last token of room.<g>,
// room.in.<p>.<g>, room.log.<p>.<g>, room.out.<p>.<g>, room.eph.<p>.<g> and
// room.who.<p>.<g>. It fails on every other subject, on a name that [ParseRoom]
// refuses and on a partition that is not the room's.
func RoomOfSubject(subject string) (Room, error) {
	rest, ok := strings.CutPrefix(subject, "room.")
	if !ok {
		return Room{}, errSubject
	}
	_, tail, deep := strings.Cut(rest, ".")
	if !deep {
		return ParseRoom(rest)
	}
	p, name, ok := strings.Cut(tail, ".")
	if !ok {
		return Room{}, errSubject
	}
	r, err := ParseRoom(name)
	if err != nil {
		return Room{}, err
	}
	if p != strconv.Itoa(r.Partition()) {
		return Room{}, errSubject
	}
	return r, nil
}
