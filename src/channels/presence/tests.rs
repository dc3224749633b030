//! The model against clients that reduce its frames as the official JavaScript client does.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;
use crate::model::{ChannelId, NodeId};

/// What a client believes: per key the metas, oldest first.
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
            let metas = self.0.get_mut(key).unwrap_or_else(|| panic!("{key} leaves and was never here"));
            for gone in refs(left) {
                let place = metas.iter().position(|meta| &meta["phx_ref"] == gone);
                metas.remove(place.unwrap_or_else(|| panic!("{gone} leaves and was never here")));
            }
            if metas.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// The same, whatever the order of metas: a client that was here longer has them in another.
    fn sorted(mut self) -> Self {
        self.0.values_mut().for_each(|metas| metas.sort_by_key(|meta| meta["phx_ref"].to_string()));
        self
    }
}

/// A room with two channels a key, some of another node.
struct Fixture {
    state: PresenceState,
    refs: PhxRefs,
    foreign: PhxRefs,
    members: Vec<(PresenceKey, MemberId)>,
}

impl Fixture {
    fn new() -> Self {
        let nodes = [NodeId::random(), NodeId::random()];
        let places = (0..8).map(|n| {
            (format!("k\"{}", n % 3).into(), MemberId { node: nodes[n % 2], channel: ChannelId::next() })
        });
        Self {
            state: PresenceState::default(),
            refs: PhxRefs::new(),
            foreign: PhxRefs::new(),
            members: places.collect(),
        }
    }

    fn track(&mut self, place: usize, payload: &Value) -> Option<Diff> {
        let (key, member) = &self.members[place];
        let payload = PresencePayload::from_json(&payload.to_string()).expect("an object");
        self.state.track(key, *member, payload, None, 7, || self.refs.next())
    }

    fn untrack(&mut self, place: usize) -> Option<Diff> {
        let (key, member) = &self.members[place];
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
        let mut picture = ClientState::default();
        picture.sync_state(&self.state.encode());
        picture.sorted()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn the_first_track_joins_and_an_update_replaces() {
    let mut crowd = Fixture::new();
    assert_eq!(crowd.state.encode(), "{}");

    let first = crowd.track(0, &json!({"n": 1})).expect("a diff").into_payload();
    let old = crowd.state.iter().next().expect("one").2.phx_ref;
    let meta = format!(r#"{{"metas":[{{"phx_ref":"{old}","n":1}}]}}"#);
    assert_eq!(text(&first), format!(r#"{{"joins":{{"k\"0":{meta}}},"leaves":{{}}}}"#));
    assert_eq!(text(&crowd.state.encode()), format!(r#"{{"k\"0":{meta}}}"#));

    assert_eq!(crowd.track(0, &json!({"n": 1})), None, "an equal payload says nothing");

    let second = crowd.track(0, &json!({"n": 2})).expect("a diff").into_payload();
    let (_, _, meta_now) = crowd.state.iter().next().expect("one");
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
fn a_key_stays_until_its_last_meta_goes() {
    let mut crowd = Fixture::new();
    let mut watcher = ClientState::default();
    for place in [0, 3] {
        watcher.sync_diff(&crowd.track(place, &json!({"place": place})).expect("a diff").into_payload());
    }
    assert_eq!(watcher.0["k\"0"].len(), 2);

    watcher.sync_diff(&crowd.untrack(0).expect("a diff").into_payload());
    assert_eq!(watcher.0["k\"0"][0]["place"], 3);
    assert_eq!(crowd.untrack(0), None, "who tracks nothing takes nothing back");

    watcher.sync_diff(&crowd.untrack(3).expect("a diff").into_payload());
    assert_eq!(watcher, ClientState::default());
    assert!(crowd.state.is_empty());
}

#[test]
fn old_news_of_other_nodes_changes_nothing() {
    let mut crowd = Fixture::new();
    let (key, member) = crowd.members[1].clone();
    let (old, new) = (crowd.meta(&json!({"n": 1})), crowd.meta(&json!({"n": 2})));
    let mirror = |crowd: &mut Fixture, meta: &Meta| {
        crowd.state.apply_remote([(key.clone(), member, Some(meta.clone()))])
    };

    assert!(!mirror(&mut crowd, &new).is_empty());
    assert!(mirror(&mut crowd, &new).is_empty(), "known");
    assert!(mirror(&mut crowd, &old).is_empty(), "older than what is known");
    assert_eq!(crowd.client_state().0["k\"1"][0]["n"], 2);
}

#[test]
fn a_large_state_is_written_in_one_pass_and_once() {
    let (mut roster, refs, node) = (PresenceState::default(), PhxRefs::new(), NodeId::random());
    let payload = PresencePayload::from_json(&json!({"status": "online"}).to_string()).expect("an object");
    for n in 0..20_000 {
        let key: PresenceKey = format!("user-{n}").into();
        let member = MemberId { node, channel: ChannelId::next() };
        roster.track(&key, member, payload.clone(), None, 0, || refs.next()).expect("a diff");
    }
    let state = roster.encode();
    assert_eq!(serde_json::from_slice::<Metas>(&state).expect("JSON").len(), 20_000);
    assert_eq!(roster.encode().as_ptr(), state.as_ptr(), "the same bytes again");
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
            changes.sort_by_key(|(place, _)| *place);
            changes.dedup_by_key(|(place, _)| *place);
            Step::Mirror(changes)
        });
    vec(
        prop_oneof![
            4 => (select(vec![0_usize, 2, 4, 6]), 0..3_u8).prop_map(|(place, n)| Step::Track(place, n)),
            2 => select(vec![0_usize, 2, 4, 6]).prop_map(Step::Untrack),
            3 => mirror,
            1 => Just(Step::Join),
        ],
        0..60,
    )
}

proptest! {
    #[test]
    fn whoever_reduces_the_frames_has_the_state_of_the_room(steps in steps()) {
        let mut crowd = Fixture::new();
        let mut clients = vec![ClientState::default()];
        for step in steps {
            let diff = match step {
                Step::Track(place, n) => crowd.track(place, &json!({"n": n})),
                Step::Untrack(place) => crowd.untrack(place),
                Step::Mirror(changes) => {
                    let changes: Vec<_> = changes
                        .into_iter()
                        .map(|(place, n)| {
                            let (key, member) = crowd.members[place].clone();
                            (key, member, n.map(|n| crowd.meta(&json!({"n": n}))))
                        })
                        .collect();
                    Some(crowd.state.apply_remote(changes)).filter(|diff| !diff.is_empty())
                }
                Step::Join => {
                    let mut newcomer = ClientState::default();
                    newcomer.sync_state(&crowd.state.encode());
                    clients.push(newcomer);
                    None
                }
            };
            if let Some(diff) = diff {
                let payload = diff.into_payload();
                clients.iter_mut().for_each(|client| client.sync_diff(&payload));
            }
        }
        let room = crowd.client_state();
        for client in clients {
            prop_assert_eq!(client.sorted(), room.clone());
        }
    }
}
