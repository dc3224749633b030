//! Persistent settings of a cluster in `<data_dir>/cluster.json`: port and passwords.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{Rng, RngCore};
use serde::{Deserialize, Serialize};

use super::private_files::write_private;
use super::{
    EmbeddedError,
    constants::{ADMIN_ROLE, SERVER_ROLE},
};
use crate::model::Secret;

/// Below the ephemeral port range, so that a chosen port is rarely taken while the cluster is down.
const PORT_RANGE: RangeInclusive<u16> = 15_432..=16_431;

/// Not `Debug`, because it contains passwords.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ClusterRecord {
    /// Parent directory of `pg` if that is not the data directory.
    #[serde(rename = "home")]
    pub(super) cluster_root: Option<PathBuf>,
    /// TCP port on 127.0.0.1.
    pub(super) port: u16,
    /// Password of the superuser.
    pub(super) admin_password: String,
    /// Password of the role in `DATABASE_URL`.
    pub(super) password: String,
}

impl ClusterRecord {
    /// Generates passwords and picks a free port.
    pub(super) fn generate(cluster_root: Option<PathBuf>) -> Result<Self, EmbeddedError> {
        Ok(Self {
            cluster_root,
            port: free_port()?,
            admin_password: generate_password(),
            password: generate_password(),
        })
    }

    pub(super) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("cluster.json")
    }

    /// Reads the record; `None` if the file does not exist.
    pub(super) fn read(data_dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        let path = Self::path(data_dir);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|source| {
                EmbeddedError::RecordDamaged { record: path, cluster: data_dir.to_owned(), source }
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EmbeddedError::file("read", &path, error)),
        }
    }

    /// Writes the record with mode 0600.
    pub(super) fn write(&self, data_dir: &Path) -> Result<(), EmbeddedError> {
        let text = serde_json::to_string_pretty(self).expect("strings and numbers serialize");
        write_private(&Self::path(data_dir), &text)
    }

    /// Picks another port if the current one is in use; returns whether it did.
    pub(super) fn replace_taken_port(&mut self) -> Result<bool, EmbeddedError> {
        if is_port_free(self.port) {
            return Ok(false);
        }
        self.port = free_port()?;
        Ok(true)
    }

    /// URL for `DATABASE_URL`.
    pub(super) fn url(&self) -> Secret {
        self.url_for(SERVER_ROLE, &self.password)
    }

    /// URL for the superuser.
    pub(super) fn admin_url(&self) -> Secret {
        self.url_for(ADMIN_ROLE, &self.admin_password)
    }

    fn url_for(&self, role: &str, password: &str) -> Secret {
        Secret::new(format!("postgresql://{role}:{password}@127.0.0.1:{}/postgres", self.port))
    }
}

/// 144 random bits in base64url, which needs no quoting in URLs or shells.
fn generate_password() -> String {
    let mut bytes = [0; 18];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn free_port() -> Result<u16, EmbeddedError> {
    let (first, last) = (*PORT_RANGE.start(), *PORT_RANGE.end());
    // The search starts at a random port, so that two clusters rarely choose the same one.
    let start = rand::rng().random_range(PORT_RANGE);
    (start..=last)
        .chain(first..start)
        .find(|&port| is_port_free(port))
        .ok_or(EmbeddedError::NoPort { first, last })
}

fn is_port_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one() {
        let mut record = ClusterRecord::generate(None).unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        record.port = taken.local_addr().unwrap().port();
        assert!(record.replace_taken_port().unwrap());
        assert!(PORT_RANGE.contains(&record.port));
        assert!(!record.replace_taken_port().unwrap());
    }

    #[test]
    fn passwords_differ_and_need_no_quoting() {
        let record = ClusterRecord::generate(None).unwrap();
        assert_ne!(record.password, record.admin_password);
        assert!(record.url().expose().parse::<tokio_postgres::Config>().is_ok());
        assert!(record.password.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
    }
}
