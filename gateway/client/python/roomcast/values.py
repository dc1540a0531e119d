"""The values that an application receives: events and other items of a room, answers and errors."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Union

Frame = dict[str, Any]  # a JSON object as it is sent or received


class Error(Exception):
    """The base of all errors of this package."""


class Refused(Error):
    """The server has refused a command, or has ended a membership. The message says what to do."""

    def __init__(self, code: str, message: str, retry: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code  # such as "forbidden"; PROTOCOL.md lists the codes
        self.message = message
        self.retry = retry  # seconds after which the same command may succeed; None = never


class Closed(Error):
    """The session has ended for good."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} ({close_name(code)}): {reason}")
        self.code = code
        self.reason = reason


class HandshakeRefused(Error):
    """The server has refused the handshake with an HTTP status. Another try would not help."""

    def __init__(self, status: int, message: str, retry: float = 0) -> None:
        super().__init__(f"handshake refused with HTTP status {status}: {message}")
        self.status = status
        self.message = message
        self.retry = retry  # seconds, from the header Retry-After


class Lost(Error):
    """The connection broke before the answer to a command, and the command must not be sent twice."""


class Uncertain(Error):
    """A message was sent and not answered, so it may have been stored.

    Either the server may have forgotten the key of the message, or it has ended the membership or
    refused the next join. Or the message was sent again, and the sender no longer has the right to say
    something. Look for the message in Room.history before you say it again.
    """


class Full(Error):
    """Too many commands wait for their answers. The command of this call has not been sent."""


_CLOSES = {
    1000: ("normal", False),
    1001: ("going_away", True),
    1002: ("protocol", False),
    1003: ("unsupported", False),
    1007: ("invalid_data", False),
    1008: ("policy", False),
    1009: ("too_big", False),
    1011: ("internal", True),
    4000: ("slow", True),
    4001: ("resync", True),
    4002: ("shed", True),
    4003: ("token_expired", True),
    4004: ("unavailable", True),
    4005: ("no_pong", True),
    4100: ("room_closed", False),
    4101: ("kicked", False),
    4102: ("banned", False),
    4103: ("bad_token", False),
    4105: ("flood", False),
    4106: ("forbidden", False),
    4107: ("no_token", False),
}
TOKEN_EXPIRED = 4003


def close_name(code: int) -> str:
    """The name of a close code, "unknown" if this version does not know it."""
    return _CLOSES.get(code, ("unknown", True))[0]


def reconnects(code: int) -> bool:
    """Whether a client connects again after a close code. For an unknown code, its range decides."""
    return _CLOSES.get(code, ("", not 4100 <= code < 4200))[1]


@dataclass(frozen=True)
class Person:
    id: str  # from a token or a ticket, or made by a gateway for a guest
    name: str = ""  # "" = the person has given no name

    @classmethod
    def read(cls, f: Frame) -> Person:
        return cls(f.get("id", ""), f.get("name", ""))


@dataclass(frozen=True)
class Event:
    """One entry of a room's log. A message has one of text, data and bin, unless it was deleted."""

    room: str
    seq: int  # 1, 2, 3 … without holes
    at: datetime | None  # None = a server before version 0.2.0 does not send the time of a deleted edit
    sender: Person
    kind: str = "message"  # or "closed", "reopened", …; ignore kinds that you do not know
    text: str | None = None
    data: Any = None  # any JSON
    bin: bytes | None = None
    type: str = ""  # the type of data, which the application chooses
    key: str = ""  # the key that the sender gave
    epoch: str = ""  # set on the first event of an epoch
    why: str = ""  # the reason of an act
    of: int = 0  # seq of the message that this act has edited or deleted
    deleted: bool = False  # the message was deleted, so its content is gone
    edited: datetime | None = None  # time of the newest edit of the message; None = it was not edited
    raw: Frame | None = None  # the whole frame, with fields that this version does not know

    @classmethod
    def read(cls, f: Frame) -> Event:
        encoded = f.get("bin")
        return cls(
            room=f["room"],
            seq=f["seq"],
            at=read_time(f["at"]) if "at" in f else None,
            sender=Person.read(f.get("from", {})),
            kind=f.get("kind", "message"),
            text=f.get("text"),
            data=f.get("data"),
            bin=None if encoded is None else base64.b64decode(encoded),
            type=f.get("type", ""),
            key=f.get("key", ""),
            epoch=f.get("epoch", ""),
            why=f.get("why", ""),
            of=f.get("of", 0),
            deleted=f.get("deleted", False),
            edited=read_time(f["edited"]) if "edited" in f else None,
            raw=f,
        )


