//! Settings of NATS that cannot be used.

use std::{io, path::PathBuf};

/// NATS cannot be used with these settings. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error("{variable}: cannot read {}", file.display())]
    File { variable: &'static str, file: PathBuf, source: io::Error },
    #[error("NATS_CREDS: {} is not a credentials file of NATS", file.display())]
    Credentials { file: PathBuf, source: io::Error },
    #[error("{variable}: {} holds no usable PEM certificate or key", file.display())]
    Certificate { variable: &'static str, file: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{variable}: the certificate or key cannot be used")]
    UnusableCertificate { variable: &'static str, source: rustls::Error },
    #[error("NATS_URL: the client cannot be created")]
    Client(#[source] async_nats::ConnectError),
    #[error("NATS_URL: the client does not accept commands")]
    Stopped(#[source] async_nats::SubscribeError),
}
