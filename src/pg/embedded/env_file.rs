//! Reads and writes `<data_dir>/env`, which a shell sources to work with this server: `set -a; . .rollcall/env; set +a`

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngCore;
use serde::Serialize;

use super::EmbeddedError;
use super::private_files::write_private;
use crate::auth::{Role, token::mint};
use crate::model::Secret;

/// Lifetime of the API keys in seconds: ten years, as on Supabase.
const KEY_LIFETIME_SECS: i64 = 10 * 365 * 24 * 3_600;
/// Characters without special meaning in a shell, besides letters and digits.
const SHELL_SAFE: &str = "-_./:@+=,%";

/// The JWT secret and the two API keys that are signed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub jwt_secret: Secret,
    /// JWT with role `anon`.
    pub anon_key: Secret,
    /// JWT with role `service_role`.
    pub service_role_key: Secret,
}

#[derive(Serialize)]
struct KeyClaims {
    iss: &'static str,
    role: Role,
    iat: i64,
    exp: i64,
}

impl Keys {
    /// Reads the keys from the `env` file. `None` if the file or a key is missing.
    ///
    /// # Errors
    /// If the file exists and cannot be read: generating new keys would invalidate those in use.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        let values = read_values(data_dir)?;
        let secret = |name| values.get(name).filter(|value| !value.is_empty()).map(Secret::new);
        let keys = (secret("JWT_SECRET"), secret("ANON_KEY"), secret("SERVICE_ROLE_KEY"));
        Ok(match keys {
            (Some(jwt_secret), Some(anon_key), Some(service_role_key)) => {
                Some(Self { jwt_secret, anon_key, service_role_key })
            }
            _ => None,
        })
    }

    /// Returns the stored keys if they match the configured secret; otherwise generates new ones.
    pub(super) fn load_or_generate(
        data_dir: &Path,
        configured: Option<&Secret>,
    ) -> Result<Self, EmbeddedError> {
        let stored = Self::read(data_dir)?;
        match (stored, configured) {
            (Some(stored), None) => Ok(stored),
            (Some(stored), Some(configured)) if stored.jwt_secret == *configured => Ok(stored),
            (_, Some(configured)) => Self::sign_with(configured.clone()),
            (None, None) => {
                let mut bytes = [0; 36];
                rand::rng().fill_bytes(&mut bytes);
                Self::sign_with(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
            }
        }
    }

    fn sign_with(jwt_secret: Secret) -> Result<Self, EmbeddedError> {
        let iat = jiff::Timestamp::now().as_second();
        let sign = |role| {
            let claims = KeyClaims { iss: "rollcall", role, iat, exp: iat + KEY_LIFETIME_SECS };
            mint(jwt_secret.expose(), &claims).map(Secret::new)
        };
        let (anon_key, service_role_key) = (sign(Role::Anon)?, sign(Role::ServiceRole)?);
        Ok(Self { jwt_secret, anon_key, service_role_key })
    }
}

pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("env")
}

/// Reads `DATABASE_URL` from the file.
pub(super) fn database_url(data_dir: &Path) -> Option<Secret> {
    read_values(data_dir).ok()?.remove("DATABASE_URL").map(Secret::new)
}

/// All variables of the file; empty if it does not exist. Invalid lines are skipped.
fn read_values(data_dir: &Path) -> Result<HashMap<String, String>, EmbeddedError> {
    let path = path(data_dir);
    match dotenvy::from_path_iter(&path) {
        Ok(lines) => Ok(lines.filter_map(Result::ok).collect()),
        Err(dotenvy::Error::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
            Err(EmbeddedError::file("read", &path, error))
        }
        Err(_) => Ok(HashMap::new()),
    }
}

pub(super) fn write(
    data_dir: &Path,
    database_url: &Secret,
    keys: &Keys,
    rollcall_url: &str,
) -> Result<(), EmbeddedError> {
    let values = [
        ("DATABASE_URL", database_url.expose()),
        ("JWT_SECRET", keys.jwt_secret.expose()),
        ("ANON_KEY", keys.anon_key.expose()),
        ("SERVICE_ROLE_KEY", keys.service_role_key.expose()),
        ("ROLLCALL_URL", rollcall_url),
    ];
    let lines: String =
        values.iter().map(|(name, value)| format!("{name}={}\n", shell_quote(value))).collect();
    write_private(&path(data_dir), &lines)
}

/// Quotes a value for POSIX shells if necessary. Readers of `.env` files accept the same syntax.
fn shell_quote(value: &str) -> String {
    if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || SHELL_SAFE.contains(c)) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary_dir() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("rollcall-env-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn a_shell_reads_the_written_values_back() {
        let dir = temporary_dir();
        let secret = Secret::new(r#"it's $HOME `id` "quoted" \n #32 characters"#);
        let keys = Keys::load_or_generate(&dir, Some(&secret)).unwrap();
        write(&dir, &Secret::new("postgresql://a:b@127.0.0.1:1/c"), &keys, "http://127.0.0.1:4000").unwrap();

        let script =
            "set -a; . \"$0\"; set +a; printf '%s|%s|%s' \"$JWT_SECRET\" \"$DATABASE_URL\" \"$ANON_KEY\"";
        let output = std::process::Command::new("sh").args(["-c", script]).arg(path(&dir)).output().unwrap();
        let expected =
            format!("{}|postgresql://a:b@127.0.0.1:1/c|{}", secret.expose(), keys.anon_key.expose());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert_eq!(Keys::read(&dir).unwrap(), Some(keys));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn keys_are_generated_once_and_follow_the_configured_secret() {
        let dir = temporary_dir();
        let url = Secret::new("postgresql://x");
        let first = Keys::load_or_generate(&dir, None).unwrap();
        assert!(first.jwt_secret.expose().len() >= 32);
        write(&dir, &url, &first, "http://x").unwrap();
        assert_eq!(Keys::load_or_generate(&dir, None).unwrap(), first);
        assert_eq!(Keys::load_or_generate(&dir, Some(&first.jwt_secret)).unwrap(), first);

        let other = Secret::new("b".repeat(32));
        let changed = Keys::load_or_generate(&dir, Some(&other)).unwrap();
        assert_eq!(changed.jwt_secret, other);
        assert_ne!(changed.anon_key, first.anon_key);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
