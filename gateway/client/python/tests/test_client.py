"""Tests of the client with a real gateway."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import sys
import tempfile
import unittest
import unittest.mock
import urllib.request
from datetime import datetime, timedelta, timezone

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

import roomcast

from harness import ROOT, Gateway, token

logging.getLogger("roomcast").setLevel(logging.ERROR)  # the tests break many connections
logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # one test has a server of its own

LIMIT = 120  # limit of every wait in seconds; generous, because the machine may be busy


class Proxy:
    """A proxy in front of a gateway. After a call of silence it acts like a dead network."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").rpartition(":")
        self.target = host, int(port)
        self.links: list[asyncio.Task[None]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Proxy:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.silence()
        self.server.close()
        for w in self.writers:
            w.close()

    def silence(self) -> None:
        """Stop forwarding on the present connections, which stay open. Later connections are forwarded."""
        for task in self.links:
            task.cancel()
        self.links.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self.target)
        self.writers += [writer, up_writer]
        self.links += [asyncio.create_task(self._pump(reader, up_writer)), asyncio.create_task(self._pump(up_reader, writer))]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


async def texts(room: roomcast.Room, count: int) -> list[str | None]:
    """The texts of the next messages. A gap among them is an error."""
    found: list[str | None] = []
    async for item in room:
        assert not isinstance(item, roomcast.Gap), item
        if isinstance(item, roomcast.Event):
            found.append(item.text)
            if len(found) == count:
                break
    return found


