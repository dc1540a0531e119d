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

from .link import Credential, Linker, session_url
from .rules import Call, Membership, State, read_ack
from .values import Ack, Closed, Frame, Item, Members, Page, Person, Position

log = logging.getLogger("roomcast")

_NOTHING: Any = object()


def connect(
    url: str | Iterable[str],
    *,
    token: Credential | None = None,
    ticket: Credential | None = None,
    name: str = "",
    resume: str = "",
    buffer: int = 4096,
    quiet: float = 15,
    patience: float = 15,
) -> Client:
    """Return a client, which connects in `async with`.

    url: address of a gateway, such as ws://127.0.0.1:8000, or a list, which the client tries in turn.
    token: a JSON Web Token, or a coroutine function that returns a fresh token. The client calls it
        for each connection and before the token expires. If the server has twice called a token
        expired, and the function returns the same token again, the client ends.
    ticket: a ticket of a user, or a coroutine function that returns a new one. The client calls it
        for its first connection and before the session ends. It also calls it after the server has
        refused the ticket or the resume string. Every other connection presents the session's
        resume string.
    name: the name of a guest, which others see.
    resume: the property resume of an earlier client; it gives this client the same sender. With a
        ticket it is ignored.
    buffer: how many items of a room may wait for the application; see Room for a full buffer.
    quiet: seconds of silence of the server after which the client pings.
    patience: seconds after which the client ends a connection on which an answer or a pong is missing.
    """
    urls = [session_url(u, name) for u in ([url] if isinstance(url, str) else url)]
    if not urls:
        raise ValueError("connect: there is no URL")
    if token is not None and ticket is not None:
        raise ValueError("connect: give a token or a ticket, not both")
    return Client(urls, token, ticket, resume, buffer, quiet, patience)


class Client:
    """The session of one sender, over one connection after the other. Make it with connect.

    When a connection breaks, the client connects again, unless the close code forbids that. Then
    every call and every iteration ends with Closed. A client belongs to one event loop.
    """

    def __init__(
        self,
        urls: list[str],
        token: Credential | None,
        ticket: Credential | None,
        resume: str,
        buffer: int,
        quiet: float,
        patience: float,
    ) -> None:
        self._buffer = buffer
        wake = asyncio.Event()
        self._state = State(wake.set, quiet, patience, resume if ticket is None else "")
        self._linker = Linker(self._state, wake, urls, token or ticket, "token" if ticket is None else "ticket")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        """Return when the first session has begun. To limit the wait, use asyncio.timeout."""
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
        """End the session. Calls of say without an ack fail; their messages may have been stored."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled() and (bug := self._task.exception()):
                raise bug
        if self._state.error is None:
            self._state.end(Closed(1000, "the application has closed the client"))

    async def wait_closed(self) -> None:
        """Wait until the client has ended, and raise the reason."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._state.error is not None:
            raise self._state.error

    @property
    def connected(self) -> bool:
        """Whether there is a session now. While there is none, calls wait."""
        return self._linker.connected

    @property
    def you(self) -> Person:
        return Person.read(self._state.hello["you"])

    @property
    def resume(self) -> str:
        """The argument `resume` that gives the next client the same sender. It is a secret."""
        return str(self._state.hello["resume"])

    async def join(
        self,
        room: str,
        *,
        since: int | Position | None = None,
        last: int | None = None,
        after: datetime | None = None,
    ) -> Room:
        """Follow a room.

        One of since, last and after says with which earlier events the iteration begins. If since
        is a Position, the iteration continues with the next event after it.
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

    Iteration returns events in the order of their seqs, each once, and between them signals, joins
    and leaves. If events are missing, it returns a Gap in their place. At most `buffer` items wait
    for the application. When the buffer is full, signals, joins and leaves are dropped and counted;
    events are read from the log later.

    The iteration ends with Refused when the server ends the membership, for example because the
    room is closed. It ends with Closed when the client has ended. After leave the iteration ends
    without an error.
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
        """The position of the last event or gap that the iteration has returned, for join(since=…)."""
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
        """Send text, data or bin as a message, and return when the message is stored.

        Until the message is stored, the client sends it again, with the same key, as often as
        necessary. It sends the messages of a room one at a time, in the order of the calls. Give a
        key of your own if the program may have to say the same message again after a restart. If
        say raises Closed or Uncertain, or is cancelled, the message may have been stored.
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
        """Read a page of the log: the events before a seq, the events after a seq, or the newest events."""
        fields = {"room": self.name, "before": before, "since": since, "limit": limit}
        return Page.read(await self._client._ask("history", _given(fields)))

    async def members(self) -> Members:
        return Members.read(await self._client._ask("members", {"room": self.name}))

    async def signal(self, type: str, data: Any = _NOTHING) -> None:
        """Send a notification to the present members. It is not stored. The client sends it at most once: see Lost."""
        fields = {"room": self.name, "type": type}
        if data is not _NOTHING:
            fields["data"] = data
        await self._client._ask("signal", fields, again=False)

    async def moderate(self, act: str, **fields: Any) -> Ack:
        """Request an act, such as moderate("close", why="done for today").

        PROTOCOL.md lists the acts.

        With a key, the client sends the act again until it is answered. Without a key it sends the
        act at most once: see Lost. Write the field "for" as for_, because for is a keyword of
        Python.
        """
        sent = {"room": self.name, "act": act, **{name.rstrip("_"): value for name, value in fields.items()}}
        return read_ack(await self._client._ask("moderate", sent, again="key" in sent))

    async def edit(self, seq: int, text: str, *, key: str = "") -> Ack:
        """Replace the text of a message of your own. The client sends the edit until it is answered."""
        fields = {"room": self.name, "text": text, "key": key or secrets.token_urlsafe(16), **self._numbered(seq)}
        return read_ack(await self._client._ask("edit", fields))

    async def delete(self, seq: int, *, why: str = "", key: str = "") -> Ack:
        """Delete a message for ever. To delete a message of another sender, you need the right moderate."""
        fields = {"key": key or secrets.token_urlsafe(16), **self._numbered(seq)}
        return await self.moderate("delete", **fields, **({"why": why} if why else {}))

    def _numbered(self, seq: int) -> Frame:
        """A seq with the epoch of the newest event, if the client knows this epoch."""
        return {"seq": seq, **({"epoch": self._member.epoch} if self._member.epoch else {})}

    async def leave(self) -> None:
        """Stop following the room. Calls of say without an ack fail; their messages may have been stored."""
        self._left = True
        self._member.queue.clear()
        call = self._client._leave(self._member)
        if call is not None:
            await call.answer


def _given(fields: Frame) -> Frame:
    return {name: value for name, value in fields.items() if value is not None}
