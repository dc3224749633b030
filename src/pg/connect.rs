//! Creates PostgreSQL connections: URL parsing, TLS by `sslmode`, timeouts and `application_name`.

use std::{str::FromStr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_postgres::{Client, Config, Connection, Socket, tls::MakeTlsConnect};

use super::session::StatementLimits;

/// `tokio_postgres_rustls` does not export the name of its stream type.
type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
use crate::lifecycle::ErrorChain;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Used unless the URL sets `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("DATABASE_URL: must be a PostgreSQL connection URL or key-value string")]
    InvalidUrl(#[source] tokio_postgres::Error),
    /// The system certificate store is empty; `sslmode=verify-full` and `verify-ca` need it.
    #[error(
        "DATABASE_URL: sslmode=verify-full needs root certificates and the system has none; install ca-certificates"
    )]
    NoRootCertificates,
}

/// Opens connections to one database.
#[derive(Clone)]
pub struct Connector {
    config: Arc<Config>,
    tls: MakeRustlsConnect,
}

impl Connector {
    /// Parses a connection URL. `prefer` and `require` encrypt without verifying the certificate. `verify-full` and
    /// `verify-ca` both verify certificate and host name against the system's root certificates.
    pub fn new(url: &str) -> Result<Self, ConnectError> {
        let verify = ["sslmode=verify-full", "sslmode=verify-ca"].iter().any(|mode| url.contains(mode));
        let url = url
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let mut config = Config::from_str(&url).map_err(ConnectError::InvalidUrl)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // A host that stops responding is detected within 30 seconds.
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(20));
        Ok(Self { config: Arc::new(config), tls: MakeRustlsConnect::new(tls_config(verify)?) })
    }

    /// Configuration with `application_name` set to `rollcall-<purpose>`.
    pub(super) fn config(&self, purpose: &str) -> Config {
        let mut config = Config::clone(&self.config);
        config.application_name(format!("rollcall-{purpose}"));
        config
    }

    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// Opens a connection outside the pools. The caller must poll the returned [`Connection`], and send
    /// [`StatementLimits::session_sql`] first.
    pub(super) async fn connect(
        &self,
        purpose: &str,
    ) -> Result<(Client, Connection<Socket, TlsStream>), tokio_postgres::Error> {
        self.config(purpose).connect(self.tls.clone()).await
    }

    /// Opens a connection outside the pools and polls it in a spawned task, which ends when the client is dropped.
    pub async fn client(&self, purpose: &str) -> Result<Client, tokio_postgres::Error> {
        self.client_with_limits(purpose, StatementLimits::DEFAULT).await
    }

    /// [`client`](Self::client) with these timeouts of statements.
    pub(super) async fn client_with_limits(
        &self,
        purpose: &str,
        limits: StatementLimits,
    ) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.connect(purpose).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %ErrorChain(&error), "database connection failed");
            }
        });
        client.batch_execute(&limits.session_sql()).await?;
        Ok(client)
    }
}

fn tls_config(verify: bool) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions");
    if !verify {
        let verifier = Arc::new(EncryptWithoutVerification(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(ConnectError::NoRootCertificates);
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Accepts any server certificate, as libpq does for `sslmode=require`.
#[derive(Debug)]
struct EncryptWithoutVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for EncryptWithoutVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
