//! Tests the model with clients that apply its frames like the official JavaScript client.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;
use crate::model::{ChannelId, NodeId};

/// State of a client: the metas of each key, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
struct ClientState(BTreeMap<String, Vec<Value>>);

type Metas = serde_json::Map<String, Value>;

fn refs(metas: &[Value]) -> Vec<&Value> {
    metas.iter().map(|meta| &meta["phx_ref"]).collect()
}

impl ClientState {
    fn sync_state(&mut self, state: &[u8]) {
        let state: Metas = serde_json::from_slice(state).expect("an object");
        self.0 = state
            .into_iter()
            .map(|(key, presence)| (key, presence["metas"].as_array().unwrap().clone()))
            .collect();
    }

    fn sync_diff(&mut self, diff: &[u8]) {
        let diff: Value = serde_json::from_slice(diff).expect("JSON");
        for (key, presence) in diff["joins"].as_object().expect("joins") {
            let joined = presence["metas"].as_array().expect("metas");
            let metas = self.0.entry(key.clone()).or_default();
            metas.retain(|meta| !refs(joined).contains(&&meta["phx_ref"]));
            metas.extend(joined.iter().cloned());
        }
        for (key, presence) in diff["leaves"].as_object().expect("leaves") {
            let left = presence["metas"].as_array().expect("metas");
            let metas = self.0.get_mut(key).unwrap_or_else(|| panic!("{key} leaves but was not present"));
            for left_ref in refs(left) {
                let index = metas.iter().position(|meta| &meta["phx_ref"] == left_ref);
                metas.remove(index.unwrap_or_else(|| panic!("{left_ref} leaves but was not present")));
            }
            if metas.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// Sorts the metas of each key: their order depends on when the client joined.
    fn sorted(mut self) -> Self {
        self.0.values_mut().for_each(|metas| metas.sort_by_key(|meta| meta["phx_ref"].to_string()));
        self
    }
}

/// A topic with several channels per key, half of them on another node.
struct Fixture {
    state: PresenceState,
    refs: PhxRefs,
    foreign: PhxRefs,
    members: Vec<(PresenceKey, MemberId)>,
}

impl Fixture {
    fn new() -> Self {
        let nodes = [NodeId::random(), NodeId::random()];
        let members = (0..8).map(|n| {
            (format!("k\"{}", n % 3).into(), MemberId { node: nodes[n % 2], channel: ChannelId::next() })
        });
        Self {
            state: PresenceState::default(),
            refs: PhxRefs::new(),
            foreign: PhxRefs::new(),
            members: members.collect(),
        }
    }

    fn track(&mut self, index: usize, payload: &Value) -> Option<Diff> {
        let (key, member) = &self.members[index];
        let payload = PresencePayload::from_json(&payload.to_string()).expect("an object");
        self.state.track(key, *member, payload, None, 7, || self.refs.next())
    }

    fn untrack(&mut self, index: usize) -> Option<Diff> {
        let (key, member) = &self.members[index];
        self.state.untrack(key, *member)
    }

    fn meta(&self, value: &Value) -> Meta {
        let payload = PresencePayload::from_json(&value.to_string()).expect("an object");
        Meta {
            phx_ref: self.foreign.next(),
            previous: None,
            payload,
            user: None,
            joined_ms: 0,
            updated_ms: 0,
        }
    }

    fn client_state(&mut self) -> ClientState {
        let mut client = ClientState::default();
        client.sync_state(&self.state.encode());
        client.sorted()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn the_first_track_joins_and_an_update_replaces() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.state.encode(), "{}");

    let first = fixture.track(0, &json!({"n": 1})).expect("a diff").into_payload();
    let old = fixture.state.iter().next().expect("one").2.phx_ref;
    let meta = format!(r#"{{"metas":[{{"phx_ref":"{old}","n":1}}]}}"#);
    assert_eq!(text(&first), format!(r#"{{"joins":{{"k\"0":{meta}}},"leaves":{{}}}}"#));
    assert_eq!(text(&fixture.state.encode()), format!(r#"{{"k\"0":{meta}}}"#));

    assert_eq!(fixture.track(0, &json!({"n": 1})), None, "an equal payload causes no diff");

    let second = fixture.track(0, &json!({"n": 2})).expect("a diff").into_payload();
    let (_, _, meta_now) = fixture.state.iter().next().expect("one");
    let new = meta_now.phx_ref;
    assert_eq!(meta_now.joined_ms, 7);
    assert_eq!(
        text(&second),
        format!(
            r#"{{"joins":{{"k\"0":{{"metas":[{{"phx_ref":"{new}","phx_ref_prev":"{old}","n":2}}]}}}},"leaves":{{"k\"0":{meta}}}}}"#
        )
    );
}

#[test]
fn a_key_remains_until_its_last_meta_leaves() {
    let mut fixture = Fixture::new();
    let mut client = ClientState::default();
    for index in [0, 3] {
        client.sync_diff(&fixture.track(index, &json!({"place": index})).expect("a diff").into_payload());
    }
    assert_eq!(client.0["k\"0"].len(), 2);

    client.sync_diff(&fixture.untrack(0).expect("a diff").into_payload());
    assert_eq!(client.0["k\"0"][0]["place"], 3);
    assert_eq!(fixture.untrack(0), None, "nothing is tracked");

    client.sync_diff(&fixture.untrack(3).expect("a diff").into_payload());
    assert_eq!(client, ClientState::default());
    assert!(fixture.state.is_empty());
}

#[test]
fn outdated_changes_of_other_nodes_are_ignored() {
    let mut fixture = Fixture::new();
    let (key, member) = fixture.members[1].clone();
    let (old, new) = (fixture.meta(&json!({"n": 1})), fixture.meta(&json!({"n": 2})));
    let mirror = |fixture: &mut Fixture, meta: &Meta| {
        fixture.state.apply_remote([(key.clone(), member, Some(meta.clone()))])
    };

    assert!(!mirror(&mut fixture, &new).is_empty());
    assert!(mirror(&mut fixture, &new).is_empty(), "known");
    assert!(mirror(&mut fixture, &old).is_empty(), "older than the known version");
    assert_eq!(fixture.client_state().0["k\"1"][0]["n"], 2);
}

#[test]
fn a_large_state_is_encoded_once() {
    let (mut presence, refs, node) = (PresenceState::default(), PhxRefs::new(), NodeId::random());
    let payload = PresencePayload::from_json(&json!({"status": "online"}).to_string()).expect("an object");
    for n in 0..20_000 {
        let key: PresenceKey = format!("user-{n}").into();
        let member = MemberId { node, channel: ChannelId::next() };
        presence.track(&key, member, payload.clone(), None, 0, || refs.next()).expect("a diff");
    }
    let state = presence.encode();
    assert_eq!(serde_json::from_slice::<Metas>(&state).expect("JSON").len(), 20_000);
    assert_eq!(presence.encode().as_ptr(), state.as_ptr(), "the same bytes again");
}

#[derive(Debug, Clone)]
enum Step {
    Track(usize, u8),
    Untrack(usize),
    Mirror(Vec<(usize, Option<u8>)>),
    Join,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mirror =
        vec((select(vec![1_usize, 3, 5, 7]), proptest::option::of(0..3_u8)), 0..5).prop_map(|mut changes| {
            changes.sort_by_key(|(index, _)| *index);
            changes.dedup_by_key(|(index, _)| *index);
            Step::Mirror(changes)
        });
    vec(
        prop_oneof![
            4 => (select(vec![0_usize, 2, 4, 6]), 0..3_u8).prop_map(|(index, n)| Step::Track(index, n)),
            2 => select(vec![0_usize, 2, 4, 6]).prop_map(Step::Untrack),
            3 => mirror,
            1 => Just(Step::Join),
        ],
        0..60,
    )
}

proptest! {
    #[test]
    fn clients_that_apply_the_frames_have_the_state(steps in steps()) {
        let mut fixture = Fixture::new();
        let mut clients = vec![ClientState::default()];
        for step in steps {
            let diff = match step {
                Step::Track(index, n) => fixture.track(index, &json!({"n": n})),
                Step::Untrack(index) => fixture.untrack(index),
                Step::Mirror(changes) => {
                    let changes: Vec<_> = changes
                        .into_iter()
                        .map(|(index, n)| {
                            let (key, member) = fixture.members[index].clone();
                            (key, member, n.map(|n| fixture.meta(&json!({"n": n}))))
                        })
                        .collect();
                    Some(fixture.state.apply_remote(changes)).filter(|diff| !diff.is_empty())
                }
                Step::Join => {
                    let mut newcomer = ClientState::default();
                    newcomer.sync_state(&fixture.state.encode());
                    clients.push(newcomer);
                    None
                }
            };
            if let Some(diff) = diff {
                let payload = diff.into_payload();
                clients.iter_mut().for_each(|client| client.sync_diff(&payload));
            }
        }
        let expected = fixture.client_state();
        for client in clients {
            prop_assert_eq!(client.sorted(), expected.clone());
        }
    }
}
