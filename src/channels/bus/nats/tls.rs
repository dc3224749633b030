//! TLS of connections to NATS.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{NatsError, NatsSettings};

/// The certificate of NATS is verified against `NATS_CA` or the certificates of the system.
pub(super) fn tls_config(settings: &NatsSettings) -> Result<ClientConfig, NatsError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Some(file) => {
            for certificate in read_certificates("NATS_CA", file)? {
                let unusable = |source| NatsError::UnusableCertificate { variable: "NATS_CA", source };
                roots.add(certificate).map_err(unusable)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let unreadable = |source| NatsError::Certificate { variable: "NATS_KEY", file: key.clone(), source };
    let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
    builder
        .with_client_auth_cert(read_certificates("NATS_CERT", certificate)?, key)
        .map_err(|source| NatsError::UnusableCertificate { variable: "NATS_CERT", source })
}

fn read_certificates(variable: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, NatsError> {
    CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|source| NatsError::Certificate {
        variable,
        file: file.to_owned(),
        source,
    })
}
