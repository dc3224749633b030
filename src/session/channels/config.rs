//! What a join asks for. The original is lenient with almost every field, and clients rely on it; where leniency would
//! let somebody into another room than they named, this is not.

use std::{collections::BTreeMap, time::Duration};

use serde_json::value::RawValue;

/// What a client wants of a channel.
#[derive(Debug, Default)]
pub(super) struct JoinPayload {
    /// The channel's settings; `None` for a legacy join, whose topic itself is the subscription.
    pub config: Option<ChannelConfig>,
    /// The token that the channel is to hold instead of the socket's.
    pub token: Option<Box<str>>,
}

/// A channel's settings.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelConfig {
    /// Broadcasts are answered.
    pub ack: bool,
    /// The channel hears its own broadcasts.
    pub receives_own: bool,
    /// What is to be sent again first; `None` if nothing is.
    pub replay: Option<ReplayRequest>,
    /// Wants to be told when broadcasts from the database reach this node.
    pub replication_ready: bool,
    /// Under which key the channel tracks; `None` for one of the server's making.
    pub presence_key: Option<Box<str>>,
    /// Wants to see who is present.
    pub presence_enabled: bool,
    /// The changes of tables that it wants, as they came.
    pub changes: Vec<Box<RawValue>>,
    /// The join is to be answered only once they are told, and so long it waits.
    pub changes_timeout: Option<Duration>,
    /// The channel's name was all there was: it names the changes that are wanted.
    pub is_legacy: bool,
    /// Which of the two rooms of that name.
    pub private: bool,
}

/// Which stored broadcasts are to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplayRequest {
    /// From that moment on (milliseconds since 1970), the newest so many.
    Since { ms: i64, limit: u8 },
    /// Asked for in a way that cannot be understood.
    Invalid,
}

/// How long a join waits for its changes, by itself and at most.
const MAX_CHANGES_TIMEOUT: Duration = Duration::from_secs(15);
/// The most that is sent again.
const MAX_REPLAYED: u8 = 25;

/// The payload is not one of a join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidJoin {
    /// Something that has to be an object is not.
    #[error("UnknownErrorOnChannel: {0} must be an object")]
    NotAnObject(&'static str),
    /// `private` is neither true nor false.
    #[error("InvalidJoinPayload: private must be true or false")]
    Private,
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

impl JoinPayload {
    /// Reads the payload of a join.
    pub fn read(payload: &str) -> Result<Self, InvalidJoin> {
        let fields: Object = parse_object(payload, "the payload")?;
        let token = ["access_token", "user_token"].into_iter().find_map(|name| parse_text(fields.get(name)?));
        let config = fields.get("config").map(|config| ChannelConfig::read(config)).transpose()?;
        Ok(Self { config, token: token.filter(|token| !token.starts_with("sb_")) })
    }
}

impl ChannelConfig {
    /// What a join means that says nothing but its name: `<schema>[:<table>[:<filter>]]`.
    pub fn legacy(name: &str) -> Self {
        let named = ["schema", "table", "filter"].into_iter().zip(name.splitn(3, ':'));
        let asked: serde_json::Map<_, _> =
            named.map(|(key, value)| (key.to_owned(), serde_json::Value::from(value))).collect();
        let changes =
            RawValue::from_string(serde_json::Value::Object(asked).to_string()).into_iter().collect();
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
        // Of another shape it counts as absent.
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
            presence_enabled: lenient(&presence, "enabled"),
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
        let integer = |name| present(&fields, name).map(|raw| serde_json::from_str::<i64>(raw.get()));
        match (integer("since"), integer("limit").unwrap_or(Ok(i64::from(MAX_REPLAYED)))) {
            (Some(Ok(ms)), Ok(limit)) => {
                let limit = u8::try_from(limit.clamp(1, i64::from(MAX_REPLAYED))).unwrap_or(MAX_REPLAYED);
                Self::Since { ms, limit }
            }
            _ => Self::Invalid,
        }
    }
}

/// The fields of an object; of a name given twice the last counts.
fn parse_object<'a>(json: &'a str, what: &'static str) -> Result<Object<'a>, InvalidJoin> {
    serde_json::from_str(json).map_err(|_| InvalidJoin::NotAnObject(what))
}

/// A field that is there and not null.
fn present<'a>(fields: &Object<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).copied().filter(|raw| raw.get() != "null")
}

