//! What a model says that units are about, where there is one. It only points: counts, links and thresholds are the
//! same with and without.

use serde::Deserialize;

use super::{Unit, entities::EntityType};
use crate::context::{
    assemble::ChatMessage,
    provider::{CompletionRequest, Provider},
};

/// The characters of a unit that a model is shown.
const MAX_UNIT_CHARS: usize = 400;
/// Names that are believed, of each kind.
const MAX_NAMES: usize = 40;
/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 80;

/// What a model said.
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
    /// Names of topics.
    pub fn topic_names(&self) -> impl Iterator<Item = String> {
        self.topics
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| is_plausible_name(name))
            .take(MAX_NAMES)
    }

    /// Names of entities, and what they are where it was said in words that are known.
    pub fn entities(&self) -> impl Iterator<Item = (String, Option<EntityType>)> {
        let typed = |word: &String| serde_json::from_value(serde_json::Value::from(word.to_lowercase())).ok();
        let all = self
            .entities
            .iter()
            .map(move |it| (it.name.trim().to_owned(), it.entity_type.as_ref().and_then(typed)));
        all.filter(|(name, _)| is_plausible_name(name)).take(MAX_NAMES)
    }
}

fn is_plausible_name(name: &str) -> bool {
    (2..=MAX_NAME_CHARS).contains(&name.chars().count()) && name.chars().any(char::is_alphabetic)
}

/// Asks a model; nothing where it does not answer, or not in the form that was asked for.
pub async fn request_hints(model: &Provider, units: &[Unit]) -> Hints {
    const TASK: &str = "Each line is a note of one user. Name the recurring topics (noun phrases of one to three words, \
        as the notes write them) and the named entities. Answer with JSON alone: {\"topics\": [\"…\"], \"entities\": \
        [{\"name\": \"…\", \"type\": \"person|project|organization|tool|concept\"}]}.";
    let notes = units.iter().fold(String::new(), |notes, unit| {
        let text: String = unit.content.chars().take(MAX_UNIT_CHARS).collect();
        notes + "- " + &text.split_whitespace().collect::<Vec<_>>().join(" ") + "\n"
    });
    let message = |role: &str, content: String| ChatMessage { role: role.into(), content };
    let request = CompletionRequest {
        messages: vec![message("system", TASK.into()), message("user", notes)],
        model: None,
        max_tokens: Some(1_000),
        temperature: Some(0.0),
    };
    match model.complete(&request).await {
        Ok(completion) => parse_hints(&completion.content).unwrap_or_else(|| {
            tracing::info!("a model's hints cannot be read; the roll-up goes on without");
            Hints::default()
        }),
        Err(error) => {
            tracing::info!(error = %error, "no hints by the model; the roll-up goes on without");
            Hints::default()
        }
    }
}

/// The JSON in an answer, which models like to wrap in words.
fn parse_hints(answer: &str) -> Option<Hints> {
    let json = &answer[answer.find('{')?..=answer.rfind('}')?];
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_extracted_from_surrounding_text() {
        let said = "Sure!\n```json\n{\"topics\": [\"sourdough\", \"\"], \"entities\": [{\"name\": \"Mara\", \"type\": \"Person\"}, \
            {\"name\": \"X1\", \"type\": \"robot\"}]}\n```";
        let hints = parse_hints(said).expect("is there");
        assert_eq!(hints.topic_names().collect::<Vec<_>>(), ["sourdough"]);
        let entities: Vec<_> = hints.entities().collect();
        assert_eq!(entities, [("Mara".to_owned(), Some(EntityType::Person)), ("X1".to_owned(), None)]);
        assert_eq!(parse_hints("I cannot."), None);
    }
}
