package proto

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// StreamName is the JetStream stream that holds the log of every room.
const StreamName = "ROOMS"

// StateStream is the JetStream stream that holds one snapshot per room: what must
// outlive the room's log. See [Snapshot].
const StateStream = "ROOMSTATE"

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
	SubjectAnyRoom  = "room.*"             // the public way in, when the account has no mapping
	SubjectAnyLog   = "room.log.*.*"       // committed records
	SubjectAnyOwn   = "room.own.*"         // ownership markers
	SubjectAnyOut   = "room.out.*.*"       // records as the stream republishes them
	SubjectStates   = "room.state.*.*"     // snapshots
	SubjectStateOwn = "room.state.*"       // ownership markers of the snapshots
	SubjectWitness  = "room.state.witness" // how far the log has come; see [Witness]
	SubjectAnyWho   = "room.who.*.*"       // who is in a room
	SubjectAnyGate  = "room.gw.*"          // signs of life of gateways
)

// Subjects of the room service itself: its micro endpoints, and what its instances tell
// each other. Only room.svc.> is open to other accounts.
const (
	SubjectClose          = "room.svc.close"
	SubjectReopen         = "room.svc.reopen"
	SubjectInfo           = "room.svc.info"
	SubjectKeys           = "room.svc.keys"     // for gateways: the key that signs resume strings
	SubjectLost           = "room.svc.lost"     // for gateways: see [Lost]
	SubjectServiceAlive   = "room.svc.alive"    // for gateways: every instance with a fresh lease answers
	SubjectServiceChanged = "room.peer.changed" // an instance came, or is about to leave
)

// ReleaseSubject returns room.peer.release.<id>, where the instance id is asked to give
// up a partition.
func ReleaseSubject(id string) string { return "room.peer.release." + id }

// RepublishTo is the destination of the stream's RePublish for [SubjectAnyLog].
const RepublishTo = "room.out.{{wildcard(1)}}.{{wildcard(2)}}"

// MapTo is the destination of an account mapping for [SubjectAnyRoom], by which each
// room service receives only the commands of its own partitions.
var MapTo = fmt.Sprintf("room.in.{{partition(%d,1)}}.{{wildcard(1)}}", Partitions)

// Subject returns room.<g>, the public way in: a request whose reply is the ack or
// the refusal.
func (r Room) Subject() string { return "room." + r.Token() }

// LogSubject returns room.log.<p>.<g>, where the owner commits the room's records.
func (r Room) LogSubject() string { return r.partitioned("room.log.") }

// OutSubject returns room.out.<p>.<g>, where the stream republishes them.
func (r Room) OutSubject() string { return r.partitioned("room.out.") }

// EphemeralSubject returns room.eph.<p>.<g>: signals, joins and leaves, never stored.
func (r Room) EphemeralSubject() string { return r.partitioned("room.eph.") }

// StateSubject returns room.state.<p>.<g>, where the owner keeps the room's snapshot.
func (r Room) StateSubject() string { return r.partitioned("room.state.") }

// WhoSubject returns room.who.<p>.<g>, where gateways are asked who is in the room.
func (r Room) WhoSubject() string { return r.partitioned("room.who.") }

func (r Room) partitioned(prefix string) string {
	if r.IsZero() {
		panic("proto: subject of no room")
	}
	return prefix + strconv.Itoa(r.Partition()) + "." + r.Token()
}

// InSubject returns room.in.<p>.*, which an owner of partition p subscribes to: where
// room.<g> arrives when the account maps it by partition.
func InSubject(p int) string { return "room.in." + strconv.Itoa(p) + ".*" }

// OwnSubject returns room.own.<p>, the fence of partition p.
func OwnSubject(p int) string { return "room.own." + strconv.Itoa(p) }

// StateOwnSubject returns room.state.<p>, the fence of partition p's snapshots.
func StateOwnSubject(p int) string { return "room.state." + strconv.Itoa(p) }

// GatewaySubject returns room.gw.<id>, where a gateway tells the others that it lives.
func GatewaySubject(id string) string { return "room.gw." + id }

// OutPartition returns room.out.<p>.*, all records of partition p.
func OutPartition(p int) string { return "room.out." + strconv.Itoa(p) + ".*" }

// EphemeralPartition returns room.eph.<p>.*, everything unstored of partition p.
func EphemeralPartition(p int) string { return "room.eph." + strconv.Itoa(p) + ".*" }

// ErrPartition is returned for a subject whose partition is not the room's. The usual
// cause is an account mapping with another number of partitions.
var ErrPartition = fmt.Errorf("the subject has another partition than the room: map %q to %q in nats.conf", SubjectAnyRoom, MapTo)

// errSubject is returned for a subject that names no room.
var errSubject = errors.New("not a room subject")

// RoomOfSubject returns the room a subject names: the last token of room.<g>,
// room.in.<p>.<g>, room.log.<p>.<g>, room.out.<p>.<g>, room.eph.<p>.<g>,
// room.who.<p>.<g> and room.state.<p>.<g>. It fails on every other subject and on a
// name that [ParseRoom] refuses. If <p> is not the room's partition, the error wraps
// [ErrPartition].
func RoomOfSubject(subject string) (Room, error) {
	rest, ok := strings.CutPrefix(subject, "room.")
	if !ok {
		return Room{}, errSubject
	}
	_, tail, deep := strings.Cut(rest, ".")
	if !deep {
		return RoomOfToken(rest)
	}
	p, token, ok := strings.Cut(tail, ".")
	if !ok {
		return Room{}, errSubject
	}
	r, err := RoomOfToken(token)
	if err != nil {
		return Room{}, err
	}
	if p != strconv.Itoa(r.Partition()) {
		return Room{}, ErrPartition
	}
	return r, nil
}
