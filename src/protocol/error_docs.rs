//! `docs/errors.md`, generated from the error codes.

use std::fmt::Write as _;

use testkit::pages::assert_current;

use super::ErrorCode;

const PATH: &str = "docs/errors.md";
const INTRODUCTION: &str = "\
# Errors

<!-- Generated from the error codes. Change src/protocol/error.rs, then run:
     UPDATE_DOCS=1 cargo test --lib error_docs -->

Every error response of the REST API has the same envelope:

```json
{
  \"success\": false,
  \"error\": \"UNPROCESSABLE\",
  \"message\": \"status: must be one of online, away, busy, dnd, invisible, offline (got \\\"idle\\\")\",
  \"statusCode\": 422,
  \"doc_url\": \"/docs/errors#UNPROCESSABLE\",
  \"details\": [{ \"field\": \"status\", \"message\": \"must be one of online, away, busy, dnd, invisible, offline (got \\\"idle\\\")\" }]
}
```

`error` is the code, for programs. `message` is for people and may change. `doc_url` is relative to the server, which \
serves this page at `/docs/errors`. `details` lists every invalid field of the request, and is absent if the error is not \
about fields. The header `x-request-id` names the request in the log.

The channel routes under `/realtime/v1` and `/api/broadcast` have the errors of Supabase Realtime \
([Error texts](protocol/realtime.md#error-texts)), and the routes under `/v1` those of OpenAI's API.
Sockets send the same codes in a message of type `error` ([Errors](protocol/presence.md#errors)). The close codes are in \
[Close codes](protocol/presence.md#close-codes) and in `/asyncapi.json`.

## Messages about fields

| kind of fault | message |
| --- | --- |
| missing | `is required` |
| wrong type | `must be a string (got a number)` |
| not one of the allowed values | `must be one of nobody, team, contacts, everyone (got \"friends\")` |
| not a UUID | `must be a UUID` |
| not a time | `must be an RFC 3339 time, for example 2026-11-21T12:00:00Z` |
| too long or too short | `must have at most 140 characters`, `must have at least 1 items` |
| out of range | `must be at most 500`, `must be at least 1` |
| given twice | `must not be given twice, also not under another spelling` |

## Codes

| code | HTTP status | sockets |
| --- | --- | --- |
";

#[test]
fn error_page_is_current() {
    assert_current(PATH, &render(), "--lib error_docs");
}

#[test]
fn every_code_has_a_cause_and_a_cure() {
    for code in ErrorCode::ALL {
        for text in [code.cause(), code.cure()] {
            assert!(text.split_whitespace().count() >= 4, "{code:?}: {text}");
            assert!(text.ends_with('.'), "{code:?}: {text}");
        }
    }
}

fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    for code in ErrorCode::ALL {
        let (name, anchor) = (code.as_str(), code.as_str().to_lowercase());
        let status = code.status().map_or_else(|| "–".to_owned(), |status| status.to_string());
        let on_sockets = if ErrorCode::ON_SOCKETS.contains(&code) { "yes" } else { "no" };
        let _ = writeln!(page, "| [`{name}`](#{anchor}) | {status} | {on_sockets} |");
    }
    for code in ErrorCode::ALL {
        let _ =
            write!(page, "\n### {}\n\n- Cause: {}\n- Cure: {}\n", code.as_str(), code.cause(), code.cure());
    }
    page
}
