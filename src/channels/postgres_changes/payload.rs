//! Builds the payload of a change in the format of Supabase Realtime.

use jiff::Timestamp;

use super::{render, rendered_row::RenderedRow, types::TypeCache};
use crate::pg::replication::{Operation, RowChange};

/// Maximum size of a change in bytes. Above it, only small values are sent.
pub const MAX_CHANGE_BYTES: usize = 1_048_576;
/// Maximum size of a small value in bytes of JSON.
const MAX_SMALL_VALUE_BYTES: usize = 64;

/// Why a change is sent without its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowError {
    /// The role may not select the primary key.
    Unauthorized,
    /// The table has no primary key.
    NoPrimaryKey,
}

impl RowError {
    /// The text that clients receive.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "Error 401: Unauthorized",
            Self::NoPrimaryKey => "Error 400: Bad Request, no primary key",
        }
    }
}

/// The columns that a subscriber receives, by column index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ColumnMask {
    /// Whether the column is sent.
    pub visible: Box<[bool]>,
    /// Whether the column of a deleted row is sent, provided that its value is known.
    pub visible_if_deleted: Box<[bool]>,
}

/// The values that are omitted from a change over [`MAX_CHANGE_BYTES`], by column index: large values that an update left
/// as they were, first from the old row.
struct OmittedValues {
    old: Vec<usize>,
    new: Vec<usize>,
    /// The change exceeds the limit without them, too.
    is_too_large: bool,
}

impl OmittedValues {
    fn of(change: &RowChange) -> Self {
        let mut size = change.size_bytes();
        let (mut old_omitted, mut new_omitted) = (Vec::new(), Vec::new());
        if size > MAX_CHANGE_BYTES
            && let (Some(old), Some(new)) = (&change.old, &change.new)
        {
            let mut unchanged: Vec<(usize, usize)> = old
                .iter()
                .zip(new)
                .enumerate()
                .filter(|(_, (old, new))| old == new)
                .filter_map(|(column, (_, cell))| Some((cell.text()?.len(), column)))
                .filter(|(length, _)| *length > MAX_SMALL_VALUE_BYTES)
                .collect();
            unchanged.sort_unstable_by(|left, right| right.cmp(left));
            for omitted in [&mut old_omitted, &mut new_omitted] {
                for (length, column) in &unchanged {
                    if size > MAX_CHANGE_BYTES {
                        size -= length;
                        omitted.push(*column);
                    }
                }
            }
        }
        Self { old: old_omitted, new: new_omitted, is_too_large: size > MAX_CHANGE_BYTES }
    }
}

/// The object `data` of a change.
#[must_use]
pub fn change_data(
    change: &RowChange,
    rendered: &RenderedRow,
    types: &TypeCache,
    mask: &ColumnMask,
) -> String {
    let omitted = OmittedValues::of(change);
    let is_large = omitted.is_too_large;
    let fits = |json: &str| !is_large || json.len() <= MAX_SMALL_VALUE_BYTES;
    let row = |values: &[Option<Box<str>>], visible: &[bool], omitted: &[usize], out: &mut String| {
        let members = change.relation.columns.iter().zip(values).zip(visible).enumerate();
        let members = members.filter(|(index, (_, visible))| **visible && !omitted.contains(index));
        let members = members.filter_map(|(_, ((column, json), _))| {
            json.as_deref().filter(|json| fits(json)).map(|json| (&*column.name, json.into()))
        });
        render::append_object(members.collect(), out);
    };
    let mut out = begin_data(change);
    if change.operation != Operation::Delete {
        out.push_str(",\"record\":");
        row(&rendered.new, &mask.visible, &omitted.new, &mut out);
    }
    out.push_str(",\"columns\":[");
    let visible = change.relation.columns.iter().zip(&mask.visible).filter(|(_, visible)| **visible);
    for (position, (column, _)) in visible.enumerate() {
        out.push_str(if position > 0 { ", {\"name\": " } else { "{\"name\": " });
        render::append_string(&column.name, &mut out);
        out.push_str(", \"type\": ");
        render::append_string(types.get(column.type_oid).map_or("unknown", |info| &info.name), &mut out);
        out.push('}');
    }
    out.push(']');
    append_metadata(change, is_large.then_some("Error 413: Payload Too Large"), &mut out);
    if change.operation != Operation::Insert {
        out.push_str(",\"old_record\":");
        let visible =
            if change.operation == Operation::Delete { &mask.visible_if_deleted } else { &mask.visible };
        row(&rendered.old, visible, &omitted.old, &mut out);
    }
    out.push('}');
    out
}

/// The object `data` of a change that is sent without its row.
#[must_use]
pub fn error_data(change: &RowChange, error: RowError) -> String {
    let mut out = begin_data(change);
    if change.operation != Operation::Delete {
        out.push_str(",\"record\":{}");
    }
    out.push_str(",\"columns\":[]");
    append_metadata(change, Some(error.as_str()), &mut out);
    if change.operation != Operation::Insert {
        out.push_str(",\"old_record\":{}");
    }
    out.push('}');
    out
}

/// The whole payload: `data` and the IDs of the bindings that match.
#[must_use]
pub fn event_payload(data: &str, ids: &[u32]) -> String {
    let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
    format!("{{\"data\":{data},\"ids\":[{}]}}", ids.join(","))
}

fn begin_data(change: &RowChange) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("{\"table\":");
    render::append_string(&change.relation.table, &mut out);
    out.push_str(",\"type\":\"");
    out.push_str(change.operation.as_str());
    out.push('"');
    out
}

fn append_metadata(change: &RowChange, error: Option<&str>, out: &mut String) {
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
    render::append_string(&change.relation.schema, out);
    out.push_str(",\"commit_timestamp\":");
    render::append_string(&format_commit_time(change.transaction.committed_at_us), out);
}

/// Formats a commit time: UTC with milliseconds. The argument is in microseconds since 1970.
fn format_commit_time(microseconds: i64) -> String {
    let time = Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MIN);
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_time_is_utc_with_milliseconds() {
        assert_eq!(format_commit_time(1_700_000_000_123_999), "2023-11-14T22:13:20.123Z");
        assert_eq!(format_commit_time(1_700_000_000_000_000), "2023-11-14T22:13:20.000Z");
    }
}
