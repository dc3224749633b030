//! Client for APIs compatible with OpenAI's: `POST {base}/chat/completions` (JSON or server-sent events) and
//! `POST {base}/embeddings`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use reqwest::{Client, Response, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::time::{sleep, timeout};

use super::{
    Completion, CompletionChunk, CompletionRequest, CompletionStream, Endpoint, ProviderError, Usage,
    circuit_breaker::CircuitBreaker, sse::EventParser,
};
use crate::backoff::Backoff;
use crate::context::message::ChatMessage;
use crate::lifecycle::ErrorChain;

const CHAT_PATH: &str = "chat/completions";
/// Maximum attempts per request.
const MAX_ATTEMPTS: u32 = 3;
/// Delays between attempts double, with 50 % jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
/// Characters of an error response that are kept.
const MAX_ERROR_CHARS: usize = 2_000;

/// Client of one provider.
pub struct OpenAi {
    endpoint: Endpoint,
    client: Client,
    circuit_breaker: CircuitBreaker,
}

#[derive(Serialize)]
struct ChatBody<'a> {
    model: &'a str,
    messages: &'a [ChatMessage],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    options: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct EmbeddingsBody<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct EmbeddingsResponse {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f32>,
}

impl OpenAi {
    /// Creates a client without opening a connection.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(endpoint.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("the client settings are valid");
        Self { endpoint, client, circuit_breaker: CircuitBreaker::default() }
    }

    /// Name that requests use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Requests the complete answer.
    pub async fn complete(&self, request: &CompletionRequest) -> Result<Completion, ProviderError> {
        let response = self.send(CHAT_PATH, &self.chat_body(request, false)).await?;
        let read = async {
            let raw: Value = self.read_json(response).await?;
            let message = &raw["choices"][0]["message"];
            if !message.is_object() {
                return Err(ProviderError::InvalidResponse("no choices in the response".into()));
            }
            let text_of = |value: &Value| value.as_str().map(str::to_owned);
            Ok(Completion {
                content: text_of(&message["content"]).unwrap_or_default(),
                tool_calls: message["tool_calls"].as_array().cloned().unwrap_or_default(),
                finish_reason: text_of(&raw["choices"][0]["finish_reason"]),
                model: text_of(&raw["model"]).unwrap_or_else(|| self.model_for(request).to_owned()),
                usage: Usage::from_raw(&raw["usage"]),
                raw,
            })
        };
        let result = read.await;
        self.record_result(result.as_ref().err());
        result
    }

    /// Returns a vector for each text, in order.
    pub async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, ProviderError> {
        let body = EmbeddingsBody { model: &self.endpoint.model, input: texts, encoding_format: "float" };
        let response = self.send("embeddings", &body).await?;
        let result = self.read_json(response).await.and_then(|EmbeddingsResponse { mut data }| {
            data.sort_unstable_by_key(|vector| vector.index);
            if data.iter().map(|vector| vector.index).eq(0..texts.len()) {
                Ok(data.into_iter().map(|vector| vector.embedding).collect())
            } else {
                Err(ProviderError::InvalidResponse("expected one embedding per text".into()))
            }
        });
        self.record_result(result.as_ref().err());
        result
    }

    /// Reads a JSON body of at most [`MAX_RESPONSE_BYTES`].
    async fn read_json<T: DeserializeOwned>(&self, response: Response) -> Result<T, ProviderError> {
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|error| self.transport_error(error))?);
            if body.len() > MAX_RESPONSE_BYTES {
                return Err(ProviderError::InvalidResponse("the response is too long".into()));
            }
        }
        serde_json::from_slice(&body)
            .map_err(|error| ProviderError::InvalidResponse(format!("malformed JSON: {error}")))
    }

    /// Requests a streamed answer.
    pub async fn stream(&self, request: &CompletionRequest) -> Result<CompletionStream, ProviderError> {
        let response = self.send(CHAT_PATH, &self.chat_body(request, true)).await?;
        self.record_result(None);
        let max_silence = self.endpoint.timeout;
        let reader = StreamReader {
            chunks: response.bytes_stream().boxed(),
            events: EventParser::default(),
            pending: VecDeque::new(),
            finished: false,
            closed: false,
        };
        Ok(stream::unfold(reader, move |mut reader| async move {
            let chunk = reader.next_chunk(max_silence).await?;
            Some((chunk, reader))
        })
        .boxed())
    }

    /// Model that answers if a request names none.
    #[must_use]
    pub fn default_model(&self) -> &str {
        &self.endpoint.model
    }

    fn model_for<'a>(&'a self, request: &'a CompletionRequest) -> &'a str {
        request.model.as_deref().unwrap_or(&self.endpoint.model)
    }

    fn chat_body<'a>(&'a self, request: &'a CompletionRequest, stream: bool) -> ChatBody<'a> {
        ChatBody {
            model: self.model_for(request),
            messages: &request.messages,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            stream,
            stream_options: stream.then_some(StreamOptions { include_usage: true }),
            options: &request.options,
        }
    }

    /// Sends a request, with retries, until response headers arrive.
    async fn send<T: Serialize + Sync>(&self, path: &str, body: &T) -> Result<Response, ProviderError> {
        let mut backoff = BACKOFF;
        let mut attempt = 1;
        loop {
            self.circuit_breaker.check(Instant::now())?;
            let error = match self.send_once(path, body).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            self.record_result(Some(&error));
            let delay = error.retry_after().unwrap_or_else(|| backoff.next_delay());
            if !error.is_retryable() || attempt >= MAX_ATTEMPTS || delay > BACKOFF.max() {
                return Err(error);
            }
            tracing::debug!(provider = self.name(), error = %ErrorChain(&error), attempt, "provider request failed, retrying");
            sleep(delay).await;
            attempt += 1;
        }
    }

    async fn send_once<T: Serialize + Sync>(&self, path: &str, body: &T) -> Result<Response, ProviderError> {
        let url = format!("{}/{path}", self.endpoint.base_url.trim_end_matches('/'));
        let mut request = self.client.post(url).json(body);
        if let Some(key) = &self.endpoint.api_key {
            request = request.bearer_auth(key.expose());
        }
        let response = timeout(self.endpoint.timeout, request.send())
            .await
            .map_err(|_| ProviderError::Timeout(self.endpoint.timeout))?
            .map_err(|error| self.transport_error(error))?;
        let status = response.status();
        match status.as_u16() {
            200..=299 => Ok(response),
            429 => Err(ProviderError::RateLimited { retry_after: retry_after(response.headers()) }),
            status @ (408 | 500..=599) => {
                Err(ProviderError::ServerError { status, retry_after: retry_after(response.headers()) })
            }
            status => {
                let text = timeout(CONNECT_TIMEOUT, response.text()).await.ok().and_then(Result::ok);
                let body = text.unwrap_or_default().chars().take(MAX_ERROR_CHARS).collect();
                Err(ProviderError::Rejected { status, body })
            }
        }
    }

    fn transport_error(&self, error: reqwest::Error) -> ProviderError {
        // The URL may contain a key.
        let error = error.without_url();
        if error.is_timeout() && !error.is_connect() {
            return ProviderError::Timeout(self.endpoint.timeout);
        }
        if error.is_body() || error.is_decode() {
            return ProviderError::InvalidResponse("connection lost".into());
        }
        ProviderError::Unreachable(error)
    }

    /// Reports a result to the circuit breaker.
    fn record_result(&self, error: Option<&ProviderError>) {
        self.circuit_breaker.record(error, Instant::now());
    }
}

