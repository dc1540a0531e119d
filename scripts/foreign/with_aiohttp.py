"""Sends ten messages as text and ten as JSON with aiohttp, and checks what it receives."""

import asyncio
import sys

import aiohttp


async def main(base: str) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(base + "/room/aiohttp/") as ws:
            for i in range(10):
                await ws.send_str(f"m{i}")
            for i in range(10):
                line = await ws.receive_str()
                assert line.endswith(f" m{i}"), line
        async with http.ws_connect(base + "/room/aiohttp/", protocols=["roomcast.v1"]) as ws:
            assert "hello" in await ws.receive_json()
            for i in range(10):
                await ws.send_json({"id": i, "say": {"data": i}})
            acks, events = [], []
            while len(acks) < 10 or len(events) < 10:
                frame = await ws.receive_json()
                assert "error" not in frame, frame
                if "ok" in frame:
                    acks.append(frame["ok"]["seq"])
                elif "seq" in frame:
                    events.append(frame["data"])
            assert acks == list(range(11, 21)) and events == list(range(10)), (acks, events)


asyncio.run(main(sys.argv[1]))
