"""What the tests of realtime-py share: the server's addresses and keys, users, SQL, and waiting."""

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

# How long anything may take, in seconds. Far above what it should, because the machine may be busy.
PATIENCE = 10
# How long silence has to last to be believed.
MOMENT = 0.3


def mint(claims):
    """Signs claims with the server's secret."""

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    header = json.dumps({"alg": "HS256", "typ": "JWT"}).encode()
    text = part(header) + b"." + part(json.dumps(claims).encode())
    signature = hmac.new(JWT_SECRET.encode(), text, hashlib.sha256).digest()
    return (text + b"." + part(signature)).decode()


class User:
    """Somebody new."""

    def __init__(self):
        self.id = str(uuid.uuid4())
        self.token = self.token_for(3_600)

    def token_for(self, seconds):
        return mint({"sub": self.id, "role": "authenticated", "exp": int(time.time()) + seconds})


def unique_topic(kind="room"):
    """A name that no other test uses."""
    return f"{kind}:{uuid.uuid4()}"


def sql(statement, database=DATABASE_URL):
    """Runs SQL as the owner of the tables."""
    command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def until(what, condition, patience=PATIENCE):
    """Waits until a condition holds; returns what it gave. `what` may be callable, for what is only known at the end."""
    deadline = time.monotonic() + patience
    while True:
        held = condition()
        if held:
            return held
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what() if callable(what) else what}")
        await asyncio.sleep(0.01)


def config(private=False, key="", presence=False, **broadcast):
    """The parameters of a channel."""
    return {
        "config": {
            "broadcast": {"ack": False, "self": False, **broadcast},
            "presence": {"key": key, "enabled": presence},
            "private": private,
        }
    }


class Case(unittest.IsolatedAsyncioTestCase):
    """A test with clients that end with it."""

    async def asyncSetUp(self):
        self.clients = []

    async def asyncTearDown(self):
        for client in self.clients:
            await client.close()

    async def client(self, key=ANON_KEY, token=None, url=URL, **options):
        """A client as applications make one, with a user's token if one is given."""
        client = AsyncRealtimeClient(f"{url}/realtime/v1", key, **options)
        self.clients.append(client)
        if token:
            await client.set_auth(token)
        return client

    async def subscribe(self, channel, wanted="SUBSCRIBED"):
        """Subscribes, and waits for the status that is wanted; every status is kept in `channel.told`."""
        channel.told = []
        await channel.subscribe(lambda status, error: channel.told.append((status.value, error)))
        await self.expect_status(channel, wanted)
        return channel

    async def expect_status(self, channel, wanted, patience=PATIENCE):
        def what():
            return f"{wanted} of {channel.topic}, not {channel.told}"

        return await until(what, lambda: [told for told in channel.told if told[0] == wanted], patience)


def listen(channel, event="*"):
    """Keeps the broadcasts of a channel, as they come, in a list."""
    heard = []
    channel.on_broadcast(event, heard.append)
    return heard


def presence_of(channel):
    """The presence of a channel without what the server adds: key to payloads."""
    return {
        key: [{name: value for name, value in meta.items() if name != "presence_ref"} for meta in metas]
        for key, metas in channel.presence_state().items()
    }
