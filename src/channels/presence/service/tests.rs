use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::clock::SystemClock;

/// Records states and diffs in order.
#[derive(Default)]
struct Mailbox(Mutex<Vec<Command>>);

enum Command {
    Diff(Bytes),
    State(Bytes),
}

struct RecordingSink<'a>(&'a Mailbox);

impl ReservedDiff for RecordingSink<'_> {
    fn send(self: Box<Self>, _topic: &Topic, payload: Bytes) {
        self.0.0.lock().push(Command::Diff(payload));
    }

    fn send_occupancy(self: Box<Self>, _topic: &Topic, _occupancy: Occupancy) {
        unreachable!("nobody watches the occupancy");
    }
}

impl DiffSink for Mailbox {
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn ReservedDiff + '_>, HubStopped>> {
        let sink: Box<dyn ReservedDiff> = Box::new(RecordingSink(self));
        std::future::ready(Ok(sink)).boxed()
    }
}

fn presence(mailbox: &Arc<Mailbox>) -> ChannelPresence {
    ChannelPresence::new(NodeId::random(), Arc::new(SystemClock), mailbox.clone(), PresenceStore::default())
}

fn presence_ref(topic: &Topic, key: &str) -> PresenceRef {
    PresenceRef { topic: topic.clone(), key: key.into(), channel: ChannelId::next(), user: None }
}

fn payload(value: &Value) -> PresencePayload {
    PresencePayload::from_json(&value.to_string()).expect("an object")
}

/// The refs of the metas of each key.
fn refs_by_key(state: &[u8]) -> BTreeMap<String, Vec<String>> {
    let state: BTreeMap<String, Value> = serde_json::from_slice(state).expect("an object");
    let refs = |presence: &Value| {
        let metas = presence["metas"].as_array().expect("metas").iter();
        metas.map(|meta| meta["phx_ref"].as_str().expect("a ref").to_owned()).collect()
    };
    state.iter().map(|(key, presence)| (key.clone(), refs(presence))).collect()
}

#[tokio::test]
async fn public_and_private_topics_of_one_name_are_distinct() {
    let presence = presence(&Arc::default());
    let (public, private) = (Topic::public("lobby"), Topic::private("lobby"));
    assert_eq!(presence.track(&presence_ref(&public, "ann"), payload(&json!({}))).await, Ok(true));
    assert!(refs_by_key(&presence.encoded_state(&public)).contains_key("ann"));
    assert_eq!(presence.encoded_state(&private), "{}");
}

#[tokio::test]
async fn a_topic_without_presence_is_removed() {
    let presence = presence(&Arc::default());
    let topic = Topic::public("lobby");
    let presence_ref = presence_ref(&topic, "ann");
    presence.track(&presence_ref, payload(&json!({}))).await.expect("the hub runs");
    assert_eq!(presence.untrack(&presence_ref).await, Ok(true));
    assert_eq!(presence.untrack(&presence_ref).await, Ok(false));
    presence.with_state(&Topic::public("elsewhere"), |_| ());
    assert!(presence.0.topics.iter().all(|topics| topics.lock().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_contains_exactly_the_diffs_before_it() {
    let mailbox = Arc::<Mailbox>::default();
    let presence = presence(&mailbox);
    let topic = Topic::public("lobby");
    let tasks = (0..8).map(|task| {
        let (presence, topic, mailbox) = (presence.clone(), topic.clone(), mailbox.clone());
        tokio::spawn(async move {
            let presence_ref = presence_ref(&topic, &format!("key-{}", task % 3));
            for n in 0..200 {
                match (task + n) % 5 {
                    0 => _ = presence.untrack(&presence_ref).await.expect("the hub runs"),
                    1 => presence.with_state(&topic, |state| mailbox.0.lock().push(Command::State(state))),
                    _ => {
                        _ = presence
                            .track(&presence_ref, payload(&json!({"n": n})))
                            .await
                            .expect("the hub runs")
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }

    let mut expected = BTreeMap::<String, Vec<String>>::new();
    let refs = |half: &Value| refs_by_key(half.to_string().as_bytes());
    for command in mailbox.0.lock().iter() {
        match command {
            Command::State(state) => {
                let mut state = refs_by_key(state);
                state.values_mut().for_each(|refs| refs.sort());
                assert_eq!(state, expected);
            }
            Command::Diff(diff) => {
                let diff: Value = serde_json::from_slice(diff).expect("JSON");
                for (key, joined) in refs(&diff["joins"]) {
                    expected.entry(key).or_default().extend(joined);
                }
                for (key, left) in refs(&diff["leaves"]) {
                    let present = expected.get_mut(&key).expect("the key was here");
                    present.retain(|present| !left.contains(present));
                    if present.is_empty() {
                        expected.remove(&key);
                    }
                }
                expected.values_mut().for_each(|refs| refs.sort());
            }
        }
    }
    let mut state = refs_by_key(&presence.encoded_state(&topic));
    state.values_mut().for_each(|refs| refs.sort());
    assert_eq!(state, expected);
}
