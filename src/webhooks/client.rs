//! Sends one signed request, and bounds everything that the receiver may do: time, size of the response, redirects.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    WebhookSettings,
    address::{NotPublic, PublicResolver, is_public},
    signature::sign,
};
use crate::{clock::Clock, lifecycle::ErrorChain, model::Secret};

/// Bytes of a response that are read, so that its connection can be used again. The rest is not read.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;
/// Maximum `Retry-After` that is followed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Why a URL cannot be a webhook.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUrl {
    #[error("must be an https URL")]
    NotHttps,
    #[error("must be an http or https URL")]
    NotHttp,
    #[error("must have a public host; WEBHOOK_ALLOW_PRIVATE=true allows others")]
    NotPublic,
}

/// A request to a webhook.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub url: &'a str,
    /// The current secret, and the previous one while receivers change.
    pub secrets: &'a [Secret],
    /// The same for each attempt.
    pub id: &'a str,
    /// The body as JSON text.
    pub body: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with a status from 200 to 299.
    Delivered(u16),
    /// The receiver answered 410: it wants no more.
    Gone,
    Failed {
        /// `None` without a response.
        status: Option<u16>,
        error: String,
        /// Minimum time until the next request, if the receiver says so.
        retry_after: Option<Duration>,
    },
}

/// Sends requests to webhooks. Clones share connections.
#[derive(Clone)]
pub struct WebhookClient {
    client: Client,
    timeout: Duration,
    allow_private: bool,
    clock: Arc<dyn Clock>,
}

impl WebhookClient {
    /// Creates a client without opening a connection.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the settings are fixed")]
    pub fn new(settings: &WebhookSettings, clock: Arc<dyn Clock>) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut builder = Client::builder()
            .connect_timeout(settings.timeout)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")));
        if !settings.allow_private {
            builder = builder.dns_resolver(Arc::new(PublicResolver));
        }
        let client = builder.build().expect("the client settings are valid");
        let WebhookSettings { timeout, allow_private, .. } = *settings;
        Self { client, timeout, allow_private, clock }
    }

    /// Checks a URL as far as that is possible without resolving its host.
    ///
    /// # Errors
    /// The scheme is not allowed, or the host is an address that is not.
    pub fn check_url(&self, url: &str) -> Result<Url, InvalidUrl> {
        let invalid = if self.allow_private { InvalidUrl::NotHttp } else { InvalidUrl::NotHttps };
        let Ok(url) = Url::parse(url) else { return Err(invalid) };
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() || !(url.scheme() == "https" || (self.allow_private && url.scheme() == "http")) {
            return Err(invalid);
        }
        // Addresses are not resolved, so the resolver does not check them.
        let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if !self.allow_private && address.is_some_and(|address| !is_public(address)) {
            return Err(InvalidUrl::NotPublic);
        }
        Ok(url)
    }

    /// Sends one event of the type `webhook.test`.
    pub async fn send_test(&self, url: &str, secrets: &[Secret]) -> Outcome {
        let (now, id) = (self.clock.now(), Uuid::new_v4());
        let events = format!(r#"[{{"id":"{id}","type":"webhook.test","timestamp":"{now:.3}","data":{{}}}}]"#);
        let (id, body) = (format!("msg_test_{}", id.simple()), body(now, &events));
        self.send(Message { url, secrets, id: &id, body }).await
    }

    /// Sends a request and reads its response, within the timeout.
    pub(super) async fn send(&self, message: Message<'_>) -> Outcome {
        let url = match self.check_url(message.url) {
            Ok(url) => url,
            Err(error) => return failed(None, format!("url {error}")),
        };
        let timestamp = self.clock.now().as_second();
        let signature = sign(message.secrets, message.id, timestamp, &message.body);
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(message.body);
        let exchange = async {
            let response = request.send().await?;
            let (status, retry_after) = (response.status(), retry_after(&response));
            drain(response).await;
            Ok::<_, reqwest::Error>((status, retry_after))
        };
        match timeout(self.timeout, exchange).await {
            Err(_) => failed(None, format!("no response within {} ms", self.timeout.as_millis())),
            Ok(Err(error)) => failed(None, describe(error)),
            Ok(Ok((StatusCode::GONE, _))) => Outcome::Gone,
            Ok(Ok((status, _))) if status.is_success() => Outcome::Delivered(status.as_u16()),
            Ok(Ok((status, retry_after))) => {
                let error = if status.is_redirection() {
                    format!("status {}; redirects are not followed", status.as_u16())
                } else {
                    format!("status {}", status.as_u16())
                };
                Outcome::Failed { status: Some(status.as_u16()), error, retry_after }
            }
        }
    }
}

/// The body of a request with a JSON list of events.
pub(super) fn body(now: Timestamp, events: &str) -> String {
    format!(r#"{{"type":"events","timestamp":"{now:.3}","data":{{"events":{events}}}}}"#)
}

fn failed(status: Option<u16>, error: String) -> Outcome {
    Outcome::Failed { status, error, retry_after: None }
}

/// The error without the URL, which may hold a secret of the receiver.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if cause.is::<NotPublic>() {
            return NotPublic.to_string();
        }
        source = cause.source();
    }
    ErrorChain(&error).to_string().chars().take(500).collect()
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Reads at most [`MAX_RESPONSE_BYTES`]. What the receiver says does not matter, nor whether it ends.
async fn drain(mut response: Response) {
    let mut read = 0;
    while read < MAX_RESPONSE_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SystemClock, settings::defaults};

    fn client(allow_private: bool) -> WebhookClient {
        let settings = WebhookSettings { allow_private, ..defaults() };
        WebhookClient::new(&settings, Arc::new(SystemClock))
    }

    #[test]
    fn urls_are_public_and_https_unless_allowed() {
        let (strict, open) = (client(false), client(true));
        for url in ["https://example.com/a?b", "https://1.1.1.1", "https://[2606:4700::1111]/"] {
            assert!(strict.check_url(url).is_ok() && open.check_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://example.com",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest",
        ] {
            assert!(strict.check_url(url).is_err() && open.check_url(url).is_ok(), "{url}");
        }
        for url in ["", "x", "ftp://example.com", "https://", "file:///etc/passwd"] {
            assert!(strict.check_url(url).is_err() && open.check_url(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn names_of_private_hosts_are_refused_before_a_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("an address").port();
        let (url, secrets) = (format!("https://localhost:{port}/"), [super::super::new_secret()]);
        let message = Message { url: &url, secrets: &secrets, id: "msg_1", body: "{}".into() };
        let outcome = client(false).send(message).await;
        assert_eq!(outcome, failed(None, NotPublic.to_string()));
        let accepted = timeout(Duration::from_millis(200), listener.accept()).await;
        assert!(accepted.is_err(), "no connection was opened");
    }
}
