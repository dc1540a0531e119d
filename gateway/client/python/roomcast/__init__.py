"""A client of Roomcast: messages in rooms over WebSockets, each once and in order.

    async with roomcast.connect("ws://127.0.0.1:8000") as client:
        room = await client.join("lobby", last=10)
        await room.say("hi")
        async for item in room:
            match item:
                case roomcast.Event(text=str(text)):
                    print(item.seq, item.sender.name or item.sender.id, text)
                case roomcast.Gap():
                    print("messages", item.first, "to", item.last, "are gone")

client.py is the interface for applications, and values.py has the events, answers and errors that
it uses. rules.py has the rules of a session, without I/O. link.py opens the connections.
"""

from .client import Client, Room, connect
from .values import Ack, Closed, Error, Event, Full, Gap, HandshakeRefused, Item, Joined, Left, Lost
from .values import Members, Page, Person, Position, Refused, Signal, Uncertain, close_name, reconnects

__all__ = [
    "Ack", "Client", "Closed", "Error", "Event", "Full", "Gap", "HandshakeRefused", "Item", "Joined", "Left", "Lost",
    "Members", "Page", "Person", "Position", "Refused", "Room", "Signal", "Uncertain", "close_name", "connect", "reconnects",
]  # fmt: skip
