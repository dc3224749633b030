"""Helpers for the realtime-py tests: server address and keys, users, SQL, and waiting."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
import unittest
import uuid

from realtime import AsyncRealtimeClient

URL = os.environ["ROLLCALL_URL"]
DATABASE_URL = os.environ["DATABASE_URL"]
JWT_SECRET = os.environ["JWT_SECRET"]
ANON_KEY = os.environ["ANON_KEY"]
SERVICE_ROLE_KEY = os.environ["SERVICE_ROLE_KEY"]

# Time limit in seconds for any condition. Far above the expected time, because the machine may be busy.
WAIT_TIMEOUT = 10
# Time in seconds without messages after which none is expected any more.
QUIET_PERIOD = 0.3


def mint(claims):
    """Signs claims with the server's secret."""

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    header = json.dumps({"alg": "HS256", "typ": "JWT"}).encode()
    text = part(header) + b"." + part(json.dumps(claims).encode())
    signature = hmac.new(JWT_SECRET.encode(), text, hashlib.sha256).digest()
    return (text + b"." + part(signature)).decode()


class User:
    """A user with a random ID."""

    def __init__(self):
        self.id = str(uuid.uuid4())
        self.token = self.token_for(3_600)

    def token_for(self, seconds):
        return mint({"sub": self.id, "role": "authenticated", "exp": int(time.time()) + seconds})


def unique_topic(kind="room"):
    """Returns a topic that no other test uses."""
    return f"{kind}:{uuid.uuid4()}"


def sql(statement, database=DATABASE_URL):
    """Runs SQL as the owner of the tables."""
    command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def until(what, condition, timeout=WAIT_TIMEOUT):
    """Waits until a condition holds; returns its value. `what` may be a callable that is called on failure."""
    deadline = time.monotonic() + timeout
    while True:
        held = condition()
        if held:
            return held
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        await asyncio.sleep(0.01)


def config(private=False, key="", presence=False, **broadcast):
    """Returns the parameters of a channel."""
    return {
        "config": {
            "broadcast": {"ack": False, "self": False, **broadcast},
            "presence": {"key": key, "enabled": presence},
            "private": private,
        }
    }


class Case(unittest.IsolatedAsyncioTestCase):
    """A test case that closes its clients at the end."""

    async def asyncSetUp(self):
        self.clients = []

    async def asyncTearDown(self):
        for client in self.clients:
            await client.close()

    async def client(self, key=ANON_KEY, token=None, url=URL, **options):
        """Creates a client like an application, with a user's token if given."""
        client = AsyncRealtimeClient(f"{url}/realtime/v1", key, **options)
        self.clients.append(client)
        if token:
            await client.set_auth(token)
        return client

    async def subscribe(self, channel, wanted="SUBSCRIBED"):
        """Subscribes and waits for a status. All statuses are recorded in `channel.statuses`."""
        channel.statuses = []
        await channel.subscribe(lambda status, error: channel.statuses.append((status.value, error)))
        await self.expect_status(channel, wanted)
        return channel

    async def expect_status(self, channel, wanted, timeout=WAIT_TIMEOUT):
        def what():
            return f"{wanted} of {channel.topic}, not {channel.statuses}"

        return await until(what, lambda: [entry for entry in channel.statuses if entry[0] == wanted], timeout)


def listen(channel, event="*"):
    """Records the broadcasts of a channel in a list."""
    received = []
    channel.on_broadcast(event, received.append)
    return received


def presence_of(channel):
    """Returns the presence of a channel without the fields that the server adds: key to payloads."""
    return {
        key: [{name: value for name, value in meta.items() if name != "presence_ref"} for meta in metas]
        for key, metas in channel.presence_state().items()
    }
