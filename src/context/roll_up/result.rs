//! What a roll-up stores.

use serde::Serialize;
use uuid::Uuid;

use super::{entities::FoundEntity, topics::FoundTopic};

/// Input of `rollcall_internal.apply_roll_up`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RollUpResult {
    pub units: Vec<Uuid>,
    pub topics: Vec<FoundTopic>,
    pub entities: Vec<FoundEntity>,
}
