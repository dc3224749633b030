use super::*;
use crate::{channels::history::HistoryStorage, protocol::phoenix::UserPayload};

const RULE: HistoryRule =
    HistoryRule { count: 100, age: Duration::from_secs(600), storage: HistoryStorage::Memory };
const LOCAL: Source = Source { origin: Origin::Local, has_peers: false };

fn message(id: u128, bytes: usize) -> KeptMessage {
    KeptMessage {
        id: Uuid::from_u128(id),
        event: "e".into(),
        payload: UserPayload::Binary(vec![0; bytes].into()),
    }
}

fn append(history: &MemoryHistory, topic: &Topic, id: u128) {
    history.lock().append(topic, RULE, LOCAL, message(id, 0));
}

fn ids(messages: &[Arc<KeptMessage>]) -> Vec<u128> {
    messages.iter().map(|message| message.id.as_u128()).collect()
}

fn after(
    history: &MemoryHistory,
    topic: &Topic,
    received: &[u128],
    limit: usize,
) -> (Vec<u128>, Option<bool>) {
    let query = HistoryQuery::After(received.iter().map(|id| Uuid::from_u128(*id)).collect());
    let replay = history.read(topic, &query, limit);
    (ids(&replay.messages), replay.is_complete)
}

#[tokio::test(start_paused = true)]
async fn a_replay_begins_after_the_position() {
    let (history, topic) = (MemoryHistory::new(1 << 20), Topic::public("a"));
    assert_eq!(after(&history, &topic, &[1], 100), (vec![], Some(false)), "nothing is known");
    (1..=5).for_each(|id| append(&history, &topic, id));
    append(&history, &Topic::private("a"), 9);
    assert_eq!(after(&history, &topic, &[3], 100), (vec![4, 5], Some(true)));
    assert_eq!(after(&history, &topic, &[5], 100), (vec![], Some(true)));
    assert_eq!(after(&history, &topic, &[5, 3], 100), (vec![4], Some(true)), "the last one is the position");
    assert_eq!(after(&history, &topic, &[3, 8], 100), (vec![4, 5], Some(true)), "8 is unknown");
    assert_eq!(after(&history, &topic, &[8], 100), (vec![1, 2, 3, 4, 5], Some(false)));
    assert_eq!(after(&history, &topic, &[2], 2), (vec![4, 5], Some(false)), "3 is left out");
    history.mark_gap();
    assert_eq!(after(&history, &topic, &[3], 100), (vec![4, 5], Some(false)));
    append(&history, &topic, 6);
    append(&history, &topic, 7);
    assert_eq!(after(&history, &topic, &[6], 100), (vec![7], Some(true)));
}

#[tokio::test(start_paused = true)]
async fn messages_added_before_the_join_are_part_of_the_replay() {
    let (history, topic) = (MemoryHistory::new(1 << 20), Topic::public("a"));
    append(&history, &topic, 1);
    let query = HistoryQuery::After([Uuid::from_u128(1)].into());
    let replay = history.read(&topic, &query, 100);
    append(&history, &topic, 2);
    let locked = replay.lock();
    let (newer, complete) = replay.finish(&locked);
    drop(locked);
    assert_eq!((ids(&newer), complete), (vec![2], Some(true)));

    // The history forgets faster than the join continues.
    (3..=103).for_each(|id| append(&history, &topic, id));
    let locked = replay.lock();
    let (newer, complete) = replay.finish(&locked);
    assert_eq!((newer.len(), complete), (100, Some(false)));
}

#[tokio::test(start_paused = true)]
async fn count_and_age_are_bounded() {
    let (history, topic) = (MemoryHistory::new(1 << 20), Topic::public("a"));
    (1..=101).for_each(|id| append(&history, &topic, id));
    assert_eq!(after(&history, &topic, &[1], 1_000).1, Some(false));
    assert_eq!(after(&history, &topic, &[2], 1_000), ((3..=101).collect(), Some(true)));
    tokio::time::advance(Duration::from_secs(599)).await;
    append(&history, &topic, 200);
    assert_eq!(after(&history, &topic, &[100], 1_000), (vec![101, 200], Some(true)));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(after(&history, &topic, &[100], 1_000), (vec![200], Some(false)));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(after(&history, &topic, &[200], 1_000), (vec![], Some(false)));
    let state = history.0.lock();
    assert_eq!((state.bytes, state.topics.len(), state.by_expiry.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_all_topics_is_bounded() {
    let history = MemoryHistory::new(10_000);
    let (a, b) = (Topic::public("a"), Topic::public("b"));
    for id in 1..=4 {
        history.lock().append(&a, RULE, LOCAL, message(id, 2_000));
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    history.lock().append(&b, RULE, LOCAL, message(5, 3_000));
    assert!(history.0.lock().bytes <= 10_000);
    assert_eq!(after(&history, &a, &[], 100).0, [3, 4]);
    assert_eq!(after(&history, &b, &[], 100).0, [5]);
    history.lock().append(&b, RULE, LOCAL, message(6, 20_000));
    assert_eq!(after(&history, &b, &[5], 100), (vec![], Some(false)), "larger than the bound");
    assert_eq!(history.0.lock().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn messages_of_other_nodes_around_the_position_are_repeated() {
    let (history, topic) = (MemoryHistory::new(1 << 20), Topic::public("a"));
    let add =
        |id, origin| history.lock().append(&topic, RULE, Source { origin, has_peers: true }, message(id, 0));
    let other = Origin::Node(NodeId::random());
    add(1, other);
    tokio::time::advance(ORDER_WINDOW + Duration::from_secs(1)).await;
    add(2, other);
    add(3, Origin::Local);
    add(4, Origin::Database);
    add(5, Origin::Local);
    add(6, other);
    // 1 is too old to be delivered after 5 anywhere, 3 is of the same node as 5.
    assert_eq!(after(&history, &topic, &[5], 100), (vec![2, 4, 6], Some(true)));
    assert_eq!(after(&history, &topic, &[4, 5], 100), (vec![2, 6], Some(true)));
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_bounded_bytes_and_begins_at_a_time() {
    let (history, topic) = (MemoryHistory::new(1 << 30), Topic::public("a"));
    for id in 1..=5 {
        history.lock().append(&topic, RULE, LOCAL, message(id, 1024 * 1024));
    }
    assert_eq!(after(&history, &topic, &[1], 100), (vec![3, 4, 5], Some(false)));
    let since = |ms| history.read(&topic, &HistoryQuery::Since(ms), 2);
    assert_eq!(ids(&since(0).messages), [4, 5]);
    assert_eq!(since(0).is_complete, None);
    assert_eq!(ids(&since(i64::MAX).messages), [] as [u128; 0]);
}
