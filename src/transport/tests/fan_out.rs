//! Tests of hub deliveries: to all, in order, and to slow readers only the latest state.

use std::{collections::HashMap, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::server::{Server, SessionEvent, TextMessage, in_time};
use crate::{
    hub::{
        ConnId, Delivery, Encodable, HubSettings, Member, ReadProgress, ReceiveMask, StateKey, TopicDelivery,
    },
    model::{ChannelId, Topic, UserId},
    transport::{AcceptSettings, CloseCode, CloseReason, ConnectionSettings, frame::WireFrame},
};

fn stream(text: impl Into<String>, to: Vec<ConnId>) -> Delivery {
    Delivery { key: None, message: Encodable::new(TextMessage(text.into())), to }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_receive_all_messages_in_order() {
    // This process holds both ends of every connection.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).expect("within the hard limit");
    let mut server = Server::start().await;
    let (mut clients, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        clients.push(server.connect_raw(b"").await);
        ids.push(server.opened().await);
    }
    assert_eq!(server.hub.connection_count(), 2_000);
    for round in 0..5 {
        let deliveries =
            vec![stream(format!("{round}a"), ids.clone()), stream(format!("{round}b"), ids.clone())];
        in_time(server.hub.fan_out(deliveries)).await.expect("running");
    }
    for client in &mut clients {
        for round in 0..5 {
            assert_eq!(client.next_text().await, Some(format!("{round}a")));
            assert_eq!(client.next_text().await, Some(format!("{round}b")));
        }
    }
    let stats = server.hub.stats();
    assert_eq!((stats.deliveries, stats.undeliverable, stats.coalesced), (20_000, 0, 0));
}

#[tokio::test]
async fn a_slow_reader_receives_the_latest_state_of_each_key() {
    const KEYS: usize = 50;
    const ROUNDS: usize = 400;
    let mut server = Server::start().await;
    let mut slow = server.connect_raw(b"").await;
    let id = server.opened().await;
    let users: Vec<UserId> = (0..KEYS).map(|_| UserId::random()).collect();
    let padding = "x".repeat(1000);
    let mut max_queued = 0;
    for round in 0..ROUNDS {
        let deliveries = users.iter().enumerate().map(|(index, user)| Delivery {
            key: Some(StateKey::Presence(*user)),
            message: Encodable::new(TextMessage(format!("{index} {round} {padding}"))),
            to: vec![id],
        });
        in_time(server.hub.fan_out(deliveries.collect())).await.expect("running");
        max_queued = max_queued.max(server.hub.connection(id).expect("open").queued_bytes());
    }
    in_time(server.hub.fan_out(vec![stream("end", vec![id])])).await.expect("running");
    let mut latest = HashMap::new();
    let mut frames = 0;
    loop {
        let text = slow.next_text().await.expect("open");
        if text == "end" {
            break;
        }
        frames += 1;
        let mut parts = text.split(' ').map(|part| part.parse::<usize>());
        let (Some(Ok(index)), Some(Ok(round))) = (parts.next(), parts.next()) else { panic!("{text}") };
        let previous = latest.insert(index, round);
        assert!(previous.is_none_or(|previous| previous < round), "an older state arrived after a newer one");
    }
    assert_eq!(latest.len(), KEYS);
    assert!(latest.values().all(|round| *round == ROUNDS - 1), "{latest:?}");
    assert!(frames < KEYS * ROUNDS / 2, "{frames} frames: nothing was coalesced");
    assert!(max_queued < 2 * KEYS * 1100, "{max_queued} bytes were queued");
    let stats = server.hub.stats();
    assert_eq!(stats.coalesced + frames as u64, (KEYS * ROUNDS) as u64);
}

#[tokio::test]
async fn a_slow_stream_reader_is_closed_without_affecting_others() {
    let mut server = Server::start().await;
    let mut slow = server.connect_raw(b"").await;
    let slow_id = server.opened().await;
    let mut fast = server.connect_raw(b"").await;
    let fast_id = server.opened().await;
    let text = "x".repeat(8 * 1024);
    let mut sent = 0;
    in_time(async {
        while server.hub.stats().slow_consumers_closed == 0 {
            let both = vec![slow_id, fast_id];
            server.hub.fan_out(vec![stream(text.clone(), both)]).await.expect("running");
            sent += 1;
            assert_eq!(fast.next_text().await.as_ref(), Some(&text));
        }
    })
    .await;
    assert_eq!(
        server.next_event().await,
        SessionEvent::Closed(CloseReason::Server(CloseCode::TryAgainLater))
    );
    // The loop sends at least one more message than the slow client received.
    let mut received = 0;
    let close = loop {
        match slow.next().await.expect("a close frame comes first") {
            (0x81, _) => received += 1,
            other => break other,
        }
    };
    assert_eq!(close.0, 0x88);
    assert_eq!(&close.1[..2], &1013u16.to_be_bytes());
    assert!(received < sent, "{received} of {sent}");
    in_time(server.hub.fan_out(vec![stream("after", vec![slow_id, fast_id])])).await.expect("running");
    assert_eq!(fast.next_text().await.as_deref(), Some("after"));
}

#[tokio::test]
async fn the_hub_reports_whether_a_client_has_read() {
    let stall_timeout = Duration::from_millis(100);
    let connections = ConnectionSettings { stall_timeout, ..Default::default() };
    let settings = HubSettings { connections, ..Default::default() };
    let mut server = Server::with(settings, AcceptSettings::default()).await;
    let mut client = server.connect_raw(b"").await;
    let id = server.opened().await;
    assert_eq!(in_time(server.hub.wait_until_read(id)).await, ReadProgress::Read);

    let text = "x".repeat(64 * 1024);
    let mut sent = 0;
    while server.hub.connection(id).expect("open").queued_bytes() == 0 {
        in_time(server.hub.fan_out(vec![stream(text.clone(), vec![id])])).await.expect("running");
        sent += 1;
    }
    assert_eq!(in_time(server.hub.wait_until_read(id)).await, ReadProgress::Stalled);
    let read = async {
        for _ in 0..sent {
            assert_eq!(client.next_text().await.as_ref(), Some(&text));
        }
    };
    let (progress, ()) = tokio::join!(in_time(server.hub.wait_until_read(id)), read);
    assert_eq!(progress, ReadProgress::Read);
    drop(client);
    assert!(matches!(server.next_event().await, SessionEvent::Closed(_)));
    assert_eq!(in_time(server.hub.wait_until_read(id)).await, ReadProgress::Closed);
}

#[tokio::test]
async fn a_batch_over_the_outbox_limit_reaches_an_active_reader() {
    const FRAMES: usize = 64;
    let mut server = Server::start().await;
    let mut fast = server.connect_raw(b"").await;
    let id = server.opened().await;
    let text = "x".repeat(16 * 1024);
    let deliveries = (0..FRAMES).map(|_| stream(text.clone(), vec![id])).collect();
    in_time(server.hub.fan_out(deliveries)).await.expect("running");
    for _ in 0..FRAMES {
        assert_eq!(fast.next_text().await.as_ref(), Some(&text));
    }
    assert_eq!(server.hub.stats().slow_consumers_closed, 0);
}

#[tokio::test]
async fn topic_messages_arrive_whole_after_partial_writes() {
    let mut server = Server::start().await;
    let mut late = server.connect_raw(b"").await;
    let id = server.opened().await;
    let connection = server.hub.connection(id).expect("open");
    let topic = Topic::public("a");
    let member = Member {
        channel: ChannelId::next(),
        connection: connection.clone(),
        mask: ReceiveMask::ALL,
        allowed: None,
        replayed: None,
    };
    let first = WireFrame::text("welcome");
    in_time(server.hub.reserve(1)).await.expect("running").join(topic.clone(), member, first);
    let text = |number: u64| format!("{number} {}", "x".repeat(50_000));
    let mut published = 0;
    in_time(async {
        while connection.queued_bytes() == 0 {
            let message = Encodable::new(TextMessage(text(published)));
            let delivery = TopicDelivery { message, kind: ReceiveMask::BROADCASTS, except: None, id: None };
            server.hub.publish(&topic, [delivery].into()).await.expect("running");
            published += 1;
            while server.hub.stats().deliveries < published {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    assert_eq!(late.next_text().await.as_deref(), Some("welcome"));
    for number in 0..published {
        assert_eq!(late.next_text().await, Some(text(number)));
    }
}

#[tokio::test]
async fn closed_connections_are_skipped() {
    let mut server = Server::start().await;
    let closed = server.connect_raw(b"").await;
    let closed_id = server.opened().await;
    drop(closed);
    server.next_event().await;
    in_time(async {
        while server.hub.connection(closed_id).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut open = server.connect_raw(b"").await;
    let open_id = server.opened().await;
    in_time(server.hub.fan_out(vec![stream("hello", vec![closed_id, open_id])])).await.expect("running");
    assert_eq!(open.next_text().await.as_deref(), Some("hello"));
    assert_eq!(server.hub.stats().undeliverable, 1);
}