/// Value of `Retry-After` in either of its forms: seconds or a date. At most a day.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match value.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(value).ok()?;
            date.timestamp().duration_since(jiff::Timestamp::now()).as_secs_f64().max(0.0)
        }
    };
    (0.0..=86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// Reads a stream on demand: no further than the next chunk.
struct StreamReader {
    chunks: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    events: EventParser,
    pending: VecDeque<CompletionChunk>,
    /// The provider sent `finish_reason` or `[DONE]`.
    finished: bool,
    /// No more data will be read.
    closed: bool,
}

impl StreamReader {
    async fn next_chunk(&mut self, max_silence: Duration) -> Option<Result<CompletionChunk, ProviderError>> {
        loop {
            if let Some(chunk) = self.pending.pop_front() {
                return Some(Ok(chunk));
            }
            if self.closed {
                return None;
            }
            while let Some(data) = self.events.next_data() {
                if let Err(error) = self.parse_event(&data) {
                    self.closed = true;
                    return Some(Err(error));
                }
            }
            if !self.pending.is_empty() || self.closed {
                continue;
            }
            let error = match timeout(max_silence, self.chunks.next()).await {
                Err(_) => ProviderError::Timeout(max_silence),
                Ok(Some(Ok(bytes))) => match self.events.push(&bytes) {
                    Ok(()) => continue,
                    Err(_) => ProviderError::InvalidResponse("a line of the stream is too long".into()),
                },
                Ok(Some(Err(error))) if error.is_timeout() => ProviderError::Timeout(max_silence),
                Ok(Some(Err(_))) => ProviderError::InvalidResponse("connection lost".into()),
                Ok(None) => {
                    let rest = self.events.finish();
                    self.closed = true;
                    if let Some(Err(error)) = rest.map(|data| self.parse_event(&data)) {
                        return Some(Err(error));
                    }
                    if self.finished {
                        continue;
                    }
                    ProviderError::InvalidResponse("the stream ended before the answer was complete".into())
                }
            };
            self.closed = true;
            // Chunks that arrived before the error are delivered first.
            if let Some(chunk) = self.pending.pop_front() {
                return Some(Ok(chunk));
            }
            return Some(Err(error));
        }
    }

    fn parse_event(&mut self, data: &str) -> Result<(), ProviderError> {
        if data == "[DONE]" {
            (self.finished, self.closed) = (true, true);
            return Ok(());
        }
        let raw: Value = serde_json::from_str(data)
            .map_err(|error| ProviderError::InvalidResponse(format!("malformed chunk: {error}")))?;
        if !raw.is_object() {
            return Err(ProviderError::InvalidResponse("malformed chunk: not an object".into()));
        }
        if let Some(error) = raw.get("error").filter(|error| !error.is_null()) {
            let message = error.to_string().chars().take(MAX_ERROR_CHARS).collect();
            return Err(ProviderError::InvalidResponse(message));
        }
        let chunk = CompletionChunk::from_raw(raw);
        self.finished |= chunk.finish_reason.is_some();
        self.pending.push_back(chunk);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let parse = |value: &str| {
            let value = header::HeaderValue::from_str(value).expect("a header value");
            retry_after(&[(header::RETRY_AFTER, value)].into_iter().collect())
        };
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-3"), None);
        assert_eq!(parse("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "a time in the past");
    }
}
