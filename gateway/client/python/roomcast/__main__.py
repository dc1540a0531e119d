"""The command `python -m roomcast tail lobby`: show the messages of a room."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys

from . import Error, Event, Gap, Item, Room, connect


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m roomcast", description="A client of Roomcast.")
    commands = p.add_subparsers(dest="command", required=True)
    tail = commands.add_parser(
        "tail",
        help="show the newest messages of a room",
        epilog="The exit status is 0 when all messages have been shown, 1 when the server ended the session or the membership, "
        "2 for a mistake in the command line, and 130 after an interrupt.",
    )
    tail.add_argument("room")
    tail.add_argument("-f", "--follow", action="store_true", help="keep running and show each new message")
    tail.add_argument("-n", "--last", type=int, default=10, metavar="N", help="begin with the newest N messages; default 10")
    tail.add_argument("--since", type=int, metavar="SEQ", help="begin after the message with this number instead")
    tail.add_argument("--json", action="store_true", help="print each item as one line of JSON")
    tail.add_argument(
        "--url",
        default=os.environ.get("ROOMCAST_URL", "ws://127.0.0.1:8000"),
        help="address of the gateway; default $ROOMCAST_URL, or ws://127.0.0.1:8000",
    )
    tail.add_argument("--token-file", metavar="FILE", help="log in with the token in this file; default $ROOMCAST_TOKEN")
    return p


async def tail(args: argparse.Namespace) -> None:
    token = os.environ.get("ROOMCAST_TOKEN")
    if args.token_file:
        with open(args.token_file, encoding="utf-8") as f:
            token = f.read().strip()
    async with connect(args.url, token=token) as client:
        if args.since is not None:
            room = await client.join(args.room, since=args.since)
        elif args.last > 0:
            room = await client.join(args.room, last=args.last)
        else:
            room = await client.join(args.room)
        while args.follow or not shown(room):
            item = await room.__anext__()
            line = as_json(room, item) if args.json else as_text(item)
            if line:
                print(line, flush=True)


def shown(room: Room) -> bool:
    """Whether all events that the room had when the client joined it have been shown."""
    return room.head == 0 or room.position is not None and room.position.seq >= room.head


def as_text(item: Item) -> str:
    if isinstance(item, Gap):
        if item.reason == "reset":
            return "[the room has another history now, which follows from its oldest message on]"
        return f"[messages {item.first} to {item.last} cannot be shown any more: {item.reason}]"
    if not isinstance(item, Event):
        return ""
    content = item.text
    if item.deleted:
        content = "[message deleted]"
    elif item.kind != "message":
        content = act(item)
    elif item.bin is not None:
        content = f"[{len(item.bin)} bytes]"
    elif content is None:
        content = json.dumps(item.data, ensure_ascii=False)
    at = f"{item.at.astimezone():%Y-%m-%d %H:%M:%S}" if item.at else "-"
    return f"{at} {printable(item.sender.name or item.sender.id)}: {printable(content)}"


def act(event: Event) -> str:
    """An act, for example "[edited 42: hello]" or "[muted bob until 2026-11-27T12:00:00.000Z: spam]"."""
    raw = event.raw or {}
    words = [event.kind, raw.get("member", ""), str(event.of or "")]
    if "until" in raw:
        words.append(f"until {raw['until']}")
    if event.kind == "slowed":
        words = ["slow mode ended"] if raw.get("every") == "0s" else [f"slowed to one message in {raw.get('every')}"]
    note = event.text if event.kind == "edited" else event.why
    return f"[{' '.join(filter(None, words))}{f': {note}' if note else ''}]"


def printable(text: str) -> str:
    """The text without control characters, because they could change the state of the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def as_json(room: Room, item: Item) -> str:
    if isinstance(item, Event):
        return json.dumps(item.raw, ensure_ascii=False)
    if isinstance(item, Gap):
        gap = {"from": item.first, "to": item.last, "reason": item.reason, "epoch": item.epoch}
        return json.dumps({"room": room.name, "gap": gap})
    return ""


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    logging.basicConfig(format="roomcast: %(message)s", level=logging.WARNING)
    try:
        asyncio.run(tail(args))
    except Error as error:
        print(f"roomcast: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"roomcast: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
