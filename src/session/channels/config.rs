//! Parses the payload of a join. Like Supabase Realtime it accepts almost any value, which clients rely on,
//! but rejects a `private` that it cannot read: otherwise the client would join another topic than it named.

use std::{collections::BTreeMap, time::Duration};

use serde_json::value::RawValue;
use uuid::Uuid;

/// Payload of a join.
#[derive(Debug, Default)]
pub(super) struct JoinPayload {
    /// Settings of the channel; `None` for a legacy join, whose topic names the requested changes.
    pub config: Option<ChannelConfig>,
    /// Token to use for this channel instead of the socket's.
    pub token: Option<Box<str>>,
}

/// Settings of a channel.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelConfig {
    /// Whether broadcasts are acknowledged.
    pub ack: bool,
    /// Whether the channel receives its own broadcasts.
    pub receives_own: bool,
    /// Broadcasts to replay first.
    pub replay: Option<ReplayRequest>,
    /// Whether to notify the client when broadcasts from the database reach this node.
    pub replication_ready: bool,
    /// Key to track under; `None` to generate one.
    pub presence_key: Option<Box<str>>,
    /// Whether the channel receives presence; `None` for the default of the server.
    pub presence_enabled: Option<bool>,
    /// Whether the channel receives the counts of its presence.
    pub presence_occupancy: bool,
    /// Requested Postgres changes, as sent.
    pub changes: Vec<Box<RawValue>>,
    /// Maximum wait of the join for its Postgres changes; `None` if the reply does not wait for them.
    pub changes_timeout: Option<Duration>,
    /// Legacy join: the topic names the requested changes.
    pub is_legacy: bool,
    /// Whether to join the private topic of this name.
    pub private: bool,
}

/// Which broadcasts to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplayRequest {
    Wanted {
        /// Time of the oldest broadcast, in milliseconds since 1970.
        since: Option<i64>,
        /// IDs of broadcasts that the client has, the last one newest. IDs that the server cannot have given are left out.
        after: Option<Box<[Uuid]>>,
        /// Maximum number of broadcasts; the newest are replayed.
        limit: Option<i64>,
    },
    /// The request cannot be parsed.
    Invalid,
}

/// Maximum number of IDs of broadcasts that a client may name.
const MAX_RECEIVED_IDS: usize = 100;
/// Default and maximum wait of a join for its Postgres changes.
const MAX_CHANGES_TIMEOUT: Duration = Duration::from_secs(15);

/// The payload of a join is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidJoin {
    /// A field that must be an object is not one.
    #[error("UnknownErrorOnChannel: {0} must be an object")]
    NotAnObject(&'static str),
    /// `private` is not a boolean.
    #[error("InvalidJoinPayload: private must be true or false")]
    Private,
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

impl JoinPayload {
    /// Parses the payload of a join.
    pub(super) fn read(payload: &str) -> Result<Self, InvalidJoin> {
        let fields: Object = parse_object(payload, "the payload")?;
        let token = ["access_token", "user_token"].into_iter().find_map(|name| parse_text(fields.get(name)?));
        let config = fields.get("config").map(|config| ChannelConfig::read(config)).transpose()?;
        Ok(Self { config, token: token.filter(|token| !token.starts_with("sb_")) })
    }
}

impl ChannelConfig {
    /// Settings of a legacy join, from its topic `<schema>[:<table>[:<filter>]]`.
    pub(super) fn legacy(name: &str) -> Self {
        let named = ["schema", "table", "filter"].into_iter().zip(name.splitn(3, ':'));
        let requested: serde_json::Map<_, _> =
            named.map(|(key, value)| (key.to_owned(), serde_json::Value::from(value))).collect();
        let changes =
            RawValue::from_string(serde_json::Value::Object(requested).to_string()).into_iter().collect();
        Self { changes, is_legacy: true, ..Self::default() }
    }

    fn read(config: &RawValue) -> Result<Self, InvalidJoin> {
        if config.get() == "null" {
            return Ok(Self::default());
        }
        let fields: Object = parse_object(config.get(), "config")?;
        let broadcast: Object = match present(&fields, "broadcast") {
            Some(broadcast) => parse_object(broadcast.get(), "broadcast")?,
            None => Object::new(),
        };
        // Any other type counts as absent.
        let presence: Object = present(&fields, "presence")
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let lenient =
            |fields: &Object, name| fields.get(name).and_then(|raw| parse_bool(raw)).unwrap_or_default();
        let private = match present(&fields, "private") {
            Some(raw) => parse_bool(raw).ok_or(InvalidJoin::Private)?,
            None => false,
        };
        Ok(Self {
            ack: lenient(&broadcast, "ack"),
            receives_own: lenient(&broadcast, "self"),
            replay: present(&broadcast, "replay").map(ReplayRequest::read),
            replication_ready: lenient(&broadcast, "replication_ready"),
            presence_key: present(&presence, "key").map(parse_key).filter(|key| !key.is_empty()),
            presence_enabled: presence.get("enabled").and_then(|raw| parse_bool(raw)),
            presence_occupancy: lenient(&presence, "occupancy"),
            changes: parse_changes(present(&fields, "postgres_changes"))?,
            changes_timeout: present(&fields, "postgres_changes_options").and_then(parse_changes_timeout),
            is_legacy: false,
            private,
        })
    }
}

impl ReplayRequest {
    fn read(raw: &RawValue) -> Self {
        let Ok(fields) = serde_json::from_str::<Object>(raw.get()) else {
            return Self::Invalid;
        };
        let integer =
            |name| present(&fields, name).map(|raw| serde_json::from_str::<i64>(raw.get())).transpose();
        let after = present(&fields, "after").map(parse_received_ids);
        match (integer("since"), after, integer("limit")) {
            // Without a readable position, the time must be one.
            (Ok(since), Some(Some(after)), Ok(limit)) => Self::Wanted { since, after: Some(after), limit },
            (Ok(Some(ms)), None | Some(None), Ok(limit)) => {
                Self::Wanted { since: Some(ms), after: None, limit }
            }
            (Err(_), Some(Some(after)), Ok(limit)) => Self::Wanted { since: None, after: Some(after), limit },
            _ => Self::Invalid,
        }
    }
}

/// Parses an ID or a list of them. `None` if the value is of another type or the list is too long.
fn parse_received_ids(raw: &RawValue) -> Option<Box<[Uuid]>> {
    let ids: Vec<String> = match serde_json::from_str::<String>(raw.get()) {
        Ok(id) => vec![id],
        Err(_) => serde_json::from_str(raw.get()).ok()?,
    };
    (ids.len() <= MAX_RECEIVED_IDS).then(|| ids.iter().filter_map(|id| id.parse().ok()).collect())
}

/// Parses an object. Of a duplicate key the last value counts.
fn parse_object<'a>(json: &'a str, what: &'static str) -> Result<Object<'a>, InvalidJoin> {
    serde_json::from_str(json).map_err(|_| InvalidJoin::NotAnObject(what))
}

/// Returns a field that is present and not null.
fn present<'a>(fields: &Object<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).copied().filter(|raw| raw.get() != "null")
}

