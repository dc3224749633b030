//! The API that OpenAI made common: `POST {base}/chat/completions`, JSON or server-sent events, and `/embeddings`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use rand::Rng;
use reqwest::{Client, Response, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{sleep, timeout};

use super::{
    Completion, Endpoint, Piece, Pieces, ProviderError, Request, Usage, breaker::Breaker, sse::Events,
};
use crate::context::assemble::ChatMessage;

/// Where answers come from.
const CHAT: &str = "chat/completions";
/// How often a request is sent at most.
const ATTEMPTS: u32 = 3;
/// Between attempts: doubling, with jitter of half its length.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A provider that wants a longer pause is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 8 * 1024 * 1024;
/// How much of a refusal is told on.
const SAID_CHARS: usize = 300;

/// One provider over HTTP.
pub struct OpenAi {
    endpoint: Endpoint,
    client: Client,
    breaker: Breaker,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [ChatMessage],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<WholeChoice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct WholeChoice {
    message: Text,
}

#[derive(Deserialize, Default)]
struct Text {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<ChunkChoice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    #[serde(default)]
    delta: Text,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Serialize)]
struct Texts<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Vectors {
    data: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    index: usize,
    embedding: Vec<f32>,
}

impl OpenAi {
    /// Opens nothing yet.
    ///
    /// # Panics
    /// Never with the TLS provider that the verifier of tokens installs.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(endpoint.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("nothing here depends on the machine");
        Self { endpoint, client, breaker: Breaker::default() }
    }

    /// Its name in requests.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// The whole answer at once.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn complete(&self, request: &Request) -> Result<Completion, ProviderError> {
        let response = self.ask(CHAT, &self.body(request, false)).await?;
        let read = async {
            let whole: Whole = self.whole(response).await?;
            let content = whole.choices.into_iter().next().and_then(|choice| choice.message.content);
            let content = content.ok_or_else(|| ProviderError::Broken("it has no choices".into()))?;
            let model = whole.model.unwrap_or_else(|| self.model(request).to_owned());
            Ok(Completion { content, model, usage: whole.usage })
        };
        let answer = read.await;
        self.note(answer.as_ref().err());
        answer
    }

    /// A vector for each text, in their order.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, ProviderError> {
        let body = Texts { model: &self.endpoint.model, input: texts, encoding_format: "float" };
        let response = self.ask("embeddings", &body).await?;
        let answer = self.whole(response).await.and_then(|Vectors { mut data }| {
            data.sort_unstable_by_key(|vector| vector.index);
            if data.iter().map(|vector| vector.index).eq(0..texts.len()) {
                Ok(data.into_iter().map(|vector| vector.embedding).collect())
            } else {
                Err(ProviderError::Broken("it has not one vector for each text".into()))
            }
        });
        self.note(answer.as_ref().err());
        answer
    }

    /// An answer's body, up to a limit.
    async fn whole<T: DeserializeOwned>(&self, response: Response) -> Result<T, ProviderError> {
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|error| self.lost(error))?);
            if body.len() > LONGEST_ANSWER {
                return Err(ProviderError::Broken("it is too long".into()));
            }
        }
        serde_json::from_slice(&body)
            .map_err(|error| ProviderError::Broken(format!("it cannot be read: {error}")))
    }

    /// The answer as it is written.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn stream(&self, request: &Request) -> Result<Pieces, ProviderError> {
        let response = self.ask(CHAT, &self.body(request, true)).await?;
        self.note(None);
        let silence = self.endpoint.timeout;
        let reading = Reading {
            chunks: response.bytes_stream().boxed(),
            events: Events::default(),
            ready: VecDeque::new(),
            named: false,
            finished: false,
            over: false,
        };
        Ok(stream::unfold(reading, move |mut reading| async move {
            let piece = reading.next(silence).await?;
            Some((piece, reading))
        })
        .boxed())
    }

    fn model<'a>(&'a self, request: &'a Request) -> &'a str {
        request.model.as_deref().unwrap_or(&self.endpoint.model)
    }

    fn body<'a>(&'a self, request: &'a Request, stream: bool) -> Body<'a> {
        Body {
            model: self.model(request),
            messages: &request.messages,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            stream,
            stream_options: stream.then_some(StreamOptions { include_usage: true }),
        }
    }

    /// Asks until there is an answer's head, as often as makes sense.
    async fn ask<T: Serialize + Sync>(&self, path: &str, body: &T) -> Result<Response, ProviderError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            if !self.breaker.admits(Instant::now()) {
                return Err(ProviderError::LeftAlone);
            }
            let error = match self.ask_once(path, body).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            self.note(Some(&error));
            let wanted = match &error {
                ProviderError::Busy { retry_after: Some(wanted) } => *wanted,
                _ => pause.mul_f64(rand::rng().random_range(0.5..1.0)),
            };
            if !error.may_pass() || attempt >= ATTEMPTS || wanted > LONGEST_PAUSE {
                return Err(error);
            }
            tracing::debug!(provider = self.name(), error = %error, attempt, "asking a provider again");
            sleep(wanted).await;
            pause *= 2;
            attempt += 1;
        }
    }

    async fn ask_once<T: Serialize + Sync>(&self, path: &str, body: &T) -> Result<Response, ProviderError> {
        let url = format!("{}/{path}", self.endpoint.base_url.trim_end_matches('/'));
        let mut request = self.client.post(url).json(body);
        if let Some(key) = &self.endpoint.api_key {
            request = request.bearer_auth(key.expose());
        }
        let response = timeout(self.endpoint.timeout, request.send())
            .await
            .map_err(|_| ProviderError::Silent(self.endpoint.timeout))?
            .map_err(|error| self.lost(error))?;
        let status = response.status();
        match status.as_u16() {
            200..=299 => Ok(response),
            429 => {
                let retry_after = response.headers().get(header::RETRY_AFTER);
                let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
                let seconds = seconds.filter(|seconds| (0.0..86_400.0).contains(seconds));
                Err(ProviderError::Busy { retry_after: seconds.map(Duration::from_secs_f64) })
            }
            status @ (408 | 500..=599) => Err(ProviderError::Failed(status)),
            status => {
                let text = timeout(CONNECT_LIMIT, response.text()).await.ok().and_then(Result::ok);
                let said = text.unwrap_or_default().chars().take(SAID_CHARS).collect();
                Err(ProviderError::Refused { status, said })
            }
        }
    }

    fn lost(&self, error: reqwest::Error) -> ProviderError {
        // Its URL may hold a key.
        let error = error.without_url();
        if error.is_timeout() && !error.is_connect() {
            return ProviderError::Silent(self.endpoint.timeout);
        }
        if error.is_body() || error.is_decode() {
            return ProviderError::Broken("the connection was lost".into());
        }
        ProviderError::Unreachable(error)
    }

    /// Tells the breaker.
    fn note(&self, error: Option<&ProviderError>) {
        match error {
            Some(error) if error.is_illness() => self.breaker.failed(Instant::now()),
            Some(_) => {}
            None => self.breaker.succeeded(),
        }
    }
}

