//! Routes compatible with OpenAI's API.

use serde_json::json;

use super::{Operation, post, read, schemas::Shape};
use crate::limits::LimitClass;

pub(super) fn operations() -> Vec<Operation> {
    let completion = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Hello." }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12 },
    });
    Operation::with_tag(
        "OpenAI-compatible API",
        vec![
            post("/v1/chat/completions", "createChatCompletion", "Create a chat completion with the context of a user")
                .description(
                    "Request, response, stream chunks and errors have the format of OpenAI's API. \
                     `metadata.conversation_id` names the conversation; without it the prompt has the context of the user \
                     only, and nothing is saved.",
                )
                .request_body(
                    Shape::any_object(),
                    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Hello" }] }),
                )
                .response(200, "The completion, or with `stream` its chunks.", Shape::any_object(), completion)
                .errors(&[409, 422, 500])
                .rate_limit(LimitClass::Chat)
                // The demo has no model.
                .without_example(),
            read("/v1/models", "listModels", "Lists the models of the providers")
                .description("Default models of the configured providers, and the models that the role may use.")
                .response(
                    200,
                    "Models that the caller may use.",
                    Shape::any_object(),
                    json!({ "object": "list", "data": [
                        { "id": "gpt-4o-mini", "object": "model", "created": 0, "owned_by": "openai" },
                    ] }),
                ),
        ],
    )
}
