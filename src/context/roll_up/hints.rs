//! Topic and entity names suggested by a model. They are only candidates: counts, links and thresholds are computed the
//! same way with and without a model.

use serde::Deserialize;

use super::sources::{EntityType, Unit};
use crate::context::{
    background::BackgroundCalls,
    message::ChatMessage,
    provider::{CompletionRequest, Purpose},
};
use crate::lifecycle::ErrorChain;

/// Characters of a unit in the request to the model.
const MAX_UNIT_CHARS: usize = 400;
/// Maximum names of each kind.
const MAX_NAMES: usize = 40;
const MAX_NAME_CHARS: usize = 80;

/// Names suggested by a model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Hints {
    topics: Vec<String>,
    entities: Vec<HintedEntity>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct HintedEntity {
    name: String,
    #[serde(default, rename = "type")]
    entity_type: Option<String>,
}

impl Hints {
    pub fn topic_names(&self) -> impl Iterator<Item = String> {
        self.topics
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| is_plausible_name(name))
            .take(MAX_NAMES)
    }

    /// Names of entities, with their type if the model named a known one.
    pub fn entities(&self) -> impl Iterator<Item = (String, Option<EntityType>)> {
        let parse_type =
            |name: &String| serde_json::from_value(serde_json::Value::from(name.to_lowercase())).ok();
        let all = self
            .entities
            .iter()
            .map(move |it| (it.name.trim().to_owned(), it.entity_type.as_ref().and_then(parse_type)));
        all.filter(|(name, _)| is_plausible_name(name)).take(MAX_NAMES)
    }
}

fn is_plausible_name(name: &str) -> bool {
    (2..=MAX_NAME_CHARS).contains(&name.chars().count()) && name.chars().any(char::is_alphabetic)
}

/// Requests suggestions from a model. Empty if the model fails or its answer cannot be parsed.
pub async fn request_hints(calls: &BackgroundCalls<'_>, units: &[Unit]) -> Hints {
    const TASK: &str = "Each line is a note of one user. Name the recurring topics (noun phrases of one to three words, \
        as the notes write them) and the named entities. Answer with JSON alone: {\"topics\": [\"…\"], \"entities\": \
        [{\"name\": \"…\", \"type\": \"person|project|organization|tool|concept\"}]}.";
    let notes = units.iter().fold(String::new(), |notes, unit| {
        let text: String = unit.content.chars().take(MAX_UNIT_CHARS).collect();
        notes + "- " + &text.split_whitespace().collect::<Vec<_>>().join(" ") + "\n"
    });
    let request = CompletionRequest {
        purpose: Purpose::RollUp,
        messages: vec![ChatMessage::new("system", TASK), ChatMessage::new("user", notes)],
        max_tokens: Some(1_000),
        temperature: Some(0.0),
        ..CompletionRequest::default()
    };
    match calls.complete(request).await {
        Ok(completion) => parse_hints(&completion.content).unwrap_or_else(|| {
            tracing::info!("malformed hints of the model, continuing without");
            Hints::default()
        }),
        Err(error) => {
            tracing::info!(error = %ErrorChain(&error), "hints of the model failed, continuing without");
            Hints::default()
        }
    }
}

/// Parses the JSON object in an answer; models often add text around it.
fn parse_hints(answer: &str) -> Option<Hints> {
    let json = &answer[answer.find('{')?..=answer.rfind('}')?];
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_extracted_from_surrounding_text() {
        let answer = "Sure!\n```json\n{\"topics\": [\"sourdough\", \"\"], \"entities\": [{\"name\": \"Mara\", \"type\": \"Person\"}, \
            {\"name\": \"X1\", \"type\": \"robot\"}]}\n```";
        let hints = parse_hints(answer).expect("is there");
        assert_eq!(hints.topic_names().collect::<Vec<_>>(), ["sourdough"]);
        let entities: Vec<_> = hints.entities().collect();
        assert_eq!(entities, [("Mara".to_owned(), Some(EntityType::Person)), ("X1".to_owned(), None)]);
        assert_eq!(parse_hints("I cannot."), None);
    }
}
