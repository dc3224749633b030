"""Tests with the unmodified realtime-py client."""

import asyncio
import os
import time

from helpers import (
    QUIET_PERIOD,
    SERVICE_ROLE_KEY,
    Case,
    User,
    config,
    listen,
    presence_of,
    sql,
    unique_topic,
    until,
)
from realtime.types import RealtimePostgresChangesListenEvent as Event


class Broadcasts(Case):
    async def test_a_broadcast_reaches_other_clients_and_its_sender_with_self(self):
        topic = unique_topic()
        quiet = (await self.client()).channel(topic, config())
        loud = (await self.client()).channel(topic, config(self=True, ack=True))
        received_quiet, received_loud = listen(quiet, "cursor"), listen(loud, "cursor")
        await self.subscribe(quiet)
        await self.subscribe(loud)
        payload = {"x": 1, "name": "Ä✓😀", "deep": {"list": [1, 2.5, None]}}
        await quiet.send_broadcast("cursor", payload)
        await until("the other client receives it", lambda: len(received_loud) == 1)
        self.assertEqual(received_loud[0]["event"], "cursor")
        self.assertEqual(received_loud[0]["payload"], payload)
        await loud.send_broadcast("cursor", {"n": 2})
        await until("both receive it", lambda: len(received_loud) == 2 and len(received_quiet) == 1)

    async def test_an_oversized_broadcast_does_not_close_the_channel(self):
        topic = unique_topic()
        sender = (await self.client()).channel(topic, config(ack=True))
        receiver = (await self.client()).channel(topic, config())
        received = listen(receiver, "e")
        await self.subscribe(sender)
        await self.subscribe(receiver)
        await sender.send_broadcast("e", {"s": "x" * 3_200_000})
        await sender.send_broadcast("e", {"n": 1})
        await until("the small message arrived", lambda: received)
        self.assertEqual(received[0]["payload"], {"n": 1})
        self.assertEqual([status for status, _ in sender.statuses], ["SUBSCRIBED"])

    async def test_http_send(self):
        topic = unique_topic("room with spaces, ü & /")
        client = await self.client()
        channel = client.channel(topic, config())
        received = listen(channel, "rest")
        await self.subscribe(channel)
        await (await self.client()).channel(topic, config()).http_send("rest", {"n": 1})
        await until("it arrived", lambda: received)
        self.assertEqual(received[0]["payload"], {"n": 1})
        user = User()
        private = unique_topic("open")
        channel = (await self.client(token=user.token)).channel(private, config(private=True))
        received = listen(channel, "rest")
        await self.subscribe(channel)
        await channel.http_send("rest", {"n": 2})
        await until("it arrived in the private channel", lambda: received)

    async def test_messages_from_the_database_are_delivered(self):
        topic = unique_topic("open")
        channel = (await self.client(token=User().token)).channel(topic, config(private=True))
        received = {event: listen(channel, event) for event in ["sent", "INSERT", "UPDATE", "DELETE"]}
        await self.subscribe(channel)
        sql(f"""select realtime.send('{{"n": 1}}', 'sent', '{topic}')""")
        await until("realtime.send arrives", lambda: received["sent"])
        message = received["sent"][0]
        self.assertEqual(message["payload"], {"n": 1, "id": message["meta"]["id"]})
        sql(
            f"insert into public.client_messages (topic, body) values ('{topic}', 'first');"
            f"update public.client_messages set body = 'second' where topic = '{topic}';"
            f"delete from public.client_messages where topic = '{topic}'"
        )
        await until("the trigger messages arrive", lambda: received["DELETE"])
        self.assertEqual(received["INSERT"][0]["payload"]["record"]["body"], "first")
        self.assertEqual(received["UPDATE"][0]["payload"]["old_record"]["body"], "first")
        self.assertIsNone(received["DELETE"][0]["payload"]["record"])

    async def test_earlier_messages_are_replayed(self):
        topic = unique_topic("open")
        since = int(time.time() * 1_000) - 60_000
        for n in range(1, 4):
            sql(f"""select realtime.send('{{"n": {n}}}', 'old', '{topic}')""")
        client = await self.client(token=User().token)
        channel = client.channel(topic, config(private=True, replay={"since": since, "limit": 2}))
        received = listen(channel, "old")
        await self.subscribe(channel)
        await until("two arrived", lambda: len(received) == 2)
        self.assertEqual([message["payload"]["n"] for message in received], [2, 3])
        self.assertTrue(all(message["meta"]["replayed"] for message in received))

    async def test_replication_ready_sends_a_system_message(self):
        channel = (await self.client()).channel(unique_topic(), config(replication_ready=True))
        system = []
        channel.on_system(system.append)
        await self.subscribe(channel)
        await until("the system message arrives", lambda: system)
        self.assertEqual(system[0].message, "Replication connection established")


