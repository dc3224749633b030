//! What the hub sends: to all, in order, and to slow readers only the latest.

use std::{collections::HashMap, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::server::{Happened, Said, Server, soon};
use crate::{
    channels::{ChannelId, Room},
    hub::{ConnId, Delivery, Encodable, Hears, Member, Post, StateKey},
    model::UserId,
    transport::{CloseCode, CloseReason, frame::WireFrame},
};

fn stream(text: impl Into<String>, to: Vec<ConnId>) -> Delivery {
    Delivery { key: None, message: Encodable::new(Said(text.into())), to }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_get_everything_in_order() {
    // Both ends are here.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).expect("within the hard limit");
    let mut server = Server::start().await;
    let (mut clients, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        clients.push(server.raw(b"").await);
        ids.push(server.opened().await);
    }
    assert_eq!(server.hub.connection_count(), 2_000);
    for round in 0..5 {
        let twice = vec![stream(format!("{round}a"), ids.clone()), stream(format!("{round}b"), ids.clone())];
        soon(server.hub.fan_out(twice)).await.expect("running");
    }
    for client in &mut clients {
        for round in 0..5 {
            assert_eq!(client.next_text().await, Some(format!("{round}a")));
            assert_eq!(client.next_text().await, Some(format!("{round}b")));
        }
    }
    let stats = server.hub.stats();
    assert_eq!((stats.deliveries, stats.missed, stats.coalesced), (20_000, 0, 0));
}

#[tokio::test]
async fn a_slow_reader_finds_the_latest_of_each_key_and_costs_little() {
    const KEYS: usize = 50;
    const ROUNDS: usize = 400;
    let mut server = Server::start().await;
    let mut slow = server.raw(b"").await;
    let id = server.opened().await;
    let users: Vec<UserId> = (0..KEYS).map(|_| UserId::random()).collect();
    let padding = "x".repeat(1000);
    let mut most = 0;
    for round in 0..ROUNDS {
        let deliveries = users.iter().enumerate().map(|(place, user)| Delivery {
            key: Some(StateKey::Presence(*user)),
            message: Encodable::new(Said(format!("{place} {round} {padding}"))),
            to: vec![id],
        });
        soon(server.hub.fan_out(deliveries.collect())).await.expect("running");
        most = most.max(server.hub.connection(id).expect("open").queued_bytes());
    }
    soon(server.hub.fan_out(vec![stream("end", vec![id])])).await.expect("running");
    let mut latest = HashMap::new();
    let mut frames = 0;
    loop {
        let text = slow.next_text().await.expect("open");
        if text == "end" {
            break;
        }
        frames += 1;
        let mut words = text.split(' ').map(|word| word.parse::<usize>());
        let (Some(Ok(place)), Some(Ok(round))) = (words.next(), words.next()) else { panic!("{text}") };
        let before = latest.insert(place, round);
        assert!(before.is_none_or(|before| before < round), "the past came after the present");
    }
    assert_eq!(latest.len(), KEYS);
    assert!(latest.values().all(|round| *round == ROUNDS - 1), "{latest:?}");
    assert!(frames < KEYS * ROUNDS / 2, "{frames} frames: nothing was coalesced");
    assert!(most < 2 * KEYS * 1100, "{most} bytes were queued");
    let stats = server.hub.stats();
    assert_eq!(stats.coalesced + frames as u64, (KEYS * ROUNDS) as u64);
}

#[tokio::test]
async fn a_reader_that_falls_behind_a_stream_is_closed_and_others_notice_nothing() {
    let mut server = Server::start().await;
    let mut slow = server.raw(b"").await;
    let slow_id = server.opened().await;
    let mut quick = server.raw(b"").await;
    let quick_id = server.opened().await;
    let text = "x".repeat(8 * 1024);
    let mut sent = 0;
    soon(async {
        while server.hub.stats().slow_closed == 0 {
            let both = vec![slow_id, quick_id];
            server.hub.fan_out(vec![stream(text.clone(), both)]).await.expect("running");
            sent += 1;
            assert_eq!(quick.next_text().await.as_ref(), Some(&text));
        }
    })
    .await;
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Ours(CloseCode::TryAgainLater)));
    // The loop counts one more than the slow one was offered at most.
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
    soon(server.hub.fan_out(vec![stream("after", vec![slow_id, quick_id])])).await.expect("running");
    assert_eq!(quick.next_text().await.as_deref(), Some("after"));
}

#[tokio::test]
async fn more_in_one_batch_than_may_be_queued_reaches_who_reads() {
    const FRAMES: usize = 64;
    let mut server = Server::start().await;
    let mut quick = server.raw(b"").await;
    let id = server.opened().await;
    let text = "x".repeat(16 * 1024);
    let together = (0..FRAMES).map(|_| stream(text.clone(), vec![id])).collect();
    soon(server.hub.fan_out(together)).await.expect("running");
    for _ in 0..FRAMES {
        assert_eq!(quick.next_text().await.as_ref(), Some(&text));
    }
    assert_eq!(server.hub.stats().slow_closed, 0);
}

#[tokio::test]
async fn what_is_said_in_a_room_arrives_whole_even_if_the_socket_takes_it_in_parts() {
    let mut server = Server::start().await;
    let mut late = server.raw(b"").await;
    let id = server.opened().await;
    let connection = server.hub.connection(id).expect("open");
    let room = Room::public("a");
    let member = Member {
        channel: ChannelId::next(),
        connection: connection.clone(),
        hears: Hears::ALL,
        gate: None,
        replayed: None,
    };
    let first = WireFrame::text("welcome");
    soon(server.hub.slots(1)).await.expect("running").join(room.clone(), member, first);
    let text = |number: u64| format!("{number} {}", "x".repeat(50_000));
    let mut said = 0;
    soon(async {
        while connection.queued_bytes() == 0 {
            let message = Encodable::new(Said(text(said)));
            let post = Post { message, about: Hears::BROADCASTS, except: None, id: None };
            server.hub.post(&room, [post].into()).await.expect("running");
            said += 1;
            while server.hub.stats().deliveries < said {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    assert_eq!(late.next_text().await.as_deref(), Some("welcome"));
    for number in 0..said {
        assert_eq!(late.next_text().await, Some(text(number)));
    }
}

#[tokio::test]
async fn who_has_gone_is_passed_over() {
    let mut server = Server::start().await;
    let gone = server.raw(b"").await;
    let gone_id = server.opened().await;
    drop(gone);
    server.next().await;
    soon(async {
        while server.hub.connection(gone_id).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut here = server.raw(b"").await;
    let here_id = server.opened().await;
    soon(server.hub.fan_out(vec![stream("hello", vec![gone_id, here_id])])).await.expect("running");
    assert_eq!(here.next_text().await.as_deref(), Some("hello"));
    assert_eq!(server.hub.stats().missed, 1);
}
