//! The payload of a change, as the reference draws it.

use super::{
    params::EventType,
    render,
    row_change::{RenderedRow, RowChange},
    types::TypeCache,
};

/// A change over this size comes with its small values only.
const MAX_CHANGE_BYTES: usize = 1_048_576;
/// What is small, in bytes of JSON.
const MAX_SMALL_VALUE_BYTES: usize = 64;

/// Why a change comes without its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowError {
    /// The role may not select the primary key.
    Unauthorized,
    /// There is no primary key.
    NoPrimaryKey,
}

impl RowError {
    /// As clients know it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "Error 401: Unauthorized",
            Self::NoPrimaryKey => "Error 400: Bad Request, no primary key",
        }
    }
}

/// Which columns a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ColumnMask {
    /// For each published column, whether it is shown.
    pub visible: Box<[bool]>,
    /// For each published column, whether it is shown of a deleted row; beside that it must be known.
    pub visible_if_deleted: Box<[bool]>,
}

/// The object `data` of a change.
#[must_use]
pub fn change_data(
    changed: &RowChange,
    rendered: &RenderedRow,
    types: &TypeCache,
    view: &ColumnMask,
) -> String {
    let is_large = changed.size_bytes() > MAX_CHANGE_BYTES;
    let fits = |json: &str| !is_large || (json.len() <= MAX_SMALL_VALUE_BYTES && json != "null");
    let row = |values: &[Option<Box<str>>], shown: &[bool], out: &mut String| {
        let members = changed.relation.columns.iter().zip(values).zip(shown);
        let members = members.filter(|(_, shown)| **shown).filter_map(|((column, json), _)| {
            json.as_deref().filter(|json| fits(json)).map(|json| (&*column.name, json.into()))
        });
        render::append_object(members.collect(), out);
    };
    let mut out = begin_data(changed);
    if changed.operation != EventType::Delete {
        out.push_str(",\"record\":");
        row(&rendered.new, &view.visible, &mut out);
    }
    out.push_str(",\"columns\":[");
    let shown = changed.relation.columns.iter().zip(&view.visible).filter(|(_, shown)| **shown);
    for (place, (column, _)) in shown.enumerate() {
        out.push_str(if place > 0 { ", {\"name\": " } else { "{\"name\": " });
        render::append_string(&column.name, &mut out);
        out.push_str(", \"type\": ");
        render::append_string(types.get(column.type_oid).map_or("unknown", |found| &found.name), &mut out);
        out.push('}');
    }
    out.push(']');
    append_metadata(changed, is_large.then_some("Error 413: Payload Too Large"), &mut out);
    if changed.operation != EventType::Insert {
        out.push_str(",\"old_record\":");
        let shown =
            if changed.operation == EventType::Delete { &view.visible_if_deleted } else { &view.visible };
        row(&rendered.old, shown, &mut out);
    }
    out.push('}');
    out
}

/// The object `data` of a change whose row is not shown.
#[must_use]
pub fn error_data(changed: &RowChange, error: RowError) -> String {
    let mut out = begin_data(changed);
    if changed.operation != EventType::Delete {
        out.push_str(",\"record\":{}");
    }
    out.push_str(",\"columns\":[]");
    append_metadata(changed, Some(error.as_str()), &mut out);
    if changed.operation != EventType::Insert {
        out.push_str(",\"old_record\":{}");
    }
    out.push('}');
    out
}

/// The whole payload: data and the ids of the subscriptions that it is for.
#[must_use]
pub fn event_payload(data: &str, ids: &[u32]) -> String {
    let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
    format!("{{\"data\":{data},\"ids\":[{}]}}", ids.join(","))
}

fn begin_data(changed: &RowChange) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("{\"table\":");
    render::append_string(&changed.relation.table, &mut out);
    out.push_str(",\"type\":\"");
    out.push_str(changed.operation.as_str());
    out.push('"');
    out
}

fn append_metadata(changed: &RowChange, error: Option<&str>, out: &mut String) {
    out.push_str(",\"errors\":");
    match error {
        None => out.push_str("null"),
        Some(error) => {
            out.push('[');
            render::append_string(error, out);
            out.push(']');
        }
    }
    out.push_str(",\"schema\":");
    render::append_string(&changed.relation.schema, out);
    out.push_str(",\"commit_timestamp\":");
    render::append_string(&changed.committed_at, out);
}
