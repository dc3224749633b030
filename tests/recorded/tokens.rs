//! Tokens as recordings describe them: `<jwt:role=…,sub=…,exp=+4s>`.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall::auth::token;
use serde_json::{Value, json};
use testkit::harness::{SECRET, unix_time_in};

/// Signs tokens with an invalid signature.
const WRONG_SECRET: &str = "a-new-secret-that-has-at-least-32-characters-long";

/// The tokens of one replay. Each description maps to one token, created on first use.
#[derive(Default)]
pub struct Tokens(HashMap<String, String>);

impl Tokens {
    /// Replaces token descriptions by tokens.
    pub fn substitute(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("<jwt:") {
            let (description, after) = after.split_once('>').expect("a description ends");
            let token = self.0.entry(description.to_owned()).or_insert_with(|| mint_described(description));
            filled.push_str(before);
            filled.push_str(token);
            rest = after;
        }
        filled + rest
    }
}

fn mint_described(description: &str) -> String {
    let mut claims = json!({});
    let (mut secret, mut signed) = (SECRET, true);
    for (name, value) in description.split(',').map(|part| part.split_once('=').expect("name=value")) {
        match (name, value) {
            ("sig", "bad") => secret = WRONG_SECRET,
            ("alg", "none") => signed = false,
            ("exp", offset) => claims["exp"] = expiry(offset),
            ("v" | "n", number) => claims[name] = json!(number),
            ("app_metadata.team", team) => claims["app_metadata"] = json!({ "team": team }),
            ("role" | "sub", text) => claims[name] = json!(text),
            other => panic!("unknown claim: {other:?}"),
        }
    }
    if signed {
        return token::mint(secret, &claims).expect("claims serialize");
    }
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(json!({"alg": "none", "typ": "JWT"})), part(claims))
}

/// Parses an expiry offset: `+4s`, `-110s`, `+965.5s`, `+365d`.
fn expiry(offset: &str) -> Value {
    let (number, unit) = offset.split_at(offset.len() - 1);
    let factor = if unit == "d" { 86_400 } else { 1 };
    match number.parse::<i64>() {
        Ok(whole) => json!(unix_time_in(whole * factor)),
        Err(_) => {
            let (whole, _) = number.split_once('.').expect("a decimal");
            // The claim is a decimal number, which the recording tests.
            #[expect(clippy::cast_precision_loss, reason = "seconds fit")]
            let seconds = unix_time_in(whole.parse().expect("a number")) as f64;
            json!(seconds + 0.5)
        }
    }
}
