"""The rules of a session, without I/O: rooms, commands that wait for answers, and items.

State belongs to one event loop. link.py sends the frames that State.due returns, and passes each
received frame to State.receive. It calls attach when a session begins, and detach when the session
ends.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable
from enum import Enum

from .values import Ack, Error, Event, Frame, Full, Gap, Item, Lost, Position, Refused
from .values import Uncertain, close_name, read_item, read_time

KEY_WINDOW = 120_000  # milliseconds for which a server remembers keys, unless its hello says otherwise
MAX_PENDING = 1024  # how many commands of one client may wait for answers


class Silent(Error):
    """The server has not answered a command for too long."""


def backoff(failures: int, low: float, high: float) -> float:
    """A random number of seconds below a bound that doubles with each failure ("full jitter")."""
    return random.uniform(0, min(high, low * 2 ** min(failures, 16)))


def encode(id: int, verb: str, fields: Frame) -> bytes:
    """The frame of a command. It raises TypeError or ValueError if a field cannot be encoded as JSON."""
    text = json.dumps({"id": id, verb: fields}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()  # a lone surrogate raises an error here, so that the caller gets it


class Call:
    """A command that waits for its answer."""

    def __init__(self, id: int, verb: str, frame: bytes, again: bool) -> None:
        self.id = id
        self.verb = verb
        self.frame = frame
        self.again = again  # the command may be sent again on the next connection
        self.tried = False  # a connection has sent the command, so the server may have carried it out
        self.sent_at: float | None = None  # when the present connection sent the command; None = not yet
        self.first_sent: float | None = None  # when a connection first sent the command; None = never, so the server has not stored it
        self.sender = ""  # our id at that time
        self.answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(_retrieve)

    def succeed(self, ok: Frame) -> None:
        if not self.answer.done():
            self.answer.set_result(ok)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def _retrieve(answer: asyncio.Future[Frame]) -> None:
    if not answer.cancelled():
        answer.exception()  # mark the exception as retrieved: if nobody waits for the answer, asyncio would log a warning


class Phase(Enum):
    ABSENT = 1  # the client must send a join
    JOINING = 2  # the join has no answer yet; frames that arrive before the answer belong to an earlier join
    JOINED = 3
    LAGGING = 4  # the queue was full: events are dropped until the application has emptied it; then the client sends a leave
    LEAVING = 5  # the leave has no answer yet; then comes a join, because only a join after a leave begins a replay


class Membership:
    """A room that the client follows, with its queue of items for the application.

    The queue holds at most `buffer` items. When it is full, signals, joins and leaves are dropped
    and counted. Events are dropped too. When the application has emptied the queue, the client
    joins the room again. Then it gets the dropped events from the log.
    """

    def __init__(self, name: str, start: Frame, buffer: int) -> None:
        self.name = name
        self.start = start  # where the first join begins; unused once have is set
        self.buffer = buffer
        self.have: int | None = None  # seq of the last event or gap that was queued; None = there was none
        self.at = ""  # the time of that event; "" = not known
        self.epoch = ""  # the epoch of that event
        self.position: Position | None = None  # position of the last event or gap that the application has taken
        self.head = 0  # a close whose seq is not above head was undone by a reopening
        self.phase = Phase.ABSENT
        self.move: Call | None = None  # the join or leave that has no answer yet; None = there is none
        self.asked: Call | None = None  # makes the caller of join wait; None after the answer
        self.says: deque[Call] = deque()  # messages without an ack, in order; only the first is sent
        self.refusals = 0  # number of temporary refusals in a row
        self.not_before = 0.0  # when the refused command may be sent again
        self.queue: deque[tuple[Item, Position | None]] = deque()
        self.arrived = asyncio.Event()  # set if the queue is not empty or `error` is set
        self.error: Exception | None = None  # why the membership has ended; None = it goes on
        self.dropped = 0  # number of signals, joins and leaves that were dropped

    def where(self) -> Frame:
        """The place in the log at which the next join begins."""
        if self.have is None:
            return self.start
        place: Frame = {"since": self.have}
        if self.epoch:
            place["epoch"] = self.epoch
        if self.at:
            place["at"] = self.at
        return place

    def entered(self, ok: Frame) -> None:
        """Handle the successful answer to a join."""
        self.phase, self.refusals, self.head = Phase.JOINED, 0, ok["seq"]
        if self.have is None:
            if not self.start:
                self.have, self.at, self.epoch = ok["seq"], ok.get("at", ""), ok["epoch"]
            elif "since" in self.start:
                self.have, self.at, self.epoch = self.start["since"], self.start.get("at", ""), self.start.get("epoch", "")
            elif "last" in self.start:
                # The join asked for the last N events. If the connection breaks before the first of
                # them arrives, the same request would give other events. So the next join names the
                # seq at which they begin.
                self.start = {"since": max(0, ok["seq"] - self.start["last"]), "epoch": ok["epoch"]}
        if self.position is None and self.have is not None:
            self.position = Position(self.have, self.epoch, self.at)
        if not self.have or not self.epoch:
            self.epoch = ok["epoch"]
        # Otherwise a reset follows, which has the new epoch. The connection may break before the
        # reset arrives; the next join must then name the old epoch again, to get the reset.

    def take(self, frame: Frame) -> None:
        """Handle a frame that belongs to the room."""
        item = read_item(frame)
        if isinstance(item, Event):
            if self._follows(item.seq, item.seq):
                self._put(item, Position(item.seq, item.epoch or self.epoch, frame.get("at", "")))
        elif isinstance(item, Gap) and item.reason == "reset":
            if self._put(item, Position(0, item.epoch)):
                self.have, self.start, self.head = None, {"since": 0}, frame["gap"].get("seq", 0)
        elif isinstance(item, Gap):
            if self._follows(item.first, item.last):
                self._put(item, Position(item.last, self.epoch))
        elif item is not None and not self._put(item, None):
            self.dropped += 1

    def _follows(self, first: int, last: int) -> bool:
        """Whether the events from first to last come next. Otherwise they are repeats, or an earlier event is missing."""
        if self.have is not None and first > self.have + 1:
            self.phase = Phase.LAGGING  # join again: the log has the missing events
            return False
        return self.have is None or last > self.have

    def _put(self, item: Item, place: Position | None) -> bool:
        if len(self.queue) >= self.buffer:
            if place is not None:
                self.phase = Phase.LAGGING
            return False
        self.queue.append((item, place))
        if place is not None:
            self.have, self.epoch, self.at = place.seq, place.epoch, place.at
        self.arrived.set()
        return True

    def later(self, refusal: Refused, now: float) -> None:
        """Make the room's commands wait after a temporary refusal."""
        self.not_before = now + (refusal.retry or 0) + backoff(self.refusals, 0.02, 1)
        self.refusals += 1

    def end(self, error: Exception) -> None:
        """Raise the error in all callers that wait for the room, or Uncertain if a message may be stored."""
        self.error = error
        for call in (*self.says, *filter(None, [self.asked])):
            unknown = call.tried and isinstance(error, Refused)
            call.fail(Uncertain(f"say: the membership ended before the answer came: {error}") if unknown else error)
        self.says.clear()
        self.arrived.set()


