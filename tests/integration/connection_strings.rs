//! Connection strings against servers with and without TLS, over IPv6, sockets and several hosts, and with credentials
//! that need encoding.

use std::{
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
    sync::Arc,
};

use rollcall::pg::Connector;
use testkit::{
    cluster::{Cluster, connect},
    harness::TestDatabase,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener},
};

/// Whether a connection is encrypted, or `None` if it fails.
async fn encrypted(text: &str) -> Option<bool> {
    let client = Connector::new(text).ok()?.client("test").await.ok()?;
    let row = client.query_one("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[]).await;
    Some(row.expect("a backend").get(0))
}

/// Forwards a connection to PostgreSQL.
fn forward(mut from: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, port: u16) {
    tokio::spawn(async move {
        let mut to = TcpStream::connect(("127.0.0.1", port)).await.expect("PostgreSQL listens");
        copy_bidirectional(&mut from, &mut to).await.ok();
    });
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Creates two certificate authorities, and a certificate of the first for `localhost`.
fn create_certificates(directory: &Path) {
    std::fs::create_dir_all(directory).expect("a directory");
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost").expect("a file");
    for name in ["ca", "other"] {
        openssl(
            directory,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ),
        );
    }
    openssl(directory, "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
    openssl(
        directory,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    // PostgreSQL requires that it owns the key, and runs as another user when the test runs as root.
    let owner =
        std::fs::metadata(directory.parent().expect("a parent").join("pg")).expect("the cluster's files");
    let key = directory.join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    chown(&key, Some(std::os::unix::fs::MetadataExt::uid(&owner)), None).expect("an owner");
}

#[testkit::test]
async fn tls_modes_work_against_servers_with_and_without_tls(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_bare("tls").await;
    let url = cluster.url("postgres");
    let (start, address) = url.split_once('@').expect("a URL with a user");
    let (host_and_port, _) = address.split_once('/').expect("a database");
    let (_, port) = host_and_port.rsplit_once(':').expect("a port");
    let at = |host: &str, parameters: &str| format!("{start}@{host}:{port}/postgres?{parameters}");

    for (mode, expected) in [
        ("disable", Some(false)),
        ("allow", Some(false)),
        ("prefer", Some(false)),
        ("require", None),
        ("verify-ca", None),
        ("verify-full", None),
    ] {
        assert_eq!(
            encrypted(&at("127.0.0.1", &format!("sslmode={mode}"))).await,
            expected,
            "without TLS: {mode}"
        );
    }

    let directory = cluster.dir().join("tls");
    create_certificates(&directory);
    let file = |name: &str| directory.join(name).display().to_string();
    let admin = connect(&cluster.admin_url("postgres")).await;
    for (name, value) in
        [("ssl_cert_file", file("server.pem")), ("ssl_key_file", file("server.key")), ("ssl", "on".into())]
    {
        admin.batch_execute(&format!("alter system set {name} = '{value}'")).await.expect("a setting");
    }
    admin.batch_execute("select pg_reload_conf()").await.expect("a reload");
    let require = at("localhost", "sslmode=require");
    let started = std::time::Instant::now();
    while encrypted(&require).await.is_none() {
        assert!(started.elapsed() < testkit::harness::WAIT_TIMEOUT, "TLS is not enabled");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (ca, other) = (file("ca.pem"), file("other.pem"));
    for (host, parameters, expected) in [
        ("localhost", "sslmode=disable".to_owned(), Some(false)),
        ("localhost", "sslmode=allow".to_owned(), Some(true)),
        ("localhost", "sslmode=prefer".to_owned(), Some(true)),
        ("localhost", "sslmode=require".to_owned(), Some(true)),
        ("localhost", String::new(), Some(true)),
        ("localhost", format!("sslmode=require&sslrootcert={ca}"), Some(true)),
        ("localhost", format!("sslmode=require&sslrootcert={other}"), None),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={ca}"), Some(true)),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), None),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}"), Some(true)),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), None),
        // The certificate is for another name.
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}"), None),
        ("127.0.0.1", "sslmode=require".to_owned(), Some(true)),
        ("localhost", format!("sslmode=verify-full&sslrootcert={}", file("missing.pem")), None),
        // The system's root certificates do not sign it.
        ("localhost", "sslmode=verify-full".to_owned(), None),
    ] {
        assert_eq!(encrypted(&at(host, &parameters)).await, expected, "with TLS: {host} {parameters}");
    }
    drop(admin);
    cluster.stop().await;
}

