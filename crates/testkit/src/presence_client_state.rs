//! Presence state of a topic on a client, reduced like the official JavaScript client does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

#[derive(Debug, Clone, Default)]
pub struct PresenceClientState {
    /// Metas by key.
    metas: BTreeMap<String, Vec<Value>>,
    /// Whether a state has arrived since the last join. Diffs are held until then.
    pub synced: bool,
    pending_diffs: Vec<Value>,
    /// Number of received diffs.
    pub diff_count: usize,
    /// Keys in diffs that left without a known meta. Clients ignore them.
    pub unknown_leaves: Vec<String>,
}

impl PresenceClientState {
    /// Starts with a `presence_state`.
    pub fn of_state(payload: &Value) -> Self {
        let mut state = Self::default();
        state.apply_state(payload);
        state
    }

    /// Starts as a member that has received an empty state.
    pub fn empty() -> Self {
        Self { synced: true, ..Self::default() }
    }

    /// Applies a `presence_state`.
    pub fn apply_state(&mut self, payload: &Value) {
        let state = payload.as_object().expect("a map of presences");
        // Computes joins and leaves by comparing refs, and applies them as a diff.
        let (mut joins, mut leaves) = (serde_json::Map::new(), serde_json::Map::new());
        for (key, known) in &self.metas {
            let now = state.get(key).map(metas).unwrap_or_default();
            let left: Vec<&Value> = known.iter().filter(|meta| !contains_ref(now, meta)).collect();
            if !left.is_empty() {
                leaves.insert(key.clone(), json!({"metas": left}));
            }
        }
        for (key, presence) in state {
            let known = self.metas.get(key).map(Vec::as_slice).unwrap_or_default();
            let joined: Vec<&Value> =
                metas(presence).iter().filter(|meta| !contains_ref(known, meta)).collect();
            if !joined.is_empty() {
                joins.insert(key.clone(), json!({"metas": joined}));
            }
        }
        self.apply(&json!({"joins": joins, "leaves": leaves}));
        self.synced = true;
        for diff in std::mem::take(&mut self.pending_diffs) {
            self.apply(&diff);
        }
    }

    /// Applies a `presence_diff`, or holds it until the state has arrived.
    pub fn apply_diff(&mut self, diff: &Value) {
        assert_eq!(diff.as_object().map(serde_json::Map::len), Some(2), "joins and leaves: {diff}");
        self.diff_count += 1;
        if self.synced {
            self.apply(diff);
        } else {
            self.pending_diffs.push(diff.clone());
        }
    }

    /// The metas by key. Those of a key are sorted by ref, because they have no order.
    pub fn metas(&self) -> &BTreeMap<String, Vec<Value>> {
        &self.metas
    }

    fn apply(&mut self, diff: &Value) {
        for (key, presence) in diff["joins"].as_object().expect("joins") {
            let joined = metas(presence);
            assert!(joined.iter().all(|meta| meta["phx_ref"].is_string()), "every meta has its ref: {diff}");
            let known = self.metas.entry(key.clone()).or_default();
            known.retain(|meta| !contains_ref(joined, meta));
            known.extend(joined.iter().cloned());
            known.sort_by_key(|meta| meta["phx_ref"].to_string());
        }
        for (key, presence) in diff["leaves"].as_object().expect("leaves") {
            let Some(known) = self.metas.get_mut(key) else {
                self.unknown_leaves.push(key.clone());
                continue;
            };
            known.retain(|meta| !contains_ref(metas(presence), meta));
            if known.is_empty() {
                self.metas.remove(key);
            }
        }
    }

    /// Returns the tracked payloads by key, without refs, sorted.
    pub fn payloads(&self) -> BTreeMap<String, Vec<Value>> {
        let without_refs = |meta: &Value| {
            let mut meta = meta.clone();
            let members = meta.as_object_mut().expect("a meta is an object");
            members.remove("phx_ref");
            members.remove("phx_ref_prev");
            meta
        };
        let of_key = |(key, metas): (&String, &Vec<Value>)| {
            let mut payloads: Vec<Value> = metas.iter().map(without_refs).collect();
            payloads.sort_by_key(Value::to_string);
            (key.clone(), payloads)
        };
        self.metas.iter().map(of_key).collect()
    }
}

fn metas(presence: &Value) -> &[Value] {
    presence["metas"].as_array().expect("metas")
}

fn contains_ref(metas: &[Value], meta: &Value) -> bool {
    metas.iter().any(|other| other["phx_ref"] == meta["phx_ref"])
}
