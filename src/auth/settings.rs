//! What tokens and API keys are checked against.

use std::collections::HashMap;

use super::{Role, token::SigningAlgorithm};
use crate::{
    model::Secret,
    settings::{ParseResult, comma_separated, defaults, http_url},
};

/// Minimum length of `JWT_SECRET` in bytes: RFC 7518, section 3.2, requires a key as long as the hash (256
/// bits).
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// What tokens are checked against. `None` disables a kind of token or a check.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Identity")]
pub struct VerifierSettings {
    /// Secret of HS256 tokens, at least 32 characters. Default: such tokens are rejected; the embedded PostgreSQL gets a
    /// generated secret
    #[arg(long, env = "JWT_SECRET", alias = "supabase-jwt-secret", value_parser = jwt_secret)]
    pub jwt_secret: Option<Secret>,
    /// URL of the JSON Web Key Set for RS256, ES256 and EdDSA tokens. Default: such tokens are rejected
    #[arg(long, env = "JWKS_URL", value_parser = http_url)]
    pub jwks_url: Option<String>,
    /// JSON Web Key Set as text; keys that it lacks are looked up at JWKS_URL. Default: no such keys
    #[arg(long, env = "JWKS", value_parser = key_set)]
    pub jwks: Option<Secret>,
    /// Required issuer (iss) of tokens. Default: not checked
    #[arg(id = "jwt-issuer", long = "jwt-issuer", env = "JWT_ISSUER")]
    pub issuer: Option<String>,
    /// Required audience (aud) of tokens; a token may have several. Default: not checked
    #[arg(id = "jwt-audience", long = "jwt-audience", env = "JWT_AUDIENCE")]
    pub audience: Option<String>,
    /// Comma-separated algorithms (alg) that tokens may be signed with, of HS256, HS384, HS512, RS256, RS384, RS512, ES256,
    /// ES384 and EdDSA
    #[arg(
        id = "jwt-algorithms",
        long = "jwt-algorithms",
        env = "JWT_ALGORITHMS",
        default_value = "HS256,RS256,ES256,EdDSA",
        value_parser = algorithms
    )]
    pub algorithms: Algorithms,
    /// Comma-separated database roles of channel tokens. A token with another role has no rights in private channels and
    /// receives no row changes
    #[arg(
        id = "realtime-roles",
        long = "realtime-roles",
        env = "REALTIME_ROLES",
        default_value = "anon,authenticated,service_role",
        value_parser = roles
    )]
    pub channel_roles: ChannelRoles,
    /// Opaque API keys and their role, anon or service_role: key:role,key:role
    #[arg(long, env = "API_KEYS", default_value = "", value_parser = api_keys)]
    pub api_keys: HashMap<Secret, Role>,
}

/// Aliases, because clap takes a field of type `Vec` for several arguments.
type Algorithms = Vec<SigningAlgorithm>;
type ChannelRoles = Vec<Box<str>>;

impl Default for VerifierSettings {
    fn default() -> Self {
        defaults()
    }
}

fn jwt_secret(text: &str) -> ParseResult<Secret> {
    if text.len() < MIN_SECRET_BYTES {
        return Err(format!(
            "must have at least {MIN_SECRET_BYTES} characters (got {}); generate one with `openssl rand -hex 32`",
            text.len()
        ));
    }
    Ok(Secret::new(text))
}

/// Checks that the text is a key set. Errors do not repeat it: a key set may hold a secret.
fn key_set(text: &str) -> ParseResult<Secret> {
    super::jwks::KeySet::fixed(text)
        .map(|_| Secret::new(text))
        .map_err(|_| r#"must be a JSON Web Key Set such as {"keys":[…]}"#.to_owned())
}

fn algorithms(text: &str) -> ParseResult<Algorithms> {
    let algorithm = |name: &str| {
        SigningAlgorithm::from_name(name).ok_or_else(|| {
            format!(
                "must be a comma-separated list of HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384, EdDSA (got \"{name}\")"
            )
        })
    };
    let algorithms: Algorithms = comma_separated(text).map(algorithm).collect::<Result<_, _>>()?;
    if algorithms.is_empty() {
        return Err("must name at least one algorithm, such as HS256".into());
    }
    Ok(algorithms)
}

fn roles(text: &str) -> ParseResult<ChannelRoles> {
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_$-".contains(c));
    let role = |name: &str| {
        let message = format!("must be a comma-separated list of database roles (got \"{name}\")");
        if is_name(name) { Ok(name.into()) } else { Err(message) }
    };
    let roles: ChannelRoles = comma_separated(text).map(role).collect::<Result<_, _>>()?;
    if roles.is_empty() {
        return Err("must name at least one role, such as authenticated".into());
    }
    Ok(roles)
}

/// Parses `key:role,key:role`. A key may hold colons, a role does not. Errors number the entries instead of
/// showing the keys.
fn api_keys(text: &str) -> ParseResult<HashMap<Secret, Role>> {
    let mut keys = HashMap::new();
    for (index, entry) in comma_separated(text).enumerate() {
        let number = index + 1;
        let (key, role) = entry.rsplit_once(':').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            format!("must have the form key:role,key:role (got entry {number} without a role)")
        })?;
        let role = match role.parse() {
            Ok(Role::Authenticated) => {
                return Err(format!(
                    "entry {number}: role must be anon or service_role (got \"authenticated\", which needs a user; use a token)"
                ));
            }
            Ok(role) => role,
            // A key without a role may be in the place of the role.
            Err(_) => return Err(format!("entry {number}: role must be anon or service_role")),
        };
        if keys.insert(Secret::new(key), role).is_some() {
            return Err(format!("entry {number}: duplicate key"));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_and_roles_are_lists_of_names() {
        assert_eq!(algorithms("HS256, ES384"), Ok(vec![SigningAlgorithm::Hs256, SigningAlgorithm::Es384]));
        for invalid in ["", "none", "hs256", "HS256,PS256"] {
            assert!(algorithms(invalid).is_err(), "{invalid}");
        }
        assert_eq!(roles("anon, moderator").unwrap().len(), 2);
        assert!(roles(",").is_err() && roles("a b").is_err());
    }

    #[test]
    fn api_keys_need_a_role_without_user() {
        let error = api_keys("a:anon,b:authenticated").unwrap_err();
        assert!(error.starts_with("entry 2: role must be anon or service_role"), "{error}");
        assert_eq!(api_keys("a:anon, b:service_role").unwrap().len(), 2);
    }
}