/// Parses a boolean, or a string with one in any case.
fn parse_bool(raw: &RawValue) -> Option<bool> {
    let text = raw.get();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_text = text.len() < raw.get().len();
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ if is_text && text.eq_ignore_ascii_case("true") => Some(true),
        _ if is_text && text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn parse_text(raw: &RawValue) -> Option<Box<str>> {
    serde_json::from_str(raw.get()).ok()
}

/// Parses a presence key. A value that is not a string counts as its JSON text.
fn parse_key(raw: &RawValue) -> Box<str> {
    parse_text(raw).unwrap_or_else(|| raw.get().into())
}

fn parse_changes(raw: Option<&RawValue>) -> Result<Vec<Box<RawValue>>, InvalidJoin> {
    let all = raw.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok()).unwrap_or_default();
    let wanted = all.into_iter().filter(|entry| entry.get() != "null");
    wanted
        .map(|entry| {
            if entry.get().starts_with('{') {
                Ok(entry.to_owned())
            } else {
                Err(InvalidJoin::NotAnObject("an entry of postgres_changes"))
            }
        })
        .collect()
}

/// Parses the wait of a join for its Postgres changes; `None` if it does not wait.
fn parse_changes_timeout(raw: &RawValue) -> Option<Duration> {
    let options: Object = serde_json::from_str(raw.get()).ok()?;
    options.get("wait").and_then(|wait| parse_bool(wait)).filter(|wait| *wait)?;
    let requested = options.get("timeout").and_then(|ms| serde_json::from_str(ms.get()).ok());
    Some(requested.map_or(MAX_CHANGES_TIMEOUT, Duration::from_millis).min(MAX_CHANGES_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> ChannelConfig {
        let payload = format!(r#"{{"config":{json},"unknown":1}}"#);
        JoinPayload::read(&payload).expect("valid join payload").config.expect("has a config")
    }

    fn rejected(payload: &str) -> InvalidJoin {
        JoinPayload::read(payload).expect_err(payload)
    }

    #[test]
    fn absent_null_and_mistyped_fields_have_their_defaults() {
        for json in [
            "{}",
            "null",
            r#"{"broadcast":null,"presence":null,"postgres_changes":null,"private":null}"#,
            r#"{"broadcast":{"ack":5,"self":[]},"presence":"x","postgres_changes":"x","foo":1}"#,
            r#"{"presence":{"enabled":[],"occupancy":1,"key":""},"postgres_changes":[null],"private":"FALSE"}"#,
        ] {
            let config = config(json);
            let flags = [
                config.ack,
                config.receives_own,
                config.presence_enabled.is_some(),
                config.private,
                config.replication_ready,
                config.presence_occupancy,
            ];
            assert_eq!(flags, [false; 6], "{json}");
            assert!(config.changes.is_empty() && config.presence_key.is_none() && config.replay.is_none());
        }
    }

    #[test]
    fn booleans_may_be_strings_and_keys_any_value() {
        let all = config(
            r#"{"broadcast":{"ack":"true","self":"TRUE"},"presence":{"key":{"a":1},"enabled":"True"},"private":true}"#,
        );
        assert!(all.ack && all.receives_own && all.presence_enabled == Some(true) && all.private);
        assert_eq!(all.presence_key.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(config(r#"{"presence":{"key":42}}"#).presence_key.as_deref(), Some("42"));
        assert_eq!(config(r#"{"presence":{"key":"k"}}"#).presence_key.as_deref(), Some("k"));
    }

    #[test]
    fn an_unreadable_private_is_rejected() {
        for private in [r#""yes""#, "1", "[]", "{}"] {
            let payload = format!(r#"{{"config":{{"private":{private}}}}}"#);
            assert_eq!(rejected(&payload), InvalidJoin::Private, "{private}");
        }
    }

    #[test]
    fn non_objects_are_rejected() {
        for payload in [
            "[]",
            "\"x\"",
            "null",
            r#"{"config":"x"}"#,
            r#"{"config":[]}"#,
            r#"{"config":{"broadcast":[]}}"#,
            r#"{"config":{"broadcast":"x"}}"#,
            r#"{"config":{"postgres_changes":[1]}}"#,
        ] {
            assert!(rejected(payload).to_string().starts_with("UnknownErrorOnChannel: "), "{payload}");
        }
    }

    #[test]
    fn requested_changes_keep_their_text() {
        let requested = r#"{ "event":"*",  "schema":"public" }"#;
        let config = config(&format!(r#"{{"postgres_changes":[{requested},null]}}"#));
        assert_eq!(config.changes.iter().map(|entry| entry.get()).collect::<Vec<_>>(), [requested]);
    }

    #[test]
    fn the_token_is_a_string_that_is_not_an_api_key() {
        let token = |json: &str| JoinPayload::read(json).expect("valid join payload").token;
        assert_eq!(token(r#"{"access_token":"a.b.c"}"#).as_deref(), Some("a.b.c"));
        assert_eq!(token(r#"{"access_token":5,"user_token":"u"}"#).as_deref(), Some("u"));
        assert_eq!(token(r#"{"access_token":""}"#).as_deref(), Some(""));
        for json in ["{}", r#"{"access_token":null}"#, r#"{"access_token":"sb_publishable_x"}"#] {
            assert_eq!(token(json), None, "{json}");
        }
    }

    #[test]
    fn a_replay_needs_a_time_or_a_position() {
        let replay = |json: &str| config(&format!(r#"{{"broadcast":{{"replay":{json}}}}}"#)).replay;
        let wanted = |since, after: Option<&[Uuid]>, limit| {
            Some(ReplayRequest::Wanted { since, after: after.map(Box::from), limit })
        };
        let id = Uuid::from_u128(7);
        assert_eq!(replay(r#"{"since":7}"#), wanted(Some(7), None, None));
        assert_eq!(replay(r#"{"since":7,"limit":1000}"#), wanted(Some(7), None, Some(1000)));
        assert_eq!(replay(r#"{"since":7,"after":1}"#), wanted(Some(7), None, None));
        assert_eq!(replay(&format!(r#"{{"after":"{id}"}}"#)), wanted(None, Some(&[id]), None));
        assert_eq!(
            replay(&format!(r#"{{"since":7,"after":["x","{id}"],"limit":0}}"#)),
            wanted(Some(7), Some(&[id]), Some(0))
        );
        assert_eq!(replay(r#"{"since":"x","after":""}"#), wanted(None, Some(&[]), None));
        for json in ["{}", "[]", "5", r#"{"since":"7"}"#, r#"{"since":7.5}"#, r#"{"since":7,"limit":"x"}"#] {
            assert_eq!(replay(json), Some(ReplayRequest::Invalid), "{json}");
        }
        let many = vec![id.to_string(); MAX_RECEIVED_IDS + 1];
        for json in [r#"{"after":1}"#, r#"{"after":[1]}"#, r#"{"after":"x","limit":1.5}"#] {
            assert_eq!(replay(json), Some(ReplayRequest::Invalid), "{json}");
        }
        assert_eq!(replay(&serde_json::json!({ "after": many }).to_string()), Some(ReplayRequest::Invalid));
        assert_eq!(replay("null"), None);
    }

    #[test]
    fn the_wait_for_changes_is_bounded() {
        let wait =
            |options: &str| config(&format!(r#"{{"postgres_changes_options":{options}}}"#)).changes_timeout;
        assert_eq!(wait(r#"{"wait":true,"timeout":500}"#), Some(Duration::from_millis(500)));
        for options in
            [r#"{"wait":true}"#, r#"{"wait":"true","timeout":"x"}"#, r#"{"wait":true,"timeout":1e6}"#]
        {
            assert_eq!(wait(options), Some(MAX_CHANGES_TIMEOUT), "{options}");
        }
        for options in ["null", "{}", "7", r#"{"wait":false,"timeout":500}"#, r#"{"timeout":500}"#] {
            assert_eq!(wait(options), None, "{options}");
        }
    }
}