class Presence(Case):
    async def presence_channel(self, topic, key, private=False, token=None):
        client = await self.client(token=token)
        channel = client.channel(topic, config(private=private, key=key))
        channel.seen = {"sync": 0, "join": [], "leave": []}

        def synced():
            channel.seen["sync"] += 1

        channel.on_presence_sync(synced)
        channel.on_presence_join(lambda key, _, new: channel.seen["join"].append((key, len(new))))
        channel.on_presence_leave(lambda key, _, left: channel.seen["leave"].append((key, len(left))))
        await self.subscribe(channel)
        await until("a first sync", lambda: channel.seen["sync"])
        return channel

    async def wait_for_presence(self, channel, expected):
        await until(lambda: f"{expected}, not {presence_of(channel)}", lambda: presence_of(channel) == expected)

    async def test_tracking_updating_and_untracking_reach_every_member(self):
        topic = unique_topic()
        ann, bob = await self.presence_channel(topic, "ann"), await self.presence_channel(topic, "bob")
        await ann.track({"status": "online"})
        for channel in [ann, bob]:
            await self.wait_for_presence(channel, {"ann": [{"status": "online"}]})
        await bob.track({"status": "busy"})
        await ann.track({"status": "away"})
        for channel in [ann, bob]:
            await self.wait_for_presence(channel, {"ann": [{"status": "away"}], "bob": [{"status": "busy"}]})
        await ann.untrack()
        for channel in [ann, bob]:
            await self.wait_for_presence(channel, {"bob": [{"status": "busy"}]})
        late = await self.presence_channel(topic, "late")
        await self.wait_for_presence(late, {"bob": [{"status": "busy"}]})
        await bob.unsubscribe()
        for channel in [ann, late]:
            await self.wait_for_presence(channel, {})

    async def test_a_closed_socket_leaves_and_several_sockets_share_a_key(self):
        topic = unique_topic()
        watcher = await self.presence_channel(topic, "watcher")
        tabs = [await self.presence_channel(topic, "user") for _ in range(2)]
        # Sequential, because the metas are in order of arrival.
        for number, tab in enumerate(tabs):
            await tab.track({"tab": number})
            await self.wait_for_presence(watcher, {"user": [{"tab": earlier} for earlier in range(number + 1)]})
        await tabs[0].socket.close()
        await self.wait_for_presence(watcher, {"user": [{"tab": 1}]})
        await tabs[1].socket.close()
        await self.wait_for_presence(watcher, {})

    async def test_presence_in_a_private_channel(self):
        topic = unique_topic("open")
        ann = await self.presence_channel(topic, "ann", private=True, token=User().token)
        bob = await self.presence_channel(topic, "bob", private=True, token=User().token)
        await ann.track({"secret": 1})
        await self.wait_for_presence(bob, {"ann": [{"secret": 1}]})

    async def test_the_sixth_push_within_30_seconds_exceeds_the_limit(self):
        channel = await self.presence_channel(unique_topic(), "me")
        for number in range(6):
            await channel.track({"n": number})
        errors = await self.expect_status(channel, "CHANNEL_ERROR")
        self.assertIn("Client presence rate limit exceeded", str(errors[0][1]))


class Private(Case):
    async def test_policies_decide_who_joins_writes_and_receives(self):
        topic = unique_topic("readonly")
        reader = (await self.client(token=User().token)).channel(topic, config(private=True, ack=True))
        received = listen(reader, "e")
        await self.subscribe(reader)
        await reader.send_broadcast("e", {"n": "refused"})
        service = (await self.client(key=SERVICE_ROLE_KEY)).channel(topic, config(private=True))
        await self.subscribe(service)
        await service.send_broadcast("e", {"n": 1})
        await until("the reader receives it", lambda: received)
        self.assertEqual([message["payload"]["n"] for message in received], [1])
        stranger = (await self.client()).channel(topic, config(private=True))
        await self.subscribe(stranger, "CHANNEL_ERROR")
        self.assertIn("Unauthorized: ", str(stranger.statuses[0][1]))

    async def test_set_auth_keeps_a_channel_open_after_its_first_token_expires(self):
        user = User()
        client = await self.client(token=user.token_for(3))
        channel = client.channel(unique_topic("open"), config(private=True, self=True))
        received = listen(channel, "e")
        await self.subscribe(channel)
        await client.set_auth(user.token)
        await asyncio.sleep(4.5)
        await channel.send_broadcast("e", {})
        await until("the channel stays open", lambda: received)
        self.assertEqual([status for status, _ in channel.statuses], ["SUBSCRIBED"])

    async def test_an_expired_token_closes_its_channel(self):
        client = await self.client()
        lasting = await self.subscribe(client.channel(unique_topic(), config()))
        other = await self.client(token=User().token_for(3))
        limited = await self.subscribe(other.channel(unique_topic("open"), config(private=True)))
        errors = await self.expect_status(limited, "CHANNEL_ERROR")
        self.assertIn("Token has expired", str(errors[0][1]))
        self.assertEqual([status for status, _ in lasting.statuses], ["SUBSCRIBED"])

    async def test_losing_a_membership_closes_the_channel_at_once(self):
        topic, user = unique_topic("members"), User()
        sql(f"insert into public.client_members values ('{topic}', '{user.id}')")
        channel = (await self.client(token=user.token)).channel(topic, config(private=True))
        await self.subscribe(channel)
        sql(f"delete from public.client_members where topic = '{topic}'")
        errors = await self.expect_status(channel, "CHANNEL_ERROR", 2)
        self.assertIn("You do not have permissions to read", str(errors[0][1]))

    async def test_publishable_and_secret_keys_map_to_roles(self):
        publishable = (await self.client(key="sb_publishable_clients")).channel(unique_topic(), config(self=True))
        received = listen(publishable, "e")
        await self.subscribe(publishable)
        await publishable.send_broadcast("e", {})
        await until("the sender receives it", lambda: received)
        secret = (await self.client(key="sb_secret_clients")).channel(unique_topic("any"), config(private=True))
        await self.subscribe(secret)


