//! Parsing of settings and the rules between them.

use std::{num::NonZeroU32, time::Duration};

use axum::http::HeaderValue;

use super::*;
use crate::auth::Role;

fn config<const N: usize>(texts: [(&str, &str); N]) -> Config {
    Config::from_settings(&Settings::from(texts)).unwrap()
}

fn problems<const N: usize>(texts: [(&str, &str); N]) -> String {
    Config::from_settings(&Settings::from(texts)).expect_err("is rejected").to_string()
}

fn origins(list: &[&'static str]) -> CorsOrigins {
    CorsOrigins::List(list.iter().map(|origin| HeaderValue::from_static(origin)).collect())
}

#[test]
fn defaults_apply_without_settings() {
    let config = config([]);
    let listen = &config.listen;
    assert_eq!((&*listen.host, listen.port, listen.ws_port), ("127.0.0.1", 4_000, None));
    assert_eq!((&*listen.admin_host, listen.admin_port), ("127.0.0.1", None));
    assert_eq!(config.metrics, crate::http::MetricsPolicy::default());
    assert_eq!(config.data_dir, Path::new(".rollcall"));
    assert!(config.database.url.is_none() && config.auth.jwt_secret.is_none());
    assert_eq!(config.limits.presence_updates_per_minute, NonZeroU32::new(10));
    assert_eq!(config.limits.heartbeats_per_minute, NonZeroU32::new(600));
    assert_eq!(config.limits.typing_updates_per_minute, NonZeroU32::new(300));
    assert_eq!(config.timeouts.lease, Duration::from_secs(10));
    assert_eq!(config.cors.origins, CorsOrigins::Any);
    assert!(config.gateway.networks.iter().any(|net| net.contains(&std::net::IpAddr::from([127, 0, 0, 9]))));
    assert!(config.hub.shards >= 1);
    assert_eq!(config.channels.limits.payload_bytes(), Some(3_000_500));
    assert_eq!(config.channels.postgres_changes.max_lag_bytes, 1 << 30);
    assert_eq!(config.context.roll_up_interval, Some(Duration::from_secs(300)));
}

#[test]
fn empty_variable_is_unset() {
    let config = config([("PORT", ""), ("DATABASE_URL", " "), ("ROLLCALL_DATA_DIR", "")]);
    assert_eq!(config.listen.port, 4_000);
    assert!(config.database.url.is_none());
    assert_eq!(config.data_dir, Path::new(".rollcall"));
}

#[test]
fn all_problems_are_reported_together() {
    let message = problems([
        ("PORT", "http"),
        ("NODE_LEASE", "0"),
        ("PRESENCE_UPDATES_PER_MINUTE", "ten"),
        ("TRUSTED_GATEWAYS", "everyone"),
        ("LOG_FORMAT", "xml"),
        ("CORS_CREDENTIALS", "true"),
    ]);
    assert_eq!(message.lines().count(), 6, "{message}");
    for name in [
        "PORT",
        "NODE_LEASE",
        "PRESENCE_UPDATES_PER_MINUTE",
        "TRUSTED_GATEWAYS",
        "LOG_FORMAT",
        "CORS_CREDENTIALS",
    ] {
        assert!(message.lines().any(|line| line.starts_with(&format!("{name}: "))), "{message}");
    }
}

#[test]
fn the_admin_port_is_not_a_port_of_clients() {
    assert_eq!(problems([("ADMIN_PORT", "4000")]), "ADMIN_PORT: must differ from PORT, which clients reach");
    assert_eq!(
        problems([("ADMIN_PORT", "4001"), ("WS_PORT", "4001")]),
        "ADMIN_PORT: must differ from WS_PORT, which clients reach"
    );
    assert_eq!(config([("ADMIN_PORT", "0"), ("PORT", "0")]).listen.admin_port, Some(0));
    assert!(problems([("METRICS_NETWORKS", "everyone")]).starts_with("METRICS_NETWORKS: "));
}

/// A rule that reads a malformed setting would report a second problem that is none.
#[test]
fn rules_do_not_repeat_a_malformed_setting() {
    let message = problems([("CORS_ORIGINS", "example.org"), ("CORS_CREDENTIALS", "true")]);
    assert!(message.starts_with("CORS_ORIGINS: ") && message.lines().count() == 1, "{message}");
    let message = problems([("DATABASE_URL", "mysql://db"), ("DATABASE_DIRECT_URL", "postgres://db/x")]);
    assert!(message.starts_with("DATABASE_URL: ") && message.lines().count() == 1, "{message}");
    assert_eq!(
        problems([("DATABASE_DIRECT_URL", "postgres://db/x")]),
        "DATABASE_DIRECT_URL: requires DATABASE_URL"
    );
}

/// A setting that accepts any text cannot be malformed. Every other one names itself, and a problem of an alias names
/// the alias.
#[test]
fn every_malformed_setting_is_named() {
    let any_text = [
        "ROLLCALL_DATA_DIR",
        "OTEL_SERVICE_NAME",
        "JWT_ISSUER",
        "JWT_AUDIENCE",
        "LLM_PROVIDER",
        "LLM_API_KEY",
        "LLM_MODEL",
        "LLM_FALLBACKS",
        "CONTEXT_LLM_PROVIDER",
        "CONTEXT_LLM_MODEL",
        "CHAT_MODELS",
        "OPENAI_API_KEY",
        "ZAI_API_KEY",
        "EMBEDDINGS_API_KEY",
        "EMBEDDINGS_MODEL",
        "NATS_USER",
        "NATS_PASSWORD",
        "NATS_TOKEN",
        "NATS_CREDS",
        "NATS_NKEY",
        "NATS_CA",
        "NATS_CERT",
        "NATS_KEY",
    ];
    let declared = texts::declared();
    let variables = declared.iter().map(texts::variable).filter(|variable| !any_text.contains(variable));
    for variable in variables.chain(ALIASES.iter().map(|(alias, _)| *alias)) {
        let message = problems([(variable, "a b=/")]);
        assert!(message.starts_with(&format!("{variable}: must ")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let message = problems([
        ("DATABASE_URL", "postgresql://u:hunter2@host:port/db"),
        ("JWT_SECRET", "hunter2"),
        ("API_KEYS", "hunter2:root"),
    ]);
    assert_eq!(message.lines().count(), 3, "{message}");
    assert!(!message.contains("hunter2"), "{message}");

    let config = config([
        ("DATABASE_URL", "postgresql://u:hunter2@host/db"),
        ("JWT_SECRET", &"hunter2".repeat(8)),
        ("API_KEYS", "a:b:hunter2:service_role"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2"),
        ("LLM_API_KEY", "hunter2"),
        ("NATS_URL", "nats://u:hunter2@host,tls://hunter2@other"),
        ("NATS_PASSWORD", "hunter2"),
        ("NATS_TOKEN", "hunter2"),
    ]);
    assert_eq!(config.auth.api_keys.get(&Secret::new("a:b:hunter2")), Some(&Role::ServiceRole));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn settings_of_nats_are_optional_and_checked() {
    assert!(config([]).channels.nats.servers.is_none());
    assert!(config([("NATS_URL", "nats://one:4222, tls://two")]).channels.nats.servers.is_some());
    assert_eq!(problems([("NATS_CERT", "cert.pem")]), "NATS_CERT: requires NATS_KEY");
    assert_eq!(problems([("NATS_KEY", "key.pem")]), "NATS_KEY: requires NATS_CERT");
    let message = problems([("NATS_URL", "http://hunter2@host")]);
    assert!(message.starts_with("NATS_URL: must be a comma-separated list of URLs"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn api_key_with_role_authenticated_is_rejected() {
    let message = problems([("API_KEYS", "hunter2:authenticated")]);
    assert!(message.starts_with("API_KEYS: entry 1: role must be anon or service_role"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn jwt_secret_takes_precedence_over_its_alias() {
    let (secret_text, alias_text) = ("a".repeat(32), "b".repeat(32));
    let secret = |settings: &Settings| Config::from_settings(settings).unwrap().auth.jwt_secret;
    let mut settings = Settings::from([("SUPABASE_JWT_SECRET", &*alias_text), ("JWT_SECRET", &*secret_text)]);
    assert_eq!(secret(&settings), Some(Secret::new(secret_text)));
    settings.set("JWT_SECRET", "");
    assert_eq!(secret(&settings), Some(Secret::new(alias_text)));
}

#[test]
fn settings_take_precedence_over_their_aliases() {
    let mut settings =
        Settings::from([("SHARDS", "3"), ("CORS_ORIGIN", "https://a.example"), ("REALTIME_SLOT", "old")]);
    let config = Config::from_settings(&settings).unwrap();
    assert_eq!(config.hub.shards, 3);
    assert_eq!(config.cors.origins, origins(&["https://a.example"]));
    assert_eq!(config.channels.postgres_changes.slot_name.as_deref(), Some("old"));

    settings.set("HUB_SHARDS", "4");
    settings.set("CORS_ORIGINS", "https://b.example");
    settings.set("REALTIME_SLOT_NAME", "new");
    let config = Config::from_settings(&settings).unwrap();
    assert_eq!(config.hub.shards, 4);
    assert_eq!(config.cors.origins, origins(&["https://b.example"]));
    assert_eq!(config.channels.postgres_changes.slot_name.as_deref(), Some("new"));
}

#[test]
fn providers_are_configured_by_name_or_url() {
    fn providers<const N: usize>(texts: [(&str, &str); N]) -> (Vec<(String, String)>, bool) {
        let models = config(texts).context.models;
        let endpoints = models.endpoints().unwrap().into_iter();
        (endpoints.map(|endpoint| (endpoint.name, endpoint.base_url)).collect(), models.echo())
    }
    assert_eq!(providers([]), (vec![], false));
    assert_eq!(providers([("LLM_PROVIDER", "echo")]), (vec![], true));
    let (both, _) = providers([("LLM_PROVIDER", "ollama"), ("ZAI_API_KEY", "key")]);
    assert_eq!(both[0], ("ollama".to_owned(), "http://127.0.0.1:11434/v1".to_owned()));
    assert_eq!(both[1].0, "zai");
    let custom =
        [("LLM_BASE_URL", "https://llm.example.org/v1"), ("LLM_MODEL", "m"), ("LLM_API_KEY", "hunter2")];
    assert_eq!(providers(custom).0[0].0, "custom");
    assert!(!format!("{:?}", config(custom)).contains("hunter2"));
    assert!(problems([("LLM_PROVIDER", "nobody")]).contains("LLM_PROVIDER: "));
    assert!(problems([("LLM_BASE_URL", "https://llm.example.org")]).contains("LLM_MODEL: "));
}

#[test]
fn credentials_require_explicit_origins() {
    assert!(problems([("CORS_CREDENTIALS", "true")]).starts_with("CORS_CREDENTIALS: "));
    let config = config([
        ("CORS_CREDENTIALS", "true"),
        ("CORS_ORIGINS", "https://Example.org/, http://localhost:3000"),
    ]);
    assert_eq!(config.cors.origins, origins(&["https://example.org", "http://localhost:3000"]));
}

#[test]
fn unix_socket_url_is_accepted() {
    let url = "postgresql:///app?host=/run/postgresql&sslmode=verify-full";
    assert!(config([("DATABASE_URL", url)]).database.url.is_some());
}

#[test]
fn unknown_name_is_reported() {
    assert_eq!(problems([("PROT", "1")]), "PROT: unknown setting");
}

fn database_url(config: &Config) -> &str {
    config.database.url.as_ref().unwrap().expose()
}

#[test]
fn variables_of_supabase_realtime_select_the_database() {
    let config = config([
        ("DB_HOST", "db"),
        ("DB_USER", "supabase_admin"),
        ("DB_PASSWORD", r"it's a \ secret"),
        ("DB_SSL", "true"),
        ("DB_AFTER_CONNECT_QUERY", "SET search_path TO _realtime"),
        ("GEN_RPC_SOCKET_IP", "0.0.0.0"),
        ("API_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("API_JWT_JWKS", r#"{"keys":[]}"#),
    ]);
    let expected = r"host='db' port='5432' user='supabase_admin' dbname='postgres' password='it\'s a \\ secret' sslmode='require'";
    assert_eq!(database_url(&config), expected);
    assert!(config.auth.jwt_secret.is_some() && config.auth.jwks.is_some());
    let notice = config.notice.unwrap();
    assert!(notice.ends_with("not needed: DB_AFTER_CONNECT_QUERY, GEN_RPC_SOCKET_IP"), "{notice}");
}

#[test]
fn malformed_variables_of_supabase_realtime_are_named() {
    for (texts, expected) in [
        ([("DB_HOST", "db"), ("DB_PORT", "x")], "DB_PORT: must be a port number"),
        ([("DB_HOST", "db"), ("DB_SSL", "x")], "DB_SSL: must be true or false"),
        ([("DB_USER", "u"), ("DB_PASSWORD", "x")], "DB_HOST: must be set because DB_USER is"),
        ([("DB_HOST", "db"), ("API_JWT_JWKS", "x")], "API_JWT_JWKS: must be a JSON Web Key Set"),
    ] {
        let message = problems(texts);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn variables_of_libpq_select_the_database() {
    let config = config([("PGHOST", "/run/x"), ("PGUSER", "me"), ("PGSSLMODE", "disable"), ("REGION", "eu")]);
    assert_eq!(database_url(&config), "host='/run/x' sslmode='disable' user='me'");
    assert_eq!(config.notice, None);
    assert!(self::config([("PGUSER", "me")]).database.url.is_none());
    assert!(problems([("PGSERVICE", "production")]).contains("service is not supported"));
}

#[test]
fn database_url_precedes_other_variables() {
    let config = config([("DATABASE_URL", "postgres://a/b"), ("DB_HOST", "c"), ("PGHOST", "d")]);
    assert_eq!(database_url(&config), "postgres://a/b");
    // Variables of libpq complete it, as in libpq.
    let config = self::config([
        ("DATABASE_URL", "postgres://a/b?sslmode=disable"),
        ("PGUSER", "me"),
        ("PGPORT", "6543"),
        ("PGSSLMODE", "require"),
        ("PGSERVICE", "production"),
    ]);
    assert_eq!(database_url(&config), "postgres://a:6543/b?sslmode=disable&user=me");
    let invalid = problems([("DATABASE_URL", "postgres://a/b"), ("PGSSLMODE", "no")]);
    assert!(invalid.contains("cannot complete DATABASE_URL"), "{invalid}");
}

#[test]
fn embedded_database_is_refused_where_another_was_meant() {
    let refusal = |texts: [(&str, &str); 2]| config(texts).embedded_refusal();
    let secret = ("API_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let reason = refusal([secret, ("PORT", "1")]).unwrap();
    assert_eq!(reason, "DATABASE_URL: must be set, because API_JWT_SECRET is set");
    assert!(refusal([("PORT", "1"), ("EMBEDDED_DATABASE", "false")]).is_some());
    assert_eq!(refusal([secret, ("EMBEDDED_DATABASE", "true")]), None);
}

#[test]
fn embedded_database_precedes_variables_of_other_programs() {
    let embedded = ("EMBEDDED_DATABASE", "true");
    for variable in [("DB_HOST", "c"), ("PGHOST", "d")] {
        assert!(config([embedded, variable]).database.url.is_none());
    }
    assert!(config([embedded, ("DATABASE_URL", "postgres://a/b")]).database.url.is_some());
}
