"""A real gateway for tests, which can be killed and started again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import pathlib
import subprocess
import tempfile
import time

logging.getLogger("asyncio").setLevel(logging.ERROR)  # no warnings about slow steps on a busy machine

ROOT = pathlib.Path(__file__).parents[4]


def binary() -> str:
    """The path of the gateway to test: $ROOMCAST_GATEWAY, or a program that this function builds."""
    if "ROOMCAST_GATEWAY" not in os.environ:
        path = os.path.join(tempfile.mkdtemp(prefix="roomcast-"), "gateway")
        subprocess.run(["go", "build", "-o", path, "./gateway"], cwd=ROOT, check=True)
        os.environ["ROOMCAST_GATEWAY"] = path
    return os.environ["ROOMCAST_GATEWAY"]


class Gateway:
    def __init__(self, *flags: str) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="roomcast-test-")
        self.flags = flags
        self.listen = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Start the gateway. A later start uses the same port and the same log as the first."""
        self.process = subprocess.Popen(
            [binary(), "--listen", self.listen, "--data-dir", self.directory.name, "--sync", "1s", "--log-level", "error"]
            + ["--nats-monitor", "off", "--ops-listen", "off", "--drain-time", "50ms", *self.flags],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            label, _, address = line.strip().partition(" ")
            if label == "open":
                self.url = address.strip().rstrip("/")
                self.listen = self.url.removeprefix("http://")
                return
        raise AssertionError("the gateway does not start")

    def kill(self) -> None:
        """End the process as kill -9 does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def close(self) -> None:
        self.kill()
        self.directory.cleanup()


def token(secret: bytes, seconds: float, **claims: object) -> str:
    """A JSON Web Token that expires in the given number of seconds."""

    def part(b: bytes) -> str:
        return base64.urlsafe_b64encode(b).rstrip(b"=").decode()

    now = time.time()
    claims = {"sub": "ann", "iat": int(now), "exp": int(now + seconds), **claims}
    text = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return text + "." + part(hmac.new(secret, text.encode(), hashlib.sha256).digest())