@dataclass(frozen=True)
class Gap:
    """Announces events that will not come.

    After a reset the room has another history: forget the old events. The events of the new history
    follow, from the oldest on.
    """

    first: int
    last: int  # 0 in a reset
    reason: str  # "trimmed", "damaged" or "reset"
    epoch: str = ""  # the new epoch after a reset

    @classmethod
    def read(cls, f: Frame) -> Gap:
        return cls(f["from"], f["to"], f["reason"], f.get("epoch", ""))


@dataclass(frozen=True)
class Signal:
    """A notification that a member has sent to the others. It is not stored."""

    type: str
    sender: Person
    data: Any = None


@dataclass(frozen=True)
class Joined:
    person: Person | None  # None in rooms of more than 200 people
    count: int  # number of people in the room now


@dataclass(frozen=True)
class Left:
    person: Person | None
    count: int
    reason: str = ""  # "client", "server" or "lost"


Item = Union[Event, Gap, Signal, Joined, Left]


def read_item(f: Frame) -> Item | None:
    """The item in a frame of a room; None if this version does not know such frames."""
    if "seq" in f:
        return Event.read(f)
    if "gap" in f:
        return Gap.read(f["gap"])
    if "signal" in f:
        s = f["signal"]
        return Signal(s["type"], Person.read(s.get("from", {})), s.get("data"))
    if "joined" in f:
        return Joined(_person(f["joined"]), f["joined"]["count"])
    if "left" in f:
        left = f["left"]
        return Left(_person(left), left["count"], left.get("reason", ""))
    return None


def _person(f: Frame) -> Person | None:
    return Person.read(f) if "id" in f else None


@dataclass(frozen=True)
class Ack:
    """A message or an act is stored."""

    seq: int
    at: datetime
    duplicate: bool = False  # the message or act was stored before, with the same key


@dataclass(frozen=True)
class Page:
    """A part of a room's log, oldest event first."""

    events: list[Event]
    more: bool  # the log has more events: earlier ones, or later ones after a read with since
    seq: int  # seq of the room's newest event
    epoch: str
    gap: Gap | None = None  # events that are missing before the first event of the page
    closed: bool = False
    why: str = ""  # why the room is closed

    @classmethod
    def read(cls, f: Frame) -> Page:
        return cls(
            events=[Event.read(e) for e in f["events"]],
            more=f["more"],
            seq=f["seq"],
            epoch=f["epoch"],
            gap=Gap.read(f["gap"]) if "gap" in f else None,
            closed=f.get("closed", False),
            why=f.get("why", ""),
        )


@dataclass(frozen=True)
class Members:
    count: int
    people: list[Person]  # at most 200
    more: bool = False  # the room has more people than listed

    @classmethod
    def read(cls, f: Frame) -> Members:
        return cls(f["count"], [Person.read(p) for p in f["members"]], f.get("more", False))


@dataclass(frozen=True)
class Position:
    """A place in a room's log, from which a later join can continue, even after a restart of the program."""

    seq: int
    epoch: str = ""  # "" = not known
    at: str = ""  # the time of that event as the server wrote it; "" = not known


def read_time(text: str) -> datetime:
    """Parse a time of the protocol. Python 3.10 cannot parse the Z at its end."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
