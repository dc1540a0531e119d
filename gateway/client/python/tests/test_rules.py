"""Tests of the rules without I/O, and tests with the golden files of the protocol."""

from __future__ import annotations

import asyncio
import json
import unittest
from collections.abc import Callable
from typing import Any

import roomcast
from roomcast.__main__ import as_text
from roomcast.rules import MAX_PENDING, Membership, Silent, State, encode
from roomcast.values import Event, read_item

from harness import ROOT


def golden(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((ROOT / "proto/testdata/golden" / name).read_text())["rows"]
    return rows


class GoldenTest(unittest.TestCase):
    def test_close_codes(self) -> None:
        for row in golden("closes.json"):
            got = roomcast.close_name(row["code"]), roomcast.reconnects(row["code"])
            self.assertEqual(got, (row["name"], row["reconnect"]), row)

    def test_every_event_is_read(self) -> None:
        for row in golden("events.json"):
            frame = json.loads(row["frame"])
            event = read_item(frame)
            assert isinstance(event, roomcast.Event), row
            self.assertEqual((event.room, event.seq, event.kind), (frame["room"], frame["seq"], frame.get("kind", "message")))

    def test_every_event_is_shown(self) -> None:
        shown = {row["name"]: as_text(Event.read(json.loads(row["frame"]))).partition(" u1: ")[2] for row in golden("events.json")}
        self.assertEqual(shown["edited"], "[edited 58: hello]")
        self.assertEqual(shown["deleted"], "[deleted 58]")
        self.assertEqual(shown["the stub of a deleted message or edit"], "[message deleted]")
        self.assertEqual(shown["the stub of an edit, from version 0.1.0"], "[message deleted]")
        self.assertNotIn("null", shown.values())

    def test_every_frame_of_a_room_is_read(self) -> None:
        kinds = {"gap": roomcast.Gap, "signal": roomcast.Signal, "joined": roomcast.Joined, "left": roomcast.Left}
        for row in golden("frames.json"):
            frame = json.loads(row["frame"])
            for name, kind in kinds.items():
                if name in frame:
                    self.assertIsInstance(read_item(frame), kind, row)

    def test_commands_are_written_as_in_the_golden_file(self) -> None:
        frames = {row["name"]: row["frame"] for row in golden("commands.json")}
        say = {"room": "lobby", "text": "hi", "key": "3f9c"}
        self.assertEqual(encode(1, "say", say).decode(), frames["say text"])


class RulesTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.state = State(lambda: None, 15, 15, "")

    def sent(self, now: float = 0) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.state.due(now)[0]]

    async def joined(self, start: dict[str, Any] | None = None, seq: int = 0, buffer: int = 100) -> Membership:
        room = Membership("lobby", start or {}, buffer)
        self.state.attach({"resume": ""}, 0)
        self.state.follow(room)
        self.answer(self.sent()[0], {"room": "lobby", "seq": seq, "epoch": "e1"})
        return room

    def answer(self, command: dict[str, Any], ok: dict[str, Any]) -> None:
        self.state.receive(json.dumps({"id": command["id"], "ok": ok}), 0)

    def event(self, seq: int, **more: Any) -> None:
        self.state.receive(json.dumps({"room": "lobby", "seq": seq, "at": "2026-11-22T10:53:07.123Z", "text": "", **more}), 0)

    def rejoin(self) -> dict[str, Any]:
        self.state.detach()
        self.state.attach({"resume": ""}, 0)
        join: dict[str, Any] = self.sent()[0]["join"]
        return join

    async def test_last_is_asked_for_once(self) -> None:
        await self.joined({"last": 10}, seq=57)
        self.assertEqual(self.rejoin(), {"room": "lobby", "since": 47, "epoch": "e1"})

    async def test_a_reset_begins_a_new_history(self) -> None:
        await self.joined({"since": 42, "epoch": "e0"}, seq=3)
        self.assertEqual(self.rejoin()["epoch"], "e0", "the reset has not arrived yet")
        self.answer({"id": max(self.state.calls)}, {"room": "lobby", "seq": 3, "epoch": "e1"})
        self.state.receive('{"room":"lobby","gap":{"from":43,"to":0,"reason":"reset","epoch":"e1"}}', 0)
        self.assertEqual(self.rejoin(), {"room": "lobby", "since": 0})
        self.answer({"id": max(self.state.calls)}, {"room": "lobby", "seq": 3, "epoch": "e1"})
        self.event(1)
        self.assertEqual(self.rejoin(), {"room": "lobby", "since": 1, "epoch": "e1", "at": "2026-11-22T10:53:07.123Z"})

    async def test_a_hole_makes_the_room_join_again(self) -> None:
        room = await self.joined()
        self.event(1)
        self.event(3)
        self.assertEqual([i.seq for i, _ in room.queue if isinstance(i, roomcast.Event)], [1])
        self.assertEqual(self.sent(), [], "the queue is not empty")
        room.queue.clear()
        (leave,) = self.sent()
        refusal = {"code": "rate_limited", "message": "slow down", "retry_ms": 1}
        self.state.receive(json.dumps({"id": leave["id"], "error": refusal}), 0)
        (leave,) = self.sent(5)
        self.assertEqual(leave["leave"], {"room": "lobby"}, "a join without a leave before it begins no replay")
        self.answer(leave, {"room": "lobby"})
        self.assertEqual(self.sent(5)[0]["join"]["since"], 1)

    async def test_the_wait_for_answers_has_a_bound(self) -> None:
        room = await self.joined()
        for _ in range(MAX_PENDING):
            self.state.call("say", {"room": "lobby"}, room)
        with self.assertRaises(roomcast.Full):
            self.state.call("say", {"room": "lobby"}, room)

    async def test_a_silent_server_is_asked_and_given_up(self) -> None:
        await self.joined()
        self.assertEqual(self.state.due(14), ([], 1))
        self.assertEqual(list(self.sent(15)[0])[1], "ping")
        self.state.due(29)
        with self.assertRaises(Silent):
            self.state.due(30)

    async def test_a_message_whose_key_may_be_forgotten_is_not_sent_again(self) -> None:
        room = await self.joined()
        first, second = (self.state.call("say", {"room": "lobby", "key": key}, room) for key in "ab")
        self.assertEqual([f["say"]["key"] for f in self.sent(10)], ["a"])
        for now, key in ((114, "a"), (116, "b")):
            self.state.detach()
            self.state.attach({"resume": ""}, now)
            self.answer(self.sent(now)[0], {"room": "lobby", "seq": 0, "epoch": "e1"})
            self.assertEqual([f["say"]["key"] for f in self.sent(now) if "say" in f], [key])
        with self.assertRaises(roomcast.Uncertain):
            await asyncio.wait_for(first.answer, 1)
        self.assertFalse(second.answer.done())

    async def test_the_end_of_a_membership_leaves_sent_messages_uncertain(self) -> None:
        async def ended(room: Membership, end: Callable[[], None]) -> None:
            sent, waiting = (self.state.call("say", {"room": "lobby", "key": key}, room) for key in "ab")
            self.assertEqual([f["say"]["key"] for f in self.sent() if "say" in f], ["a"])
            end()
            with self.assertRaises(roomcast.Uncertain):
                await sent.answer
            with self.assertRaises(roomcast.Refused):
                await waiting.answer

        room = await self.joined()
        await ended(room, lambda: self.event(1, kind="closed"))

        kick = {"room": "lobby", "ended": {"code": 4101, "reason": "no"}}
        await ended(await self.joined(), lambda: self.state.receive(json.dumps(kick), 0))

        def refuse_the_next_join() -> None:
            self.state.detach()
            self.state.attach({"resume": ""}, 0)
            refusal = {"id": self.sent()[0]["id"], "error": {"code": "banned", "message": "no"}}
            self.state.receive(json.dumps(refusal), 0)

        await ended(await self.joined(), refuse_the_next_join)

    async def test_a_busy_server_does_not_make_a_sent_message_certain(self) -> None:
        room = await self.joined()
        call = self.state.call("say", {"room": "lobby", "key": "a"}, room)
        busy = {"id": self.sent()[0]["id"], "error": {"code": "unavailable", "message": "wait", "retry_ms": 10}}
        self.state.receive(json.dumps(busy), 0)
        self.event(1, kind="closed")
        with self.assertRaises(roomcast.Uncertain):
            await call.answer

    def returns(self, now: float, id: str = "") -> list[Any]:
        """The keys of the messages that the next connection sends after its join."""
        self.state.detach()
        self.state.attach({"resume": "", "you": {"id": id}}, now)
        self.answer(self.sent(now)[0], {"room": "lobby", "seq": 0, "epoch": "e1"})
        return [f["say"]["key"] for f in self.sent(now) if "say" in f]

    async def test_another_sender_does_not_send_the_message_again(self) -> None:
        room = await self.joined()
        call = self.state.call("say", {"room": "lobby", "key": "a"}, room)
        self.sent(10)
        self.assertEqual(self.returns(11), ["a"])
        self.assertEqual(self.returns(12, "anon-other"), [], "the server knows the key only of the same sender")
        with self.assertRaises(roomcast.Uncertain):
            await asyncio.wait_for(call.answer, 1)

    async def test_a_busy_server_does_not_make_the_client_forget_an_earlier_connection(self) -> None:
        room = await self.joined()
        call = self.state.call("say", {"room": "lobby", "key": "a"}, room)
        self.sent(10)
        self.assertEqual(self.returns(11), ["a"])
        busy = {"id": call.id, "error": {"code": "overloaded", "message": "wait", "retry_ms": 10}}
        self.state.receive(json.dumps(busy), 11)
        self.assertEqual(self.returns(300), [], "the server may have stored the first message and forgotten its key")
        with self.assertRaises(roomcast.Uncertain):
            await asyncio.wait_for(call.answer, 1)

    async def test_a_signal_is_not_sent_twice(self) -> None:
        await self.joined()
        call = self.state.call("signal", {"room": "lobby", "type": "t"}, again=False)
        self.sent()
        self.rejoin()
        with self.assertRaises(roomcast.Lost):
            await asyncio.wait_for(call.answer, 1)


if __name__ == "__main__":
    unittest.main()
