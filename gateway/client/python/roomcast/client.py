"""The interface: connect, Client and Room."""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any

from .link import Linker, Token, session_url
from .rules import Call, Membership, State, read_ack
from .values import Ack, Closed, Frame, Item, Members, Page, Person, Position

log = logging.getLogger("roomcast")

_NOTHING: Any = object()


def connect(
    url: str | Iterable[str],
    *,
    token: Token | None = None,
    name: str = "",
    resume: str = "",
    buffer: int = 4096,
    quiet: float = 15,
    patience: float = 15,
) -> Client:
    """Return a client, which connects in `async with`.

    url: of a gateway, such as ws://127.0.0.1:8000, or of several, which the client tries in turn.
    token: a JSON Web Token, or a coroutine function that returns a fresh one. The client calls it
        for each connection and before the token expires. It ends if there is none but a token
        that has expired, according to the server.
    name: what others see, for guests.
    resume: of an earlier client, which makes this one the same sender.
    buffer: how many items of a room wait for the application; Room says what happens then.
    quiet: seconds of silence after which the client pings.
    patience: seconds after which a missing answer, also that of a ping, ends the connection.
    """
    urls = [session_url(u, name) for u in ([url] if isinstance(url, str) else url)]
    if not urls:
        raise ValueError("connect: there is no URL")
    return Client(urls, token, resume, buffer, quiet, patience)