#[testkit::test]
async fn addresses_and_credentials_of_every_kind_connect(db: Arc<TestDatabase>) {
    let (start, address) = db.url.split_once('@').expect("a URL with a user");
    let (host_and_port, name) = address.split_once('/').expect("a database");
    let port: u16 = host_and_port.rsplit_once(':').expect("a port").1.parse().expect("a number");
    let (user, password) = start.rsplit_once("//").expect("a scheme").1.split_once(':').expect("a password");

    let ipv6 = TcpListener::bind("[::1]:0").await.expect("IPv6 works");
    let ipv6_port = ipv6.local_addr().expect("an address").port();
    let directory = std::env::temp_dir().join(format!("rollcall-it-{}-socket", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let socket = UnixListener::bind(directory.join(".s.PGSQL.6543")).expect("a socket");
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Ok((stream, _)) = ipv6.accept() => forward(stream, port),
                Ok((stream, _)) = socket.accept() => forward(stream, port),
            }
        }
    });
    let path = directory.display().to_string();
    let encoded = path.replace('/', "%2F");
    for text in [
        format!("{start}@[::1]:{ipv6_port}/{name}"),
        format!("host=::1 port={ipv6_port} user={user} password='{password}' dbname={name}"),
        format!(
            "hostaddr=::1 port={ipv6_port} user={user} password='{password}' dbname={name} sslmode=prefer"
        ),
        format!("{start}@[::1]:1,[::1]:{ipv6_port}/{name}"),
        format!("{start}@127.0.0.1:1,localhost:{port}/{name}?connect_timeout=5"),
        format!("host=127.0.0.1,127.0.0.1 port=1,{port} user={user} password='{password}' dbname={name}"),
        format!("{start}@127.0.0.1:1,127.0.0.1:{port}/{name}?target_session_attrs=read-write"),
        format!("{start}@{encoded}:6543/{name}?sslmode=verify-full"),
        format!("{start}@/{name}?host={path}&port=6543"),
        format!("host={path} port=6543 user={user} password='{password}' dbname={name} sslmode=require"),
        format!("postgresql:///{name}?host={encoded}&port=6543&user={user}&password={password}"),
    ] {
        assert_eq!(encrypted(&text).await, Some(false), "{text}");
    }

    let admin = connect(&db.admin_url()).await;
    let role = format!("app_{}", std::process::id());
    for (secret, in_url, in_list) in [
        ("p@ss:w/o?r#d", "p%40ss%3Aw%2Fo%3Fr%23d", "'p@ss:w/o?r#d'"),
        ("50% & more=1", "50%25%20%26%20more%3D1", "'50% & more=1'"),
        (r"it's \ üñí", "it%27s%20%5C%20%C3%BC%C3%B1%C3%AD", r"'it\'s \\ üñí'"),
        ("[x]", "%5Bx%5D", "[x]"),
    ] {
        let role = format!("{role} {secret}").replace('\\', "");
        let quoted = format!("\"{role}\"");
        let literal = secret.replace('\'', "''");
        admin
            .batch_execute(&format!("create role {quoted} login password '{literal}'; grant connect on database {name} to {quoted}"))
            .await
            .expect("a role");
        let user = percent_encoding::utf8_percent_encode(&role, percent_encoding::NON_ALPHANUMERIC);
        let list_user = role.replace('\'', r"\'");
        for text in [
            format!("postgresql://{user}:{in_url}@127.0.0.1:{port}/{name}"),
            format!("postgresql://127.0.0.1:{port}/{name}?user={user}&password={in_url}"),
            format!("host=127.0.0.1 port={port} user='{list_user}' password={in_list} dbname={name}"),
        ] {
            assert_eq!(encrypted(&text).await, Some(false), "{text}");
        }
        let wrong = format!("postgresql://{user}:x{in_url}@127.0.0.1:{port}/{name}");
        assert_eq!(encrypted(&wrong).await, None, "{wrong}");
        admin
            .batch_execute(&format!("revoke connect on database {name} from {quoted}; drop role {quoted}"))
            .await
            .expect("dropped");
    }
    std::fs::remove_dir_all(&directory).expect("the directory is deleted");
}