/// A stream that is being read. Asked for the next piece, it reads no further than that.
struct Reading {
    chunks: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    events: Events,
    ready: VecDeque<Piece>,
    named: bool,
    /// The provider has said that this is all.
    finished: bool,
    /// There is nothing more to read.
    over: bool,
}

impl Reading {
    async fn next(&mut self, silence: Duration) -> Option<Result<Piece, ProviderError>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if self.over {
                return None;
            }
            while let Some(data) = self.events.next() {
                if let Err(error) = self.read(&data) {
                    self.over = true;
                    return Some(Err(error));
                }
            }
            if !self.ready.is_empty() || self.over {
                continue;
            }
            let broken = match timeout(silence, self.chunks.next()).await {
                Err(_) => ProviderError::Silent(silence),
                Ok(Some(Ok(bytes))) => match self.events.take(&bytes) {
                    Ok(()) => continue,
                    Err(_) => ProviderError::Broken("a line is too long".into()),
                },
                Ok(Some(Err(error))) if error.is_timeout() => ProviderError::Silent(silence),
                Ok(Some(Err(_))) => ProviderError::Broken("the connection was lost".into()),
                Ok(None) => {
                    let rest = self.events.last();
                    self.over = true;
                    if let Some(Err(error)) = rest.map(|data| self.read(&data)) {
                        return Some(Err(error));
                    }
                    if self.finished {
                        continue;
                    }
                    ProviderError::Broken("it ended in the middle".into())
                }
            };
            self.over = true;
            // What came before the break is told first.
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            return Some(Err(broken));
        }
    }

    fn read(&mut self, data: &str) -> Result<(), ProviderError> {
        if data == "[DONE]" {
            (self.finished, self.over) = (true, true);
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|error| ProviderError::Broken(format!("a piece cannot be read: {error}")))?;
        if let Some(error) = chunk.error {
            let said = error.to_string().chars().take(SAID_CHARS).collect();
            return Err(ProviderError::Broken(said));
        }
        if let Some(model) = chunk.model.filter(|_| !self.named) {
            self.named = true;
            self.ready.push_back(Piece::Model(model));
        }
        for choice in chunk.choices {
            self.finished |= choice.finish_reason.is_some();
            self.ready.extend(choice.delta.content.filter(|text| !text.is_empty()).map(Piece::Text));
        }
        self.ready.extend(chunk.usage.map(Piece::Usage));
        Ok(())
    }
}
