package proto

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// StreamName is the JetStream stream that holds the log of every room.
const StreamName = "ROOMS"

// StateStream is the JetStream stream that holds one [Snapshot] per room.
const StateStream = "ROOMSTATE"

// LeaseBucket is the key-value bucket that holds the leases of roomsvc instances. It is in
// memory, so no lease survives a stop of all servers.
const LeaseBucket = "ROOMSVC"

// SecretBucket and SecretKey name the key-value entry, on disk, with the [SigningKeys]. The
// first roomsvc creates it. FirstSecret is the entry of version 0.1.0, which had one key.
const (
	SecretBucket = "ROOMSECRET"
	SecretKey    = "keys"
	FirstSecret  = "resume"
)

// TicketBucket is the key-value bucket, on disk, with the numbers of used tickets.
const TicketBucket = "ROOMTICKET"

// RevokedBucket is the key-value bucket, on disk, with one [Revocation] for each id or session.
const RevokedBucket = "ROOMREVOKED"

// Subjects on which roomsvc tells all gateways a [Revocation], and [KeysChanged].
const (
	SubjectRevoked     = "room.sys.revoked"
	SubjectKeysChanged = "room.sys.keys"
)

// Wildcards over all rooms.
const (
	SubjectAnyRoom  = "room.*"             // requests, if the account has no mapping
	SubjectAnyLog   = "room.log.*.*"       // committed records
	SubjectAnyOwn   = "room.own.*"         // ownership markers
	SubjectStates   = "room.state.*.*"     // snapshots
	SubjectStateOwn = "room.state.*"       // ownership markers of the snapshots
	SubjectWitness  = "room.state.witness" // see [Witness]
	SubjectAnyWho   = "room.who.*.*"       // questions about the members of a room
	SubjectAnyGate  = "room.gw.*"          // heartbeats of gateways
)

// Subjects of the room service: its micro endpoints, and messages between its instances.
// Only room.svc.> is open to other accounts.
const (
	SubjectClose          = "room.svc.close"
	SubjectReopen         = "room.svc.reopen"
	SubjectInfo           = "room.svc.info"
	SubjectKeys           = "room.svc.keys"     // for gateways: see [AskKeys]
	SubjectTicket         = "room.svc.ticket"   // for gateways: see [UseTicket]
	SubjectRevoke         = "room.svc.revoke"   // for gateways: stores a [Revocation]
	SubjectRevocations    = "room.svc.revoked"  // for gateways: see [ListRevocations]
	SubjectLost           = "room.svc.lost"     // for gateways: see [Lost]
	SubjectServiceAlive   = "room.svc.alive"    // for gateways: every instance with a fresh lease answers
	SubjectServiceChanged = "room.peer.changed" // an instance has started, or is about to stop
)

// ReleaseSubject returns room.peer.release.<id>, on which another instance asks the one with this
// id to release a partition.
func ReleaseSubject(id string) string { return "room.peer.release." + id }

// RepublishTo is the destination of the stream's RePublish for [SubjectAnyLog].
const RepublishTo = "room.out.{{wildcard(1)}}.{{wildcard(2)}}"

// MapTo is the destination of an account mapping for [SubjectAnyRoom]. With the mapping,
// each roomsvc instance receives only the requests of its own partitions.
var MapTo = fmt.Sprintf("room.in.{{partition(%d,1)}}.{{wildcard(1)}}", Partitions)

// Subject returns room.<g>, on which the room's owner receives requests.
func (r Room) Subject() string { return "room." + r.Token() }

// LogSubject returns room.log.<p>.<g>, where the owner commits the room's records.
func (r Room) LogSubject() string { return r.partitioned("room.log.") }

// OutSubject returns room.out.<p>.<g>, where the stream republishes them.
func (r Room) OutSubject() string { return r.partitioned("room.out.") }

// EphemeralSubject returns room.eph.<p>.<g>: signals, joins and leaves, never stored.
func (r Room) EphemeralSubject() string { return r.partitioned("room.eph.") }

// StateSubject returns room.state.<p>.<g>, where the owner keeps the room's snapshot.
func (r Room) StateSubject() string { return r.partitioned("room.state.") }

// WhoSubject returns room.who.<p>.<g>, on which gateways answer questions about members.
func (r Room) WhoSubject() string { return r.partitioned("room.who.") }

func (r Room) partitioned(prefix string) string {
	if r.IsZero() {
		panic("proto: subject of no room")
	}
	return prefix + strconv.Itoa(r.Partition()) + "." + r.Token()
}

// InSubject returns room.in.<p>.*, on which the owner of partition p receives requests if
// the account maps room.* by partition.
func InSubject(p int) string { return "room.in." + strconv.Itoa(p) + ".*" }

// OwnSubject returns room.own.<p>, the fence of partition p.
func OwnSubject(p int) string { return "room.own." + strconv.Itoa(p) }

// StateOwnSubject returns room.state.<p>, the fence of partition p's snapshots.
func StateOwnSubject(p int) string { return "room.state." + strconv.Itoa(p) }

// GatewaySubject returns room.gw.<id>, on which a gateway sends its heartbeats.
func GatewaySubject(id string) string { return "room.gw." + id }

// OutPartition returns room.out.<p>.*, all records of partition p.
func OutPartition(p int) string { return "room.out." + strconv.Itoa(p) + ".*" }

// EphemeralPartition returns room.eph.<p>.*, all signals, joins and leaves of partition p.
func EphemeralPartition(p int) string { return "room.eph." + strconv.Itoa(p) + ".*" }

// ErrPartition is returned for a subject whose partition is not the room's. The usual
// cause is an account mapping with another number of partitions.
var ErrPartition = fmt.Errorf("the subject has another partition than the room: map %q to %q in nats.conf", SubjectAnyRoom, MapTo)

// errSubject is returned for a subject that names no room.
var errSubject = errors.New("not a room subject")

// RoomOfSubject returns the room that a subject names: the last token of room.<g>,
// room.in.<p>.<g>, room.log.<p>.<g>, room.out.<p>.<g>, room.eph.<p>.<g>, room.who.<p>.<g> and
// room.state.<p>.<g>. It fails on every other subject, and on a name that [ParseRoom] refuses. If
// <p> is not the room's partition, the error wraps [ErrPartition].
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