/// `true` and `false`, also as strings in whatever case.
fn parse_bool(raw: &RawValue) -> Option<bool> {
    let word = raw.get();
    let word = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
    let is_text = word.len() < raw.get().len();
    match word {
        "true" => Some(true),
        "false" => Some(false),
        _ if is_text && word.eq_ignore_ascii_case("true") => Some(true),
        _ if is_text && word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn parse_text(raw: &RawValue) -> Option<Box<str>> {
    serde_json::from_str(raw.get()).ok()
}

/// A key may be anything; what is no text counts as the text it is written as.
fn parse_key(raw: &RawValue) -> Box<str> {
    parse_text(raw).unwrap_or_else(|| raw.get().into())
}

fn parse_changes(raw: Option<&RawValue>) -> Result<Vec<Box<RawValue>>, InvalidJoin> {
    let all = raw.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok()).unwrap_or_default();
    let wanted = all.into_iter().filter(|one| one.get() != "null");
    wanted
        .map(|one| {
            if one.get().starts_with('{') {
                Ok(one.to_owned())
            } else {
                Err(InvalidJoin::NotAnObject("an entry of postgres_changes"))
            }
        })
        .collect()
}

/// How long a join that wants it waits for its changes.
fn parse_changes_timeout(raw: &RawValue) -> Option<Duration> {
    let options: Object = serde_json::from_str(raw.get()).ok()?;
    options.get("wait").and_then(|wait| parse_bool(wait)).filter(|waits| *waits)?;
    let asked = options.get("timeout").and_then(|ms| serde_json::from_str(ms.get()).ok());
    Some(asked.map_or(MAX_CHANGES_TIMEOUT, Duration::from_millis).min(MAX_CHANGES_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> ChannelConfig {
        let payload = format!(r#"{{"config":{json},"unknown":1}}"#);
        JoinPayload::read(&payload).expect("is a join").config.expect("is no legacy join")
    }

    fn refused(payload: &str) -> InvalidJoin {
        JoinPayload::read(payload).expect_err(payload)
    }

    #[test]
    fn what_is_absent_null_or_of_the_wrong_type_is_as_by_default() {
        for json in [
            "{}",
            "null",
            r#"{"broadcast":null,"presence":null,"postgres_changes":null,"private":null}"#,
            r#"{"broadcast":{"ack":5,"self":[]},"presence":"x","postgres_changes":"x","foo":1}"#,
            r#"{"presence":{"enabled":[],"key":""},"postgres_changes":[null],"private":"FALSE"}"#,
        ] {
            let config = config(json);
            let flags = [
                config.ack,
                config.receives_own,
                config.presence_enabled,
                config.private,
                config.replication_ready,
            ];
            assert_eq!(flags, [false; 5], "{json}");
            assert!(config.changes.is_empty() && config.presence_key.is_none() && config.replay.is_none());
        }
    }

    #[test]
    fn booleans_may_be_words_and_keys_anything() {
        let all = config(
            r#"{"broadcast":{"ack":"true","self":"TRUE"},"presence":{"key":{"a":1},"enabled":"True"},"private":true}"#,
        );
        assert!(all.ack && all.receives_own && all.presence_enabled && all.private);
        assert_eq!(all.presence_key.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(config(r#"{"presence":{"key":42}}"#).presence_key.as_deref(), Some("42"));
        assert_eq!(config(r#"{"presence":{"key":"k"}}"#).presence_key.as_deref(), Some("k"));
    }

    #[test]
    fn nobody_gets_into_another_room_than_they_named() {
        for private in [r#""yes""#, "1", "[]", "{}"] {
            let payload = format!(r#"{{"config":{{"private":{private}}}}}"#);
            assert_eq!(refused(&payload), InvalidJoin::Private, "{private}");
        }
    }

    #[test]
    fn what_has_to_be_an_object_and_is_not_is_refused() {
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
            assert!(refused(payload).to_string().starts_with("UnknownErrorOnChannel: "), "{payload}");
        }
    }

    #[test]
    fn changes_stay_as_they_came() {
        let asked = r#"{ "event":"*",  "schema":"public" }"#;
        let config = config(&format!(r#"{{"postgres_changes":[{asked},null]}}"#));
        assert_eq!(config.changes.iter().map(|one| one.get()).collect::<Vec<_>>(), [asked]);
    }

    #[test]
    fn the_token_is_a_text_that_is_no_key() {
        let token = |json: &str| JoinPayload::read(json).expect("is a join").token;
        assert_eq!(token(r#"{"access_token":"a.b.c"}"#).as_deref(), Some("a.b.c"));
        assert_eq!(token(r#"{"access_token":5,"user_token":"u"}"#).as_deref(), Some("u"));
        assert_eq!(token(r#"{"access_token":""}"#).as_deref(), Some(""));
        for json in ["{}", r#"{"access_token":null}"#, r#"{"access_token":"sb_publishable_x"}"#] {
            assert_eq!(token(json), None, "{json}");
        }
    }

    #[test]
    fn replays_are_clamped_and_need_a_moment() {
        let replay = |json: &str| config(&format!(r#"{{"broadcast":{{"replay":{json}}}}}"#)).replay;
        assert_eq!(replay(r#"{"since":7}"#), Some(ReplayRequest::Since { ms: 7, limit: 25 }));
        assert_eq!(replay(r#"{"since":7,"limit":1000}"#), Some(ReplayRequest::Since { ms: 7, limit: 25 }));
        assert_eq!(replay(r#"{"since":7,"limit":0}"#), Some(ReplayRequest::Since { ms: 7, limit: 1 }));
        for json in ["{}", "[]", "5", r#"{"since":"7"}"#, r#"{"since":7.5}"#, r#"{"since":7,"limit":"x"}"#] {
            assert_eq!(replay(json), Some(ReplayRequest::Invalid), "{json}");
        }
        assert_eq!(replay("null"), None);
    }

    #[test]
    fn a_join_may_wait_for_its_changes_but_not_for_ever() {
        let waits =
            |options: &str| config(&format!(r#"{{"postgres_changes_options":{options}}}"#)).changes_timeout;
        assert_eq!(waits(r#"{"wait":true,"timeout":500}"#), Some(Duration::from_millis(500)));
        for options in
            [r#"{"wait":true}"#, r#"{"wait":"true","timeout":"x"}"#, r#"{"wait":true,"timeout":1e6}"#]
        {
            assert_eq!(waits(options), Some(MAX_CHANGES_TIMEOUT), "{options}");
        }
        for options in ["null", "{}", "7", r#"{"wait":false,"timeout":500}"#, r#"{"timeout":500}"#] {
            assert_eq!(waits(options), None, "{options}");
        }
    }
}