class Connections(Case):
    async def test_a_hundred_channels_share_a_socket(self):
        client = await self.client()
        channels = [client.channel(unique_topic(), config(self=True)) for _ in range(100)]
        received = [listen(channel, "e") for channel in channels]
        await client.connect()
        await asyncio.gather(*(self.subscribe(channel) for channel in channels))
        for number, channel in enumerate(channels):
            await channel.send_broadcast("e", {"n": number})
        await until("each channel receives its own message", lambda: all(len(messages) == 1 for messages in received))
        refused = await self.subscribe(client.channel(unique_topic(), config()), "CHANNEL_ERROR")
        self.assertIn("ChannelRateLimitReached", str(refused.statuses[0][1]))

    async def test_leaving_and_rejoining(self):
        topic, client = unique_topic(), await self.client()
        for _ in range(5):
            channel = client.channel(topic, config(self=True))
            received = listen(channel, "e")
            await self.subscribe(channel)
            await channel.send_broadcast("e", {})
            await until("it arrived", lambda: received)
            await client.remove_channel(channel)
        await asyncio.sleep(QUIET_PERIOD)


class Changes(Case):
    async def test_changes_of_a_table_are_delivered(self):
        room = unique_topic()
        channel = (await self.client(token=User().token)).channel(unique_topic(), config())
        received = []
        channel.on_postgres_changes(
            Event.All, received.append, schema="public", table="client_notes", filter=f"room=eq.{room}"
        )
        system = []
        channel.on_system(system.append)
        await self.subscribe(channel)
        await until("the subscription is confirmed", lambda: system)
        sql(f"insert into public.client_notes (room, title) values ('{room}', 'one'), ('other', 'two')")
        await until("the insert arrives", lambda: received)
        data = received[0]["data"]
        self.assertEqual((data["type"], data["record"]["title"]), ("INSERT", "one"))
        sql(f"update public.client_notes set title = 'three' where room = '{room}'")
        await until("the update arrives", lambda: len(received) == 2)
        self.assertEqual(received[1]["data"]["record"]["title"], "three")

    async def test_row_level_security_and_events_decide_what_is_delivered(self):
        ann, bob = User(), User()
        changes = {}
        for user in (ann, bob):
            channel = (await self.client(token=user.token)).channel(unique_topic(), config())
            changes[user] = received = []
            channel.on_postgres_changes(Event.Insert, received.append, schema="public", table="client_todos")
            await self.subscribe(channel)
        # Changes committed after the subscription are delivered.
        sql(f"insert into public.client_todos (user_id, body) values ('{ann.id}', 'hers'), ('{bob.id}', 'his')")
        sql(f"update public.client_todos set body = 'changed' where user_id = '{ann.id}'")
        await until("each client receives its change", lambda: all(changes.values()))
        await asyncio.sleep(QUIET_PERIOD)
        bodies = [[change["data"]["record"]["body"] for change in changes[user]] for user in (ann, bob)]
        self.assertEqual(bodies, [["hers"], ["his"]])


class Soak(Case):
    async def test_tokens_are_refreshed_while_all_channels_broadcast(self):
        seconds, topics, user = int(os.environ.get("SOAK_SECONDS", "10")), 20, User()
        client = await self.client(token=user.token_for(4))
        channels = [client.channel(unique_topic("open"), config(private=True, self=True)) for _ in range(topics)]
        received = [listen(channel, "message") for channel in channels]
        for channel in channels:
            await self.subscribe(channel)
        rounds, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            if rounds % 8 == 0:
                await client.set_auth(user.token_for(4))
            await channels[rounds % topics].send_broadcast("message", {"n": rounds})
            rounds += 1
            await asyncio.sleep(0.25)
        await until("all messages arrived", lambda: sum(map(len, received)) == rounds)
        for channel in channels:
            self.assertEqual([status for status, _ in channel.statuses], ["SUBSCRIBED"])
