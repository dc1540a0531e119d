"""Sends ten messages as text and ten as JSON with the package websockets, and checks what it receives."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def main(base: str) -> None:
    async with connect(base + "/room/websockets/") as ws:
        for i in range(10):
            await ws.send(f"m{i}")
        for i in range(10):
            line = str(await ws.recv())
            assert line.endswith(f" m{i}"), line
    async with connect(base + "/room/websockets/", subprotocols=["roomcast.v1"]) as ws:  # type: ignore[list-item]
        assert "hello" in json.loads(await ws.recv())
        for i in range(10):
            await ws.send(json.dumps({"id": i, "say": {"data": i}}))
        acks, events = [], []
        while len(acks) < 10 or len(events) < 10:
            frame = json.loads(await ws.recv())
            assert "error" not in frame, frame
            if "ok" in frame:
                acks.append(frame["ok"]["seq"])
            elif "seq" in frame:
                events.append(frame["data"])
        assert acks == list(range(11, 21)) and events == list(range(10)), (acks, events)


asyncio.run(main(sys.argv[1]))