class State:
    """The rooms of a client, and its commands without an answer. `wake` is called when due may return frames."""

    def __init__(self, wake: Callable[[], None], quiet: float, patience: float, resume: str) -> None:
        self.wake = wake
        self.quiet = quiet  # seconds of silence after which the client pings the server
        self.patience = patience  # seconds that the server has for an answer
        self.hello: Frame = {"resume": resume}  # the hello of the newest session
        self.rooms: dict[str, Membership] = {}  # by name, in the order of their joins
        self.calls: dict[int, Call] = {}  # all calls that wait for an answer, by id
        self.line: list[Call] = []  # the calls that belong to no room, in order
        self.ping: Call | None = None
        self.heard = 0.0
        self.error: Exception | None = None  # why the client has ended; None = it runs
        self._last_id = 0

    def call(self, verb: str, fields: Frame, room: Membership | None = None, again: bool = True) -> Call:
        """Queue a command. If a room is given, the command waits behind earlier messages of that room."""
        if self.error is not None:
            raise self.error
        if room is not None and room.error is not None:
            raise room.error
        if len(self.calls) >= MAX_PENDING:
            raise Full(f"{verb}: {MAX_PENDING} commands wait for their answers; try again when some have been answered")
        call = self._new(verb, fields, again)
        (self.line if room is None else room.says).append(call)
        self.wake()
        return call

    def _new(self, verb: str, fields: Frame, again: bool = True) -> Call:
        self._last_id += 1
        call = Call(self._last_id, verb, encode(self._last_id, verb, fields), again)
        self.calls[call.id] = call
        return call

    def forget(self, call: Call) -> None:
        """Drop a call for which nobody waits any longer. It may have been sent already."""
        self.calls.pop(call.id, None)
        for line in (self.line, *(r.says for r in self.rooms.values())):
            if call in line:
                line.remove(call)
        self.wake()

    def follow(self, room: Membership) -> Call:
        """Begin to follow a room. The returned call is answered when the first join is answered."""
        if self.error is not None:
            raise self.error
        if room.name in self.rooms:
            raise ValueError(f"the client has joined the room {room.name!r} already")
        room.asked = Call(0, "join", b"", again=True)
        self.rooms[room.name] = room
        self.wake()
        return room.asked

    def unfollow(self, room: Membership, error: Exception) -> None:
        if self.rooms.get(room.name) is room:
            del self.rooms[room.name]
            if room.move is not None:
                self.calls.pop(room.move.id, None)
        for say in room.says:
            self.calls.pop(say.id, None)
        room.end(error)

    def attach(self, hello: Frame, now: float) -> None:
        """Begin a session. All calls that wait for an answer are due to be sent."""
        self.hello, self.heard = hello, now
        self.wake()

    def detach(self) -> None:
        """End a session. Calls that must not be sent twice fail."""
        for room in self.rooms.values():
            if room.move is not None:
                self.calls.pop(room.move.id, None)
            room.phase, room.move, room.refusals, room.not_before = Phase.ABSENT, None, 0, 0.0
        for call in list(self.calls.values()):
            if call.verb == "auth":
                call.fail(Lost("auth: the connection was lost"))  # the next session sends its own token
            elif call.verb == "leave":
                call.succeed({})  # a new session is in no room
            elif call.sent_at is not None and not call.again:
                call.fail(Lost(f"{call.verb}: the connection was lost before the answer came"))
            call.sent_at = None
            if call.answer.done():
                self.forget(call)
        self.ping = None

    def end(self, error: Exception) -> None:
        """End the client. All waiting calls fail with the error, and so do later ones."""
        self.error = error
        for call in self.line:
            call.fail(error)
        for room in self.rooms.values():
            room.end(error)
        self.calls.clear()
        self.line.clear()
        self.rooms.clear()

    def due(self, now: float) -> tuple[list[bytes], float]:
        """The frames to send now, and how many seconds later to call due again. It raises Silent if an answer is overdue."""
        frames: list[bytes] = []
        waits = [self.heard + self.quiet - now]
        if self.ping is None and waits[0] <= 0:
            self.ping = self._new("ping", {}, again=False)
            self.line.append(self.ping)
        if self.ping is not None:
            waits.clear()

        def send(call: Call) -> None:
            if call.sent_at is None:
                call.sent_at, call.tried = now, True
                if call.first_sent is None:
                    call.first_sent, call.sender = now, self._me()
                frames.append(call.frame)
            waits.append(call.sent_at + self.patience - now)
            if waits[-1] <= 0:
                raise Silent(f"the server left a command unanswered for {self.patience:g} s: {call.verb}")

        for call in self.line:
            send(call)
        for room in self.rooms.values():
            self._forgotten(room, now)
            if now < room.not_before:
                waits.append(room.not_before - now)
                continue
            if room.phase is Phase.ABSENT:
                room.phase, room.move = Phase.JOINING, self._new("join", {"room": room.name, **room.where()})
            elif room.phase is Phase.LAGGING and not room.queue:
                room.phase, room.move = Phase.LEAVING, self._new("leave", {"room": room.name})
            elif room.phase in (Phase.JOINED, Phase.LAGGING) and room.says:
                # The session is still in a lagging room, so messages need not wait until the queue
                # is empty.
                send(room.says[0])
            if room.move is not None:
                send(room.move)
        return frames, min(waits)

    def _me(self) -> str:
        you: Frame = self.hello.get("you", {})
        return str(you.get("id", ""))

    def _forgotten(self, room: Membership, now: float) -> None:
        """Fail the first message if it may be stored and the server may not know its key, which belongs to the sender."""
        window = self.hello.get("limits", {}).get("key_window_ms", KEY_WINDOW) / 1000
        window -= min(15, window / 4)  # for the way to the server
        say = room.says[0] if room.says else None
        if say is None or say.sent_at is not None or say.first_sent is None:
            return
        if now - say.first_sent >= window or say.sender != self._me():
            say.fail(Uncertain("say: the connection was lost for longer than the server remembers keys, or we are another sender now"))
            self.forget(say)

    def receive(self, text: str | bytes, now: float) -> None:
        """Handle a frame of the server. ValueError, KeyError and TypeError mean that the frame is malformed."""
        self.heard = now
        frame = json.loads(text)
        if "id" in frame:
            call = self.calls.pop(frame["id"], None)
            if call is not None:
                self._answered(call, frame, now)
            return
        room = self.rooms.get(frame.get("room", ""))
        if room is None or room.phase is not Phase.JOINED:
            return
        if "ended" in frame:  # the server has ended the membership: a kick, a ban, or a lost right
            ended = frame["ended"]
            self.unfollow(room, Refused(close_name(ended["code"]), ended.get("reason", "")))
            return
        room.take(frame)
        if frame.get("kind") == "closed" and room.have == frame["seq"] > room.head:
            # A close with a seq up to head was undone by a reopening. Otherwise the join would have
            # been refused.
            self.unfollow(room, Refused("room_closed", frame.get("why", "")))
        self.wake()

    def _answered(self, call: Call, frame: Frame, now: float) -> None:
        refusal = None
        if "error" in frame:
            refusal = _refusal(frame["error"])
        self.wake()
        if call is self.ping:
            self.ping = None
        for room in self.rooms.values():
            if room.move is call:
                self._moved(room, frame, refusal, now)
                return
            if room.says and room.says[0] is call:
                first = call.sent_at == call.first_sent
                if refusal is not None and (_temporary(refusal) or refusal.code == "not_joined"):
                    call.sent_at = None
                    if first:  # otherwise, the message of an earlier connection may be stored
                        call.first_sent = None
                    self.calls[call.id] = call  # after the refusal, the message stays the first of its room
                    if refusal.code == "not_joined":
                        room.phase = Phase.ABSENT
                    else:
                        room.later(refusal, now)
                    return
                room.says.popleft()
                room.refusals = 0
                break
        if call in self.line:
            self.line.remove(call)
        if refusal is None:
            call.succeed(frame["ok"])
        elif refusal.code == "forbidden" and call.verb == "say" and call.sent_at != call.first_sent:
            # The server checks the right before it looks for the key. So the refusal says nothing about
            # the message that was sent before.
            call.fail(Uncertain(f"say: the message was sent again and refused: {refusal}"))
        else:
            call.fail(refusal)

    def _moved(self, room: Membership, frame: Frame, refusal: Refused | None, now: float) -> None:
        leaving, room.move = room.phase is Phase.LEAVING, None
        if refusal is not None and _temporary(refusal):
            room.phase = Phase.LAGGING if leaving else Phase.ABSENT
            room.later(refusal, now)
        elif leaving:
            room.phase = Phase.ABSENT
        elif refusal is not None:
            self.unfollow(room, refusal)
        else:
            room.entered(frame["ok"])
            if room.asked is not None:
                room.asked.succeed(frame["ok"])
                room.asked = None


def _refusal(f: Frame) -> Refused:
    retry = f.get("retry_ms")
    return Refused(f["code"], f.get("message", ""), None if retry is None else retry / 1000)


def _temporary(refusal: Refused) -> bool:
    return refusal.retry is not None or refusal.code in ("unavailable", "overloaded")


def read_ack(ok: Frame) -> Ack:
    return Ack(ok["seq"], read_time(ok["at"]), ok.get("duplicate", False))
