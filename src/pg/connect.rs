//! Creates PostgreSQL connections: URL parsing, TLS by `sslmode`, timeouts and `application_name`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres::{Client, Config, Connection, Socket, tls::MakeTlsConnect};

use super::{
    connection_string::{ConnectionString, InvalidConnectionString, Verification},
    session::StatementLimits,
};

use crate::lifecycle::ErrorChain;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Used unless the URL sets `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("DATABASE_URL: must be a PostgreSQL connection URL or key-value string")]
    InvalidUrl(#[source] InvalidConnectionString),
    #[error("DATABASE_URL: {name} cannot be read")]
    Certificate { name: &'static str, source: rustls::pki_types::pem::Error },
    #[error("DATABASE_URL: the certificates cannot be used")]
    UnusableCertificate(#[source] TlsError),
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
    tls: MakeTls,
    ignored: Arc<[String]>,
}

impl Connector {
    /// Parses a connection string. `prefer` and `require` encrypt without verifying the certificate. `verify-full` and
    /// `verify-ca` both verify certificate and host name, against `sslrootcert` or the system's root certificates.
    pub fn new(text: &str) -> Result<Self, ConnectError> {
        let ConnectionString { mut config, verification, client_certificate, ignored } =
            text.parse().map_err(ConnectError::InvalidUrl)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // A host that stops responding is detected within 30 seconds.
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(20));
        let tls = MakeTls(MakeRustlsConnect::new(tls_config(&verification, client_certificate.as_ref())?));
        Ok(Self { config: Arc::new(config), tls, ignored: ignored.into() })
    }

    /// Logs the parameters of the connection string that have no effect.
    pub(super) fn log_ignored(&self) {
        for parameter in &*self.ignored {
            tracing::warn!("DATABASE_URL: ignored {parameter}");
        }
    }

    /// Configuration with `application_name` set to `rollcall-<purpose>`.
    pub(super) fn config(&self, purpose: &str) -> Config {
        let mut config = Config::clone(&self.config);
        config.application_name(format!("rollcall-{purpose}"));
        config
    }

    pub(super) fn tls(&self) -> MakeTls {
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

/// `tokio_postgres_rustls` does not export the name of its stream type.
type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// TLS for connections to a host. A local socket has no host name; it is not encrypted, but the driver prepares TLS
/// before it decides.
#[derive(Clone)]
pub(super) struct MakeTls(pub(super) MakeRustlsConnect);

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = TlsStream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        let host = if host.is_empty() { "localhost" } else { host };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, host)
    }
}

fn tls_config(
    verification: &Verification,
    client_certificate: Option<&(PathBuf, PathBuf)>,
) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions");
    let builder = match verification {
        Verification::None => {
            let verifier = Arc::new(EncryptWithoutVerification(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        Verification::System => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(ConnectError::NoRootCertificates);
            }
            builder.with_root_certificates(roots)
        }
        Verification::File(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates("sslrootcert", file)? {
                roots.add(certificate).map_err(ConnectError::UnusableCertificate)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let Some((certificate, key)) = client_certificate else { return Ok(builder.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| ConnectError::Certificate { name: "sslkey", source })?;
    builder
        .with_client_auth_cert(read_certificates("sslcert", certificate)?, key)
        .map_err(ConnectError::UnusableCertificate)
}

fn read_certificates(
    name: &'static str,
    file: &std::path::Path,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|source| ConnectError::Certificate { name, source })
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
