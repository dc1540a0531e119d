"""Opens one connection after the other, and does the I/O for rules.State."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Union
from urllib.parse import quote, urlsplit, urlunsplit

import websockets.asyncio.client as ws
from websockets.exceptions import ConnectionClosed, InvalidStatus, NegotiationError, WebSocketException
from websockets.typing import Subprotocol

from .rules import State, backoff
from .values import TOKEN_EXPIRED, Closed, Error, Frame, HandshakeRefused, Refused, read_time, reconnects

log = logging.getLogger("roomcast")

SUBPROTOCOL = "roomcast.v1"
STABLE = 5.0  # seconds; only a session that has lasted longer resets the backoff
OPEN_TIMEOUT = 10.0  # seconds for the handshake, and as many again for the hello
MAX_FRAME = 16 << 20  # largest accepted frame in bytes; gateways send only smaller ones

Credential = Union[str, Callable[[], Awaitable[str]]]


def session_url(base: str, name: str) -> str:
    """The WebSocket address of a gateway for a JSON session that begins in no room."""
    parts = urlsplit(base)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss"):
        raise ValueError(f"the URL {base!r} is not one of ws, wss, http and https")
    query = f"name={quote(name, safe='')}" if name else ""
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", query, ""))


class Linker:
    """Keeps the client connected. It belongs to the task that calls run."""

    def __init__(self, state: State, wake: asyncio.Event, urls: list[str], credential: Credential | None, kind: str) -> None:
        self.state = state
        self.wake = wake
        self.urls = urls
        self.credential = credential
        self.kind = kind  # kind of the credential: token or ticket
        self.min_wait, self.max_wait = 0.5, 20.0  # seconds
        self.begun = asyncio.Event()  # the first session has begun
        self.connected = False
        self.since = 0.0  # when the newest session began
        self.presented: str | None = None  # the newest token or ticket that was sent
        self.expired: Closed | None = None  # the newest close with code 4003; None = no credential has expired
        self.expirations = 0  # how often servers have called the newest credential expired

    async def run(self) -> None:
        """Open one session after the other, until an error says that another try cannot succeed."""
        turn, failures = random.randrange(len(self.urls)), 0
        while True:
            self.connected = False
            try:
                await self._session(self.urls[turn % len(self.urls)])
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if self.connected and asyncio.get_running_loop().time() - self.since > STABLE:
                    failures = 0
                if not self._again(error):
                    self.state.end(error)
                    return
                asked = min(error.retry, 60) if isinstance(error, HandshakeRefused) else 0
                wait = max(backoff(failures, self.min_wait, self.max_wait), asked)
                expected = isinstance(error, (Error, OSError, WebSocketException, asyncio.TimeoutError))
                trace = None if expected else error  # a frame that this version cannot read, or a bug
                log.warning("not connected: %s; next try in %.1f s", error, wait, exc_info=trace)
            turn, failures = turn + 1, failures + 1
            self.connected = False
            await asyncio.sleep(wait)

    def _again(self, error: Exception) -> bool:
        if isinstance(error, HandshakeRefused):
            return error.status >= 500 or error.status in (408, 429)
        if isinstance(error, Closed):
            if error is self.expired:
                return False  # there is no fresh credential
            if error.code == TOKEN_EXPIRED:
                self.expired = error
                self.expirations += 1
                self.state.hello["resume"] = ""  # the resume string may have been revoked
            return reconnects(error.code)
        return True

    async def _session(self, url: str) -> None:
        """Open a connection and serve its session. It always ends with an exception."""
        connection = await self._open(url)
        try:
            with _within(OPEN_TIMEOUT, connection):
                hello = json.loads(await connection.recv())["hello"]
            if self.kind == "ticket" and hello["you"]["id"].startswith("anon-"):
                self.state.hello["resume"] = ""
                raise ConnectionError("the server took the client for a guest")
            self.since = asyncio.get_running_loop().time()
            self.state.attach(hello, self.since)
            self.connected = True
            self.begun.set()
            log.info("connected to %s", url)
            tasks = [asyncio.create_task(self._read(connection)), asyncio.create_task(self._write(connection))]
            if callable(self.credential) and "expires" in hello:
                tasks.append(asyncio.create_task(self._refresh(self.credential, hello)))
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.state.detach()
            for task in done:
                task.result()
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd_then_sent is not False:
                raise Closed(error.rcvd.code, error.rcvd.reason) from None
            raise
        except asyncio.CancelledError:
            await connection.close()
            raise
        finally:
            connection.transport.abort()

    async def _open(self, url: str) -> ws.ClientConnection:
        offers = [Subprotocol(SUBPROTOCOL)]
        if self.state.hello["resume"]:  # the resume string is a secret, so it is not in the URL, which servers log
            offers.append(Subprotocol("resume." + self.state.hello["resume"]))
        headers = {}
        given = await self._present()
        if given and self.kind == "token":
            headers["Authorization"] = f"Bearer {given}"
        elif given:  # servers log URLs, but a ticket can be used only once
            url += ("&" if "?" in url else "?") + "ticket=" + quote(given, safe="")
        try:
            return await ws.connect(
                url,
                subprotocols=offers,
                additional_headers=headers,
                open_timeout=OPEN_TIMEOUT,
                ping_interval=None,  # State decides when to ping
                close_timeout=2,
                max_size=MAX_FRAME,
            )
        except InvalidStatus as error:
            text = (error.response.body or b"").decode(errors="replace").strip()
            after = error.response.headers.get("Retry-After", "")
            raise HandshakeRefused(error.response.status_code, text, float(after) if after.isdigit() else 0) from error
        except NegotiationError as error:
            raise HandshakeRefused(404, f"the server does not speak {SUBPROTOCOL}") from error

    async def _present(self) -> str | None:
        """The credential for the next connection. After a session with a ticket, that is its resume string."""
        if self.kind == "ticket" and self.state.hello["resume"]:
            return None
        given = await self.credential() if callable(self.credential) else self.credential
        if given != self.presented:
            self.expirations = 0
        if self.expired is not None and self.expirations > 1:
            raise self.expired
        self.presented = given
        return given

    async def _read(self, connection: ws.ClientConnection) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self.state.receive(await connection.recv(), clock())

    async def _write(self, connection: ws.ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.wake.clear()
            frames, wait = self.state.due(loop.time())
            for frame in frames:
                with _within(self.state.patience, connection):
                    try:
                        await connection.send(frame, text=True)
                    except ConnectionClosed:
                        return  # the reader raises the reason after it has handled all earlier frames
            timer = loop.call_later(max(wait, 0.001), self.wake.set)
            try:
                await self.wake.wait()
            finally:
                timer.cancel()

    async def _refresh(self, credential: Callable[[], Awaitable[str]], hello: Frame) -> None:
        """Send a fresh token or ticket before the session expires, by the server's clock."""
        clock = asyncio.get_running_loop().time
        ahead = read_time(hello["time"]).timestamp() - clock()  # how far the server's clock is ahead of ours
        expires = read_time(hello["expires"]).timestamp()
        while True:
            left = expires - ahead - clock()
            await asyncio.sleep(max(1, left - min(60, left / 4)))
            for failures in itertools.count():  # if no try succeeds in time, the server closes with 4003
                try:
                    fresh = await credential()
                    if fresh == self.presented:
                        raise ValueError(f"the {self.kind} is not fresh")
                    ok = await self.state.call("auth", {self.kind: fresh}).answer
                    self.presented = fresh
                    break
                except Exception as error:
                    asked = error.retry or 0 if isinstance(error, Refused) else 0
                    log.warning("refresh %s: %s", self.kind, error)
                    await asyncio.sleep(max(asked, backoff(failures, 1, 20)))
            expires = read_time(ok["expires"]).timestamp()


@contextmanager
def _within(seconds: float, connection: ws.ClientConnection) -> Iterator[None]:
    """Abort the connection unless the body of the with statement ends in time."""
    timer = asyncio.get_running_loop().call_later(seconds, connection.transport.abort)
    try:
        yield
    finally:
        timer.cancel()