class Client:
    """One sender's session, over one connection after the other. Make it with connect.

    It connects again until a close code forbids it. Then every call and every iteration ends
    with that error. It belongs to one event loop.
    """

    def __init__(
        self, urls: list[str], token: Token | None, resume: str, buffer: int, quiet: float, patience: float
    ) -> None:
        self._buffer = buffer
        wake = asyncio.Event()
        self._state = State(wake.set, quiet, patience, resume)
        self._linker = Linker(self._state, wake, urls, token)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        """Return when the first session has begun. Bound the wait with asyncio.timeout."""
        self._task = asyncio.create_task(self._linker.run())
        begun = asyncio.create_task(self._linker.begun.wait())
        try:
            await asyncio.wait([self._task, begun], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            begun.cancel()
        if not self._linker.begun.is_set() and self._state.error is not None:
            await self.close()
            raise self._state.error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session. Messages without an ack fail; they may have been stored."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled() and (bug := self._task.exception()):
                raise bug
        if self._state.error is None:
            self._state.end(Closed(1000, "the application has closed the client"))

    async def wait_closed(self) -> None:
        """Return, or rather raise the reason, when the client has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._state.error is not None:
            raise self._state.error

    @property
    def connected(self) -> bool:
        """Whether there is a session now. Calls wait while there is none."""
        return self._linker.connected

    @property
    def you(self) -> Person:
        return Person.read(self._state.hello["you"])

    @property
    def resume(self) -> str:
        """The string that makes the next client the same sender. It is a credential."""
        return str(self._state.hello["resume"])

    async def join(
        self,
        room: str,
        *,
        since: int | Position | None = None,
        last: int | None = None,
        after: datetime | None = None,
    ) -> Room:
        """Follow a room, and first replay what one of since, last and after says.

        With a Position, the room's iteration continues exactly behind it.
        """
        start: Frame = {}
        if isinstance(since, Position):
            start = {"since": since.seq, "epoch": since.epoch, "at": since.at}
            start = {k: v for k, v in start.items() if v != ""}
        elif since is not None:
            start = {"since": since}
        if last is not None:
            start["last"] = last
        if after is not None:
            if after.tzinfo is None:
                raise ValueError("join: after needs a time zone")
            start["after"] = after.isoformat()
        member = Membership(room, start, self._buffer)
        call = self._state.follow(member)
        try:
            ok = await call.answer
        except asyncio.CancelledError:
            self._leave(member)
            raise
        return Room(self, member, ok["seq"])

    def _leave(self, member: Membership) -> Call | None:
        followed = member.error is None
        self._state.unfollow(member, Closed(1000, "the application has left the room"))
        return self._state.call("leave", {"room": member.name}) if followed else None

    async def _ask(self, verb: str, fields: Frame, room: Membership | None = None, again: bool = True) -> Frame:
        call = self._state.call(verb, fields, room, again)
        try:
            return await call.answer
        except asyncio.CancelledError:
            self._state.forget(call)
            raise


class Room(AsyncIterator[Item]):
    """A room that the client follows. Client.join makes it.

    Iteration returns events in the order of their seq, each once, and a Gap for each hole that
    cannot be filled; between them signals, joins and leaves. At most `buffer` items wait for the
    application. When that is full, signals, joins and leaves are dropped and counted. Events are
    read from the log later.

    The iteration ends with Refused when the server ends the membership, for example because the
    room is closed, and with Closed when the client has ended. After leave it just ends.
    """

    def __init__(self, client: Client, member: Membership, head: int) -> None:
        self._client = client
        self._member = member
        self._left = False
        self.head = head  # the newest seq when the room was joined

    @property
    def name(self) -> str:
        return self._member.name

    @property
    def position(self) -> Position | None:
        """Of the last event or gap that the iteration has returned; for join(since=…)."""
        return self._member.position

    @property
    def dropped(self) -> int:
        """How many signals, joins and leaves were dropped because the buffer was full."""
        return self._member.dropped

    async def __anext__(self) -> Item:
        member = self._member
        while not member.queue:
            if self._left:
                raise StopAsyncIteration
            if member.error is not None:
                raise member.error
            member.arrived.clear()
            await member.arrived.wait()
        item, place = member.queue.popleft()
        member.position = place or member.position
        if not member.queue:
            self._client._state.wake()  # the room may be joined again
        return item

    async def say(
        self,
        text: str | None = None,
        *,
        data: Any = _NOTHING,
        bin: bytes | None = None,
        type: str = "",
        key: str = "",
    ) -> Ack:
        """Return when the message, one of text, data and bin, is stored.

        Until then the client sends it again, with the same key, as often as necessary. It sends
        the messages of a room one at a time, in the order of the calls. Give a key of your own if
        the program may have to say the same message again after a restart. After Closed, Uncertain
        or a cancellation the message may have been stored.
        """
        fields: Frame = {"room": self.name, "key": key or secrets.token_urlsafe(16)}
        if text is not None:
            fields["text"] = text
        if data is not _NOTHING:
            fields["data"] = data
        if bin is not None:
            fields["bin"] = base64.b64encode(bin).decode()
        if type:
            fields["type"] = type
        return read_ack(await self._client._ask("say", fields, self._member))

    async def history(self, *, before: int | None = None, since: int | None = None, limit: int | None = None) -> Page:
        """Read a page of the log: before a seq, since a seq, or the newest one."""
        fields = {"room": self.name, "before": before, "since": since, "limit": limit}
        return Page.read(await self._client._ask("history", _given(fields)))

    async def members(self) -> Members:
        return Members.read(await self._client._ask("members", {"room": self.name}))

    async def signal(self, type: str, data: Any = _NOTHING) -> None:
        """Tell those present something that is not stored. It is sent at most once, see Lost."""
        fields = {"room": self.name, "type": type}
        if data is not _NOTHING:
            fields["data"] = data
        await self._client._ask("signal", fields, again=False)

    async def moderate(self, act: str, **fields: Any) -> Ack:
        """Do an act, such as moderate("close", why="done for today"). PROTOCOL.md lists the acts.

        With a key it is sent again until it is answered, without one at most once, see Lost.
        Write the field "for" as for_.
        """
        sent = {"room": self.name, "act": act, **{name.rstrip("_"): value for name, value in fields.items()}}
        return read_ack(await self._client._ask("moderate", sent, again="key" in sent))

    async def edit(self, seq: int, text: str, *, key: str = "") -> Ack:
        """Replace the text of a message of your own. The client sends the edit until it is answered."""
        fields = {"room": self.name, "seq": seq, "text": text, "key": key or secrets.token_urlsafe(16)}
        return read_ack(await self._client._ask("edit", fields))

    async def delete(self, seq: int, *, why: str = "", key: str = "") -> Ack:
        """Delete a message: your own one, or with the right moderate that of anybody. It cannot be restored."""
        fields = {"seq": seq, "key": key or secrets.token_urlsafe(16)}
        return await self.moderate("delete", **fields, **({"why": why} if why else {}))

    async def leave(self) -> None:
        """Stop following the room. Its messages without an ack fail; they may have been stored."""
        self._left = True
        self._member.queue.clear()
        call = self._client._leave(self._member)
        if call is not None:
            await call.answer


def _given(fields: Frame) -> Frame:
    return {name: value for name, value in fields.items() if value is not None}
