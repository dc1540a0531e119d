package proto

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// StreamName is the name of the JetStream stream that stores the logs of all rooms.
const StreamName = "ROOMS"

// StateStream is the name of the JetStream stream that stores one [Snapshot] for each room.
const StateStream = "ROOMSTATE"

// LeaseBucket is the key-value bucket with the leases of roomsvc instances. It is stored in
// memory, so no lease survives if all NATS servers stop.
const LeaseBucket = "ROOMSVC"

// SecretBucket is a key-value bucket on disk. Its entry SecretKey contains the [SigningKeys],
// which the first roomsvc creates. FirstSecret is the entry of version 0.1.0, which had only one
// key.
const (
	SecretBucket = "ROOMSECRET"
	SecretKey    = "keys"
	FirstSecret  = "resume"
)

// TicketBucket is the key-value bucket, on disk, with the numbers of the tickets that were used.
const TicketBucket = "ROOMTICKET"

// RevokedBucket is the key-value bucket, on disk, with one [Revocation] for each id or session.
const RevokedBucket = "ROOMREVOKED"

// Subjects on which roomsvc sends a [Revocation] or a [KeysChanged] to all gateways.
const (
	SubjectRevoked     = "room.sys.revoked"
	SubjectKeysChanged = "room.sys.keys"
)

// Wildcards over all rooms.
const (
	SubjectAnyRoom  = "room.*"             // requests, if the account has no subject mapping
	SubjectAnyLog   = "room.log.*.*"       // committed records
	SubjectAnyOwn   = "room.own.*"         // fences of partitions
	SubjectStates   = "room.state.*.*"     // snapshots
	SubjectStateOwn = "room.state.*"       // fences of the partitions' snapshots
	SubjectWitness  = "room.state.witness" // see [Witness]
	SubjectAnyWho   = "room.who.*.*"       // questions about the members of a room
	SubjectAnyGate  = "room.gw.*"          // heartbeats of gateways
)

// Subjects of the room service: the endpoints of its NATS micro service, and messages between
// its instances. Other accounts can use only room.svc.>.
const (
	SubjectClose          = "room.svc.close"
	SubjectReopen         = "room.svc.reopen"
	SubjectInfo           = "room.svc.info"
	SubjectKeys           = "room.svc.keys"     // request of gateways, see [AskKeys]
	SubjectTicket         = "room.svc.ticket"   // request of gateways, see [UseTicket]
	SubjectRevoke         = "room.svc.revoke"   // request of gateways to store a [Revocation]
	SubjectRevocations    = "room.svc.revoked"  // request of gateways, see [ListRevocations]
	SubjectLost           = "room.svc.lost"     // report of gateways, see [Lost]
	SubjectAskStates      = "room.svc.state.*"  // request of gateways, see [AskStatesSubject]
	SubjectServiceAlive   = "room.svc.alive"    // request of gateways, which every instance with a fresh lease answers
	SubjectServiceChanged = "room.peer.changed" // an instance has started, or will stop soon
)

// AskStatesSubject returns room.svc.state.<p>, on which the owner of partition p receives [AskStates].
func AskStatesSubject(p int) string { return "room.svc.state." + strconv.Itoa(p) }

// AskedPartition returns the partition of an [AskStatesSubject]. It returns false for other subjects.
func AskedPartition(subject string) (int, bool) {
	number, found := strings.CutPrefix(subject, "room.svc.state.")
	p, err := strconv.Atoi(number)
	return p, found && err == nil && p >= 0 && p < Partitions
}

// ReleaseSubject returns room.peer.release.<id>. On this subject, another instance asks the
// instance with this id to release a partition.
func ReleaseSubject(id string) string { return "room.peer.release." + id }

// RepublishTo is the subject on which the stream republishes the records of [SubjectAnyLog].
const RepublishTo = "room.out.{{wildcard(1)}}.{{wildcard(2)}}"

// MapTo is the subject to which an account should map [SubjectAnyRoom]. With this mapping, each
// roomsvc instance receives only the requests for its own partitions.
var MapTo = fmt.Sprintf("room.in.{{partition(%d,1)}}.{{wildcard(1)}}", Partitions)

// Subject returns room.<g>, on which the room's owner receives requests.
func (r Room) Subject() string { return "room." + r.Token() }

// LogSubject returns room.log.<p>.<g>, on which the owner commits the room's records.
func (r Room) LogSubject() string { return r.partitioned("room.log.") }

// OutSubject returns room.out.<p>.<g>, on which the stream republishes the room's records.
func (r Room) OutSubject() string { return r.partitioned("room.out.") }

// EphemeralSubject returns room.eph.<p>.<g>, for signals, joins and leaves. They are never
// stored.
func (r Room) EphemeralSubject() string { return r.partitioned("room.eph.") }

// StateSubject returns room.state.<p>.<g>, on which the owner stores the room's snapshot.
func (r Room) StateSubject() string { return r.partitioned("room.state.") }

// WhoSubject returns room.who.<p>.<g>, on which gateways answer who is in the room.
func (r Room) WhoSubject() string { return r.partitioned("room.who.") }

func (r Room) partitioned(prefix string) string {
	if r.IsZero() {
		panic("proto: subject of no room")
	}
	return prefix + strconv.Itoa(r.Partition()) + "." + r.Token()
}

// InSubject returns room.in.<p>.*. If the account maps room.* as [MapTo] says, the owner of
// partition p receives requests on this subject.
func InSubject(p int) string { return "room.in." + strconv.Itoa(p) + ".*" }

// OwnSubject returns room.own.<p>, on which the owner writes the fence of partition p.
func OwnSubject(p int) string { return "room.own." + strconv.Itoa(p) }

// StateOwnSubject returns room.state.<p>, on which the owner writes the fence of partition p's
// snapshots.
func StateOwnSubject(p int) string { return "room.state." + strconv.Itoa(p) }

// GatewaySubject returns room.gw.<id>, on which a gateway sends its heartbeats.
func GatewaySubject(id string) string { return "room.gw." + id }

// OutPartition returns room.out.<p>.*, for all records of partition p.
func OutPartition(p int) string { return "room.out." + strconv.Itoa(p) + ".*" }

// EphemeralPartition returns room.eph.<p>.*, for all signals, joins and leaves in partition p.
func EphemeralPartition(p int) string { return "room.eph." + strconv.Itoa(p) + ".*" }

// ErrPartition is the error for a subject whose partition does not match its room. Usually the
// account's subject mapping uses another number of partitions.
var ErrPartition = fmt.Errorf("the subject has another partition than the room: map %q to %q in nats.conf", SubjectAnyRoom, MapTo)

// errSubject is the error for a subject that names no room.
var errSubject = errors.New("not a room subject")

// RoomOfSubject returns the room that a subject names. Below, <g> is the room and <p> its
// partition. The room is the last token of room.<g>, room.in.<p>.<g>, room.log.<p>.<g>,
// room.out.<p>.<g>, room.eph.<p>.<g>, room.who.<p>.<g> and room.state.<p>.<g>. RoomOfSubject
// returns an error for every other subject, and for a name that is not valid. If <p> is another
// partition, the error wraps [ErrPartition].
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
