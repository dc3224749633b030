//! `rollcall token`: prints a signed token.

use std::process::ExitCode;

use anyhow::{Context, bail};
use rollcall::auth::{Role, token::mint};
use rollcall::config::{Config, TokenArgs, parse_duration};
use rollcall::pg::embedded::Keys;
use serde_json::{Map, Value};

/// Value of `iss` when `JWT_ISSUER` is not set.
const DEFAULT_ISSUER: &str = "rollcall";

pub(super) fn run(args: &TokenArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let secret = match &config.auth.jwt_secret {
        Some(configured) => Some(configured.clone()),
        None => Keys::read(&config.data_dir)?.map(|keys| keys.jwt_secret),
    };
    let secret = secret.with_context(|| {
        format!(
            "no signing secret: set JWT_SECRET, or run `rollcall serve` once to generate one in {}",
            config.data_dir.display()
        )
    })?;
    let claims = claims(args, config, jiff::Timestamp::now().as_second())?;
    println!("{}", mint(secret.expose(), &claims)?);
    Ok(ExitCode::SUCCESS)
}

fn claims(args: &TokenArgs, config: &Config, now: i64) -> anyhow::Result<Map<String, Value>> {
    let role: Role = args.role.parse().context("--role")?;
    let lifetime = parse_duration(&args.ttl).map_err(|error| anyhow::anyhow!("--ttl: {error}"))?;
    let expiry = i64::try_from(lifetime.as_secs()).ok().and_then(|seconds| now.checked_add(seconds));
    let expiry = expiry.context("--ttl: is too long")?;

    let mut claims = Map::new();
    match args.sub {
        Some(sub) => {
            claims.insert("sub".into(), sub.to_string().into());
        }
        None if role == Role::Authenticated => {
            bail!("--sub: is required for role authenticated; give a user ID (UUID)")
        }
        None => {}
    }
    claims.insert("role".into(), role.as_str().into());
    claims.insert("iss".into(), config.auth.issuer.as_deref().unwrap_or(DEFAULT_ISSUER).into());
    if let Some(audience) = &config.auth.audience {
        claims.insert("aud".into(), audience.as_str().into());
    }
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), expiry.into());
    for claim in &args.claims {
        let (name, value) = claim
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .with_context(|| format!("--claim: must have the form NAME=VALUE (got \"{claim}\")"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use rollcall::config::Settings;
    use serde_json::json;

    use super::*;

    fn args() -> TokenArgs {
        TokenArgs {
            sub: Some(uuid::Uuid::nil()),
            role: "authenticated".into(),
            ttl: "15m".into(),
            claims: Vec::new(),
        }
    }

    fn config() -> Config {
        Config::from_settings(&Settings::default()).unwrap()
    }

    #[test]
    fn claims_hold_subject_role_issuer_and_expiry() {
        let claims = claims(&args(), &config(), 1_000).unwrap();
        let expected = json!({
            "sub": "00000000-0000-0000-0000-000000000000", "role": "authenticated", "iss": "rollcall",
            "iat": 1_000, "exp": 1_900,
        });
        assert_eq!(Value::Object(claims), expected);
    }

    #[test]
    fn extra_claims_are_parsed_as_json_when_valid() {
        let extra = ["permissions=[\"presence:admin\"]", "name=Ada", "exp=5"];
        let args = TokenArgs { claims: extra.map(String::from).into(), ..args() };
        let claims = claims(&args, &config(), 1_000).unwrap();
        assert_eq!(claims["permissions"], json!(["presence:admin"]));
        assert_eq!(claims["name"], json!("Ada"));
        assert_eq!(claims["exp"], json!(5));
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for args in [
            TokenArgs { sub: None, ..args() },
            TokenArgs { role: "root".into(), ..args() },
            TokenArgs { ttl: "soon".into(), ..args() },
            TokenArgs { claims: vec!["x".into()], ..args() },
        ] {
            assert!(claims(&args, &config(), 1_000).is_err());
        }
        let anon = TokenArgs { sub: None, role: "anon".into(), ..args() };
        assert!(claims(&anon, &config(), 1_000).is_ok());
    }
}
