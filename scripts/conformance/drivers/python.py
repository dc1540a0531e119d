"""The driver of the Python client. proto/docs/conformance.md explains the lines that it reads and prints."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import roomcast

Fields = dict[str, Any]


def show(kind: str, /, **fields: Any) -> None:
    print(json.dumps({kind: fields}), flush=True)


async def answered(key: str, room: str, work: Awaitable[Any]) -> Any:
    """Return the result of the work. If the work fails, print the error for the kit and return None."""
    try:
        return await work
    except roomcast.Refused as refused:
        show("refused", key=key, room=room, code=refused.code)
    except roomcast.Error:
        show("lost", key=key)


def one_by_one(given: list[str] | None) -> Callable[[], Awaitable[str]] | None:
    """A function that returns the credentials in turn, and then the last one again and again."""
    left = list(given or [])

    async def fetch() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return fetch if left else None


async def follow(room: roomcast.Room) -> None:
    try:
        async for item in room:
            if isinstance(item, roomcast.Event):
                show("event", room=room.name, seq=item.seq, kind=item.kind, text=item.text, data=item.data, of=item.of, deleted=item.deleted)
            elif isinstance(item, roomcast.Gap):
                show("gap", **{"room": room.name, "from": item.first, "to": item.last, "reason": item.reason})
            elif isinstance(item, roomcast.Signal):
                show("signal", room=room.name, type=item.type)
    except roomcast.Refused as refused:
        show("ended", room=room.name, code=refused.code)
    except roomcast.Error:
        pass  # the task of watch prints the error


class Driver:
    def __init__(self) -> None:
        self.client: roomcast.Client | None = None
        self.rooms: dict[str, roomcast.Room] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, f: Fields) -> None:
        self.client = roomcast.connect(
            f["url"],
            token=one_by_one(f.get("tokens")),
            ticket=one_by_one(f.get("tickets")),
            quiet=f.get("quiet_ms", 15_000) / 1000,
            patience=f.get("patience_ms", 15_000) / 1000,
        )
        self.start(self.watch(self.client))

    async def watch(self, client: roomcast.Client) -> None:
        try:
            await client.__aenter__()
            await client.wait_closed()
        except roomcast.Closed as closed:
            show("closed", code=closed.code, reason=closed.reason)
        except roomcast.HandshakeRefused as refused:
            show("closed", code=refused.status, reason=refused.message)

    async def join(self, f: Fields) -> None:
        assert self.client is not None
        name = f.pop("room")
        room = await answered("", name, self.client.join(name, **f))
        if room is not None:
            self.rooms[name] = room
            show("joined", room=name, seq=room.head)
            self.start(follow(room))

    async def say(self, f: Fields) -> None:
        ack = await answered(f["key"], f["room"], self.rooms[f["room"]].say(f["text"], key=f["key"]))
        if ack is not None:
            show("ack", key=f["key"], seq=ack.seq, duplicate=ack.duplicate)

    async def can(self, f: Fields) -> None:
        show("can", capability=f["capability"], ok=True)

    async def signal(self, f: Fields) -> None:
        await answered("", f["room"], self.rooms[f["room"]].signal(f["type"]))

    async def run(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            ((verb, fields),) = json.loads(line).items()
            self.start(getattr(self, verb)(fields))
        if self.client is not None:
            await self.client.close()


asyncio.run(Driver().run())
