use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::clock::SystemClock;

/// A mailbox that keeps everything, in order.
#[derive(Default)]
struct Mailbox(Mutex<Vec<Command>>);

enum Command {
    Diff(Bytes),
    Enter(Bytes),
}

struct RecordingSink<'a>(&'a Mailbox);

impl ReservedDiff for RecordingSink<'_> {
    fn send(self: Box<Self>, _room: &Topic, payload: Bytes) {
        self.0.0.lock().push(Command::Diff(payload));
    }
}

impl DiffSink for Mailbox {
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn ReservedDiff + '_>, HubStopped>> {
        let kept: Box<dyn ReservedDiff> = Box::new(RecordingSink(self));
        std::future::ready(Ok(kept)).boxed()
    }
}

fn presence(mailbox: &Arc<Mailbox>) -> ChannelPresence {
    ChannelPresence::new(NodeId::random(), Arc::new(SystemClock), mailbox.clone(), PresenceStore::default())
}

fn presence_ref(room: &Topic, key: &str) -> PresenceRef {
    PresenceRef { topic: room.clone(), key: key.into(), channel: ChannelId::next(), user: None }
}

fn payload(value: &Value) -> PresencePayload {
    PresencePayload::from_json(&value.to_string()).expect("an object")
}

/// Per key the refs of its metas.
fn refs_by_key(state: &[u8]) -> BTreeMap<String, Vec<String>> {
    let state: BTreeMap<String, Value> = serde_json::from_slice(state).expect("an object");
    let refs = |presence: &Value| {
        let metas = presence["metas"].as_array().expect("metas").iter();
        metas.map(|meta| meta["phx_ref"].as_str().expect("a ref").to_owned()).collect()
    };
    state.iter().map(|(key, presence)| (key.clone(), refs(presence))).collect()
}

#[tokio::test]
async fn public_and_private_rooms_of_one_name_are_two() {
    let presence = presence(&Arc::default());
    let (public, private) = (Topic::public("lobby"), Topic::private("lobby"));
    assert_eq!(presence.track(&presence_ref(&public, "ann"), payload(&json!({}))).await, Ok(true));
    assert!(refs_by_key(&presence.encoded_state(&public)).contains_key("ann"));
    assert_eq!(presence.encoded_state(&private), "{}");
}

#[tokio::test]
async fn a_room_that_everybody_has_left_takes_no_memory() {
    let presence = presence(&Arc::default());
    let room = Topic::public("lobby");
    let seat = presence_ref(&room, "ann");
    presence.track(&seat, payload(&json!({}))).await.expect("the hub runs");
    assert_eq!(presence.untrack(&seat).await, Ok(true));
    assert_eq!(presence.untrack(&seat).await, Ok(false));
    presence.with_state(&Topic::public("elsewhere"), |_| ());
    assert!(presence.0.topics.iter().all(|rooms| rooms.lock().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_holds_exactly_the_changes_whose_diffs_came_before_it() {
    let mailbox = Arc::<Mailbox>::default();
    let presence = presence(&mailbox);
    let room = Topic::public("lobby");
    let walkers = (0..8).map(|walker| {
        let (presence, room, mailbox) = (presence.clone(), room.clone(), mailbox.clone());
        tokio::spawn(async move {
            let seat = presence_ref(&room, &format!("key-{}", walker % 3));
            for n in 0..200 {
                match (walker + n) % 5 {
                    0 => _ = presence.untrack(&seat).await.expect("the hub runs"),
                    1 => presence.with_state(&room, |state| mailbox.0.lock().push(Command::Enter(state))),
                    _ => _ = presence.track(&seat, payload(&json!({"n": n}))).await.expect("the hub runs"),
                }
            }
        })
    });
    for walker in walkers.collect::<Vec<_>>() {
        walker.await.expect("no panic");
    }

    let mut believed = BTreeMap::<String, Vec<String>>::new();
    let refs = |half: &Value| refs_by_key(half.to_string().as_bytes());
    for command in mailbox.0.lock().iter() {
        match command {
            Command::Enter(state) => {
                let mut state = refs_by_key(state);
                state.values_mut().for_each(|refs| refs.sort());
                assert_eq!(state, believed);
            }
            Command::Diff(diff) => {
                let diff: Value = serde_json::from_slice(diff).expect("JSON");
                for (key, joined) in refs(&diff["joins"]) {
                    believed.entry(key).or_default().extend(joined);
                }
                for (key, left) in refs(&diff["leaves"]) {
                    let present = believed.get_mut(&key).expect("the key was here");
                    present.retain(|present| !left.contains(present));
                    if present.is_empty() {
                        believed.remove(&key);
                    }
                }
                believed.values_mut().for_each(|refs| refs.sort());
            }
        }
    }
    let mut state = refs_by_key(&presence.encoded_state(&room));
    state.values_mut().for_each(|refs| refs.sort());
    assert_eq!(state, believed);
}