class ClientTest(unittest.IsolatedAsyncioTestCase):
    def gateway(self, *flags: str) -> Gateway:
        g = Gateway(*flags)
        self.addCleanup(g.close)
        return g

    async def test_a_conversation(self) -> None:
        g = self.gateway()
        async with roomcast.connect(g.url, name="Ann") as ann, roomcast.connect(g.url, name="Bob") as bob:
            a, b = await ann.join("lobby"), await bob.join("lobby")
            self.assertEqual((await a.say("hi")).seq, 1)
            self.assertEqual((await a.say(data={"a": [1, None]}, type="xx.oo")).seq, 2)
            self.assertEqual((await a.say(bin=b"\0\xff")).seq, 3)
            got = []
            async for item in b:
                if isinstance(item, roomcast.Event):
                    got.append(item)
                if len(got) == 3:
                    break
            self.assertEqual([e.seq for e in got], [1, 2, 3])
            self.assertEqual((got[0].text, got[0].sender), ("hi", ann.you))
            self.assertEqual((got[1].data, got[1].type), ({"a": [1, None]}, "xx.oo"))
            self.assertEqual(got[2].bin, b"\0\xff")
            page = await a.history(limit=2)
            self.assertEqual(([e.seq for e in page.events], page.more), ([2, 3], True))
            members = await a.members()
            self.assertEqual((members.count, {p.name for p in members.people}), (2, {"Ann", "Bob"}))
            await a.signal("typing", {"on": True})
            async for item in b:
                if isinstance(item, roomcast.Signal):
                    self.assertEqual((item.type, item.sender.name, item.data), ("typing", "Ann", {"on": True}))
                    break
            await b.leave()
            self.assertEqual([item async for item in b], [])
            with self.assertRaises(roomcast.Closed):
                await b.say("no longer here")

    async def test_content_that_is_not_json_is_refused_at_once_and_blocks_nothing(self) -> None:
        g = self.gateway()
        async with roomcast.connect(g.url) as c:
            room = await c.join("lobby")
            for bad in ({"a": {1}}, float("nan"), "\ud800"):
                with self.assertRaises((TypeError, ValueError)):
                    await room.say(data=bad)
            with self.assertRaises(roomcast.Refused) as refused:
                await room.say("x" * 70_000)
            self.assertEqual(refused.exception.code, "too_large")
            self.assertEqual((await room.say("fine")).seq, 1)

    async def test_each_message_arrives_once_and_in_order_while_the_gateway_is_killed(self) -> None:
        g = self.gateway("--rate", "0")
        count = 400
        async with roomcast.connect(g.url) as speaker, roomcast.connect(g.url) as reader:
            for c in (speaker, reader):
                c._linker.max_wait = 1
            said, heard = await speaker.join("lobby"), await reader.join("lobby")

            async def talk() -> None:
                acks = []
                for i in range(count):
                    acks.append(asyncio.create_task(said.say(str(i))))
                    await asyncio.sleep(0.005)  # 200 messages a second
                seqs = [ack.seq for ack in await asyncio.gather(*acks)]
                self.assertEqual(seqs, list(range(1, count + 1)))

            async def kill() -> None:
                for after in (50, 150, 250):
                    while (heard.position or roomcast.Position(0)).seq < after:
                        await asyncio.sleep(0.01)
                    g.kill()
                    g.start()

            got, _, _ = await asyncio.wait_for(asyncio.gather(texts(heard, count), talk(), kill()), LIMIT)
            self.assertEqual(got, [str(i) for i in range(count)])

    async def test_a_position_continues_in_the_next_program(self) -> None:
        g = self.gateway()
        async with roomcast.connect(g.url) as c:
            room = await c.join("lobby")
            for i in range(5):
                await room.say(str(i), key=f"k{i}")
            self.assertEqual(await texts(room, 2), ["0", "1"])
            place, resume, you = room.position, c.resume, c.you
        assert place is not None
        async with roomcast.connect(g.url, resume=resume) as c:
            self.assertEqual(c.you.id, you.id)
            room = await c.join("lobby", since=place)
            self.assertEqual(await texts(room, 3), ["2", "3", "4"])
            ack = await room.say("4", key="k4")
            self.assertEqual((ack.seq, ack.duplicate), (5, True))
            other = await c.join("other", since=roomcast.Position(7, "e1"))
            event = await other.__anext__()
            while isinstance(event, roomcast.Joined):
                event = await other.__anext__()
            self.assertEqual(event, roomcast.Gap(8, 0, "reset", ""))

    async def test_a_slow_reader_misses_nothing(self) -> None:
        g = self.gateway()
        async with roomcast.connect(g.url, buffer=4) as c:
            room = await c.join("lobby")
            for i in range(50):
                await room.say(str(i))
            self.assertEqual(await asyncio.wait_for(texts(room, 50), LIMIT), [str(i) for i in range(50)])

    async def test_a_silent_network_is_noticed(self) -> None:
        defaults = inspect.signature(roomcast.connect).parameters
        self.assertLess(defaults["quiet"].default + defaults["patience"].default, 35)
        g = self.gateway()
        async with Proxy(g.url) as proxy, roomcast.connect(proxy.url, quiet=0.2, patience=1) as c:
            room = await c.join("lobby")
            await room.say("before")
            proxy.silence()
            async with roomcast.connect(g.url) as other:
                await (await other.join("lobby")).say("meanwhile")
            self.assertEqual(await asyncio.wait_for(texts(room, 2), LIMIT), ["before", "meanwhile"])
            await asyncio.wait_for(room.say("after"), LIMIT)

    async def test_the_backoff_grows_when_each_session_ends_at_once(self) -> None:
        enough, failures = asyncio.Event(), []

        async def session(connection: ServerConnection) -> None:
            await connection.send('{"hello":{"session":"s","you":{"id":"ann"},"resume":"r","time":"2026-11-22T10:53:07.123Z"}}')
            async for text in connection:
                command = json.loads(text)
                if "join" in command:
                    await connection.send(json.dumps({"id": command["id"], "ok": {"room": "lobby", "seq": 0, "epoch": "e"}}))
                    await connection.send('{"room":"lobby","seq":1,"at":"no time"}')

        def backoff(count: int, low: float, high: float) -> float:
            failures.append(count)
            if len(failures) == 5:
                enough.set()
            return 0

        async with serve(session, "127.0.0.1", 0, subprotocols=[Subprotocol("roomcast.v1")]) as server:
            with unittest.mock.patch("roomcast.link.backoff", backoff):
                async with roomcast.connect("ws://127.0.0.1:%d" % server.sockets[0].getsockname()[1]) as client:
                    await client.join("lobby")
                    await asyncio.wait_for(enough.wait(), LIMIT)
        self.assertEqual(failures[:5], [0, 1, 2, 3, 4])

    async def test_a_close_ends_the_iteration_and_the_waiting_calls(self) -> None:
        g = self.gateway("--guest-rights", "read say moderate")
        async with roomcast.connect(g.url) as c:
            room = await c.join("lobby")
            await room.moderate("close", why="done for today")
            with self.assertRaises(roomcast.Refused) as refused:
                async for item in room:
                    if isinstance(item, roomcast.Event):
                        self.assertEqual((item.kind, item.why), ("closed", "done for today"))
            self.assertEqual(refused.exception.code, "room_closed")
            with self.assertRaises(roomcast.Refused):
                await room.say("too late")
            with self.assertRaises(roomcast.Refused):
                await c.join("lobby")
            await room.moderate("reopen")
            self.assertEqual((await (await c.join("lobby")).say("again")).seq, 3)

    async def test_own_messages_are_edited_and_deleted(self) -> None:
        g = self.gateway()
        async with roomcast.connect(g.url) as c, roomcast.connect(g.url) as other:
            room, theirs = await c.join("lobby"), await other.join("lobby")
            await room.say("helo")
            await room.say("wrong room")
            self.assertEqual((await room.edit(1, "hello")).seq, 3)
            self.assertEqual((await room.edit(1, "hello", key="again")).seq, 4)
            ack = await room.edit(1, "hello", key="again")
            self.assertEqual((ack.seq, ack.duplicate), (4, True))
            self.assertEqual((await room.delete(2)).seq, 5)
            for refused in (theirs.edit(1, "mine"), theirs.delete(1), room.delete(2)):
                with self.assertRaises(roomcast.Refused):
                    await refused
            first, second, *_ = (await theirs.history()).events
            self.assertEqual((first.text, second.text), ("hello", None))

    def keyed(self) -> tuple[Gateway, bytes]:
        secret = b"s" * 40
        key = tempfile.NamedTemporaryFile()
        self.addCleanup(key.close)
        key.write(secret)
        key.flush()
        return self.gateway("--auth-key-file", key.name), secret

    async def test_a_token_is_refreshed_before_it_expires(self) -> None:
        g, secret = self.keyed()
        made = asyncio.Semaphore(0)

        async def fresh() -> str:
            made.release()
            return token(secret, 4)

        with self.assertNoLogs("roomcast", "WARNING"):
            async with roomcast.connect(g.url, token=fresh) as c:
                session = c._state.hello["session"]
                room = await c.join("lobby")
                for _ in range(2):
                    await asyncio.wait_for(made.acquire(), LIMIT)
                await room.say("still here")
                self.assertEqual((c.you.id, c._state.hello["session"]), ("ann", session))

    async def test_a_ticket_opens_one_session_and_is_renewed(self) -> None:
        tokens = tempfile.NamedTemporaryFile()
        self.addCleanup(tokens.close)
        tokens.write(b"app 0123456789abcdef tickets read say\n")
        tokens.flush()
        g = self.gateway("--api-token-file", tokens.name, "--guest-rights", "")
        made = asyncio.Semaphore(0)

        def ask(until: str) -> str:
            body = json.dumps({"id": "ann", "rooms": {"lobby": "read say"}, "until": until})
            request = urllib.request.Request(g.url + "/api/tickets", body.encode(), {"Authorization": "Bearer 0123456789abcdef"})
            with urllib.request.urlopen(request) as answer:
                return str(json.load(answer)["ok"]["ticket"])

        async def ticket() -> str:
            until = datetime.now(timezone.utc) + timedelta(seconds=6)
            made.release()
            return await asyncio.to_thread(ask, until.isoformat(timespec="milliseconds"))

        async with roomcast.connect(g.url, ticket=ticket) as c:
            await asyncio.wait_for(made.acquire(), LIMIT)
            room = await c.join("lobby")
            self.assertEqual(((await room.say("hi")).seq, c.you.id), (1, "ann"))
            await asyncio.wait_for(made.acquire(), LIMIT)  # before the session ends
            await room.say("still here")
            self.assertEqual(c.you.id, "ann")
        with self.assertRaises(roomcast.Closed) as closed:
            async with roomcast.connect(g.url, ticket=await ticket() + "x"):
                pass
        self.assertEqual(closed.exception.code, 4103)
        with self.assertRaises(ValueError):
            roomcast.connect(g.url, token="a", ticket="b")

    async def test_a_bad_token_ends_the_client_with_code_and_reason(self) -> None:
        g, _ = self.keyed()
        with self.assertRaises(roomcast.Closed) as closed:
            async with roomcast.connect(g.url, token=token(b"x" * 40, 60)):
                pass
        self.assertEqual(closed.exception.code, 4103)
        self.assertTrue(closed.exception.reason)

    async def test_closing_answers_every_caller(self) -> None:
        g = self.gateway()
        async with roomcast.connect(g.url) as c:
            room = await c.join("lobby")
            g.kill()
            waiting = asyncio.create_task(room.say("never"))
            reading = asyncio.create_task(texts(room, 1))
            await asyncio.sleep(0)
        for task in (waiting, reading):
            with self.assertRaises(roomcast.Closed):
                await task
        g.start()

    async def test_the_example_of_the_readme_runs(self) -> None:
        g = self.gateway()
        readme = (ROOT / "gateway/client/python/README.md").read_text()
        program = readme.partition("```python\n")[2].partition("```")[0].replace("ws://127.0.0.1:8000", g.url)
        p = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", program, stdout=-1)
        assert p.stdout is not None
        self.assertEqual(await asyncio.wait_for(p.stdout.readline(), LIMIT), b"1 Ann hi\n")
        p.kill()
        await p.communicate()

    async def test_tail_shows_a_room(self) -> None:
        g = self.gateway("--guest-rights", "read say moderate")

        async def tail(*args: str) -> asyncio.subprocess.Process:
            command = [sys.executable, "-m", "roomcast", "tail", "--url", g.url, *args]
            return await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1, env={**os.environ, "TZ": "UTC"})

        async with roomcast.connect(g.url, name="Ann") as c:
            room = await c.join("lobby")
            for text in ("one", "two", "a\x1b[2Jb"):
                await room.say(text)
            p = await tail("-n", "2", "lobby")
            out, err = await p.communicate()
            lines = out.decode().splitlines()
            self.assertEqual([line[20:] for line in lines], ["Ann: two", "Ann: a\N{REPLACEMENT CHARACTER}[2Jb"], err)
            self.assertEqual(p.returncode, 0)
            p = await tail("-f", "--json", "--since", "2", "lobby")
            assert p.stdout is not None
            self.assertIn(b'"seq": 3', await asyncio.wait_for(p.stdout.readline(), LIMIT))
            await room.moderate("close", why="enough")
            out, err = await asyncio.wait_for(p.communicate(), LIMIT)
            self.assertIn(b'"closed"', out)
            self.assertIn(b"room_closed: enough", err)
            self.assertEqual(p.returncode, 1)


if __name__ == "__main__":
    unittest.main()
