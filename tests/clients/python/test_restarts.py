"""Tests with the unmodified realtime-py client across restarts of server and database."""

import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from helpers import DATABASE_URL, JWT_SECRET, Case, User, config, listen, sql, unique_topic, until
from realtime.types import RealtimePostgresChangesListenEvent as Event

# Time limit for a server start, which may include creating a cluster, in seconds.
START_TIMEOUT = 60


async def start_server(port, **settings):
    """Starts another server, for tests that stop it."""
    log = tempfile.TemporaryFile("w+")
    server = subprocess.Popen(
        [os.environ["SERVER_BINARY"], "serve"],
        env={"PATH": os.environ["PATH"], "JWT_SECRET": JWT_SECRET, "PORT": str(port), "NODE_LEASE": "2s", **settings},
        cwd=tempfile.gettempdir(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )

    def ready():
        log.seek(0)
        output = log.read()
        if server.poll() is not None:
            raise AssertionError(output)
        return "is ready at" in output

    await until("the server is ready", ready, START_TIMEOUT)
    return server


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Restarts(Case):
    async def test_clients_rejoin_after_a_server_restart(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signal=number.name):
                await self.restart(number)

    async def restart(self, number):
        port = free_port()
        server = await start_server(port, DATABASE_URL=DATABASE_URL)
        try:
            url, topic = f"http://127.0.0.1:{port}", unique_topic("open")
            clients = [await self.client(token=User().token, url=url) for _ in range(2)]
            ann, bob = (client.channel(topic, config(private=True, self=True)) for client in clients)
            received = listen(bob, "after")
            for channel in (ann, bob):
                await self.subscribe(channel)
            server.send_signal(number)
            server.wait(30)
            for channel in (ann, bob):
                channel.statuses.clear()
            server = await start_server(port, DATABASE_URL=DATABASE_URL)
            for channel in (ann, bob):
                await self.expect_status(channel, "SUBSCRIBED", 30)
            await ann.send_broadcast("after", {})
            await until("bob receives the broadcast of ann", lambda: received)
            for client in clients:
                await client.close()
        finally:
            server.kill()
            server.wait()

    async def test_changes_survive_a_kill_of_the_server_and_a_crash_of_postgresql(self):
        with tempfile.TemporaryDirectory(prefix="rollcall-restart-") as data:
            os.chmod(data, 0o755)
            await self.changes_through_restarts(Path(data, "rollcall"))

    async def changes_through_restarts(self, data):
        port = free_port()
        server = await start_server(port, EMBEDDED_DATABASE="true", ROLLCALL_DATA_DIR=str(data))
        try:
            lines = (line.split("=", 1) for line in (data / "env").read_text().splitlines() if "=" in line)
            env = {name.strip(): value.strip("'\"") for name, value in lines}
            database, me, other = env["DATABASE_URL"], User(), User()
            sql(
                "create table public.restarts (id int primary key, user_id uuid not null, kind text);"
                "alter table public.restarts replica identity full; alter table public.restarts enable row level security;"
                "grant select on public.restarts to authenticated;"
                "create policy own on public.restarts for select to authenticated using (user_id = (select auth.uid()));"
                "insert into rollcall.change_settings values ('public.restarts', true);"
                "alter publication supabase_realtime add table public.restarts",
                database,
            )
            client = await self.client(key=env["ANON_KEY"], token=me.token, url=f"http://127.0.0.1:{port}")
            channel = client.channel(unique_topic(), config())
            events = []

            def change(payload):
                data = payload["data"]
                row = data.get("record") or data["old_record"]
                events.append(f"{Event(data['type']).value} {row['id']}")

            channel.on_postgres_changes(Event.All, change, schema="public", table="restarts", filter="kind=eq.a")

            def system(message):
                events.append(message.message)
                channel.statuses.append((message.message, None))

            channel.on_system(system)

            async def wait_for_event(what):
                await until(lambda: f"{what} after {events} and {channel.statuses}", lambda: what in events, START_TIMEOUT)

            def write(n):
                sql(
                    f"insert into restarts values ({n}, '{me.id}', 'a'), ({n + 100}, '{me.id}', 'b'), ({n + 200}, '{other.id}', 'a');"
                    "update restarts set kind = kind; delete from restarts",
                    database,
                )

            def expected(n):
                return [f"INSERT {n}", f"UPDATE {n}", f"DELETE {n}"]

            confirmed = "Subscribed to PostgreSQL"
            await self.subscribe(channel)
            await wait_for_event(confirmed)
            write(1)
            await wait_for_event("DELETE 1")
            self.assertEqual(events, [confirmed, *expected(1)])

            server.kill()
            server.wait()
            events.clear()
            server = await start_server(port, EMBEDDED_DATABASE="true", ROLLCALL_DATA_DIR=str(data))
            await wait_for_event(confirmed)
            write(2)
            await wait_for_event("DELETE 2")
            self.assertEqual(events[-4:], [confirmed, *expected(2)], "the confirmation precedes the following changes")

            events.clear()
            channel.statuses.clear()
            (postmaster,) = data.glob("*/postmaster.pid")
            os.kill(int(postmaster.read_text().split()[0]), signal.SIGQUIT)
            # This client treats a system error as a channel error and rejoins.
            await self.expect_status(channel, "CHANNEL_ERROR", START_TIMEOUT)

            def confirmed_again():
                """The failed channel may be confirmed before the rejoin; only a confirmation after the rejoin counts."""
                statuses = [status for status, _ in channel.statuses]
                return "SUBSCRIBED" in statuses and confirmed in statuses[statuses.index("SUBSCRIBED") :]

            await until(lambda: f"a new confirmation in {channel.statuses}", confirmed_again, START_TIMEOUT)

            def database_is_back():
                try:
                    write(3)
                except subprocess.CalledProcessError:
                    return False
                return True

            await until("PostgreSQL is back", database_is_back, START_TIMEOUT)
            await wait_for_event("DELETE 3")
            self.assertEqual([event for event in events if event.endswith(" 3")], expected(3), "each once")
            await client.close()
        finally:
            # The server stops its cluster when it stops.
            server.terminate()
            server.wait(30)
