//! The decoders of request bodies, for tests with random input.

use axum::{http::StatusCode, response::IntoResponse};

use super::{
    broadcast::BroadcastBody,
    context::{chat::ChatBody, invalidate::InvalidateBody, presence::SignalsBody},
    conversations::ConversationBody,
    extract::{parse_json, parse_valid_json},
    ids::UserIdBody,
    openai::completions::CompletionBody,
    people::BatchBody,
    presence::{HeartbeatBody, StatusBody, TypingBody},
    realtime::broadcast::batch_status,
    settings::{SettingsBody, SettingsChanges, VisibilityListBody},
};

/// Decodes and validates a body. Returns a status of success, or that of the answer to an invalid one.
pub type BodyDecoder = fn(&[u8]) -> StatusCode;

/// Maximum payload of a broadcast.
const MAX_PAYLOAD_BYTES: usize = 4096;

fn status<T, E: IntoResponse>(decoded: Result<T, E>) -> StatusCode {
    decoded.map_or_else(|error| error.into_response().status(), |_| StatusCode::OK)
}

/// One decoder per kind of body.
pub const BODY_DECODERS: [BodyDecoder; 15] = [
    |bytes| status(parse_valid_json::<StatusBody>(bytes)),
    |bytes| status(parse_valid_json::<HeartbeatBody>(bytes)),
    |bytes| status(parse_valid_json::<TypingBody>(bytes)),
    |bytes| status(parse_valid_json::<SettingsBody>(bytes)),
    |bytes| status(parse_valid_json::<SettingsChanges>(bytes)),
    |bytes| status(parse_valid_json::<VisibilityListBody>(bytes)),
    |bytes| status(parse_valid_json::<ConversationBody>(bytes)),
    |bytes| status(parse_valid_json::<BatchBody>(bytes)),
    |bytes| status(parse_valid_json::<UserIdBody>(bytes)),
    |bytes| status(parse_valid_json::<BroadcastBody>(bytes)),
    |bytes| status(parse_valid_json::<InvalidateBody>(bytes)),
    |bytes| status(parse_valid_json::<ChatBody>(bytes)),
    |bytes| status(parse_valid_json::<SignalsBody>(bytes)),
    |bytes| status(parse_json::<CompletionBody>(bytes)),
    |bytes| batch_status(bytes, MAX_PAYLOAD_BYTES),
];
