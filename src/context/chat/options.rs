//! Fields of a chat request that are passed on to the provider.

use serde_json::{Map, Value};

/// Fields of OpenAI's API that reach the provider unchanged.
const PASSED_ON: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// Fields for the provider, by their names in OpenAI's API. Accepts camel case as well. `null` counts as absent.
///
/// # Errors
///
/// The names of all fields that are not passed on.
pub fn provider_options(fields: Map<String, Value>) -> Result<Map<String, Value>, Vec<String>> {
    let mut options = Map::new();
    let mut unknown = Vec::new();
    for (name, value) in fields {
        let snake = snake_case(&name);
        if !PASSED_ON.contains(&snake.as_str()) {
            unknown.push(name);
        } else if !value.is_null() {
            options.insert(snake, value);
        }
    }
    if unknown.is_empty() { Ok(options) } else { Err(unknown) }
}

fn snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, c| {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn known_fields_are_passed_on_and_all_others_are_named() {
        let options = provider_options(fields(json!({"topP": 0.5, "tool_choice": "auto", "stop": null})));
        assert_eq!(options, Ok(fields(json!({"top_p": 0.5, "tool_choice": "auto"}))));
        let unknown = provider_options(fields(json!({"seed": 1, "activePersonaId": "x", "foo": 1})));
        assert_eq!(unknown, Err(vec!["activePersonaId".to_owned(), "foo".to_owned()]));
    }
}
