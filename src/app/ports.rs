//! Binds the ports and serves their routes.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::dependencies::Dependencies;
use crate::{
    config::{Config, Listen},
    console,
    http::{
        self, HttpState,
        middleware::{CorsSettings, HttpSettings},
    },
    lifecycle::Tasks,
    model::Modules,
    transport::{self, AcceptSettings, Admission, descriptors},
};

/// Maximum open sockets of the admin port; they are within the reserve of file descriptors.
const MAX_ADMIN_CONNECTIONS: usize = 32;
/// Connections that wait to be accepted; the kernel caps it (`net.core.somaxconn`). A client that finds the queue full
/// repeats its SYN after 1, 3 and 7 s. With the 128 of the standard library, reconnecting clients took seconds while the
/// server was idle.
const ACCEPT_BACKLOG: i32 = 4_096;

struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

/// The bound ports. Clients that connect before [`Ports::serve`] wait.
pub(super) struct Ports {
    main: Port,
    /// Serves only the context socket.
    second: Option<Port>,
    admin: Option<Port>,
}

/// Addresses of the ports.
pub(super) struct Addresses {
    pub(super) main: SocketAddr,
    pub(super) second: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
}

impl Ports {
    pub(super) async fn bind(settings: &Listen) -> anyhow::Result<Self> {
        let Listen { host, port, ws_port, admin_port, admin_host } = settings;
        let main = Port::bind(host, *port, "HOST or PORT").await?;
        let second = match ws_port {
            Some(port) => Some(Port::bind(host, *port, "HOST or WS_PORT").await?),
            None => None,
        };
        let admin = match admin_port {
            Some(port) => Some(Port::bind(admin_host, *port, "ADMIN_HOST or ADMIN_PORT").await?),
            None => None,
        };
        Ok(Self { main, second, admin })
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            main: self.main.address,
            second: self.second.as_ref().map(|port| port.address),
            admin: self.admin.as_ref().map(|port| port.address),
        }
    }

    /// Serves the routes until `stop_accepting` is cancelled.
    pub(super) fn serve(
        self,
        config: &Config,
        state: HttpState,
        deps: &Dependencies,
        tasks: &Tasks,
        stop_accepting: &CancellationToken,
    ) {
        let settings = HttpSettings {
            cors: config.cors.clone(),
            slow_routes: http::context::SLOW_ROUTES.to_vec(),
            stopping: deps.stopping.clone(),
            ..HttpSettings::default()
        };
        let system = state.system.clone();
        let accept = AcceptSettings {
            max_connections: descriptors::max_connections(
                config.accept.max_connections,
                config.database.pool_size,
            ),
            ..config.accept
        };
        // Both ports take from one limit of descriptors.
        let admission = Admission::new(&accept);
        let serve = |name, port: Port, router: Router, accept, admission| {
            tasks.spawn(
                name,
                transport::serve(port.listener, router, stop_accepting.clone(), accept, admission),
            );
        };
        if let Some(port) = self.second {
            let routes = http::second_port_routes(deps.modules).with_state(state.clone());
            let router = http::middleware::apply(routes, &settings);
            serve("http on the second port", port, router, accept, admission.clone());
        }
        if let Some(port) = self.admin {
            let settings = HttpSettings { cors: CorsSettings::no_origin(), ..settings.clone() };
            let router = http::middleware::apply(http::system::admin_routes(system), &settings);
            // Sockets of its own: clients that use up the other ports do not prevent monitoring.
            let accept = AcceptSettings {
                max_connections: MAX_ADMIN_CONNECTIONS,
                silent_per_address: None,
                ..config.accept
            };
            serve("http on the admin port", port, router, accept, Admission::new(&accept));
        }
        let router = http::middleware::apply(router(deps.modules).with_state(state), &settings);
        serve("http", self.main, router, accept, admission);
    }
}

impl Port {
    async fn bind(host: &str, port: u16, settings: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, port))
            .await
            .with_context(|| format!("cannot listen on {host}:{port}; set {settings} to a free address"))?;
        // A second call sets the backlog, on Linux and BSD.
        SockRef::from(&listener).listen(ACCEPT_BACKLOG).context("cannot set the backlog of the listener")?;
        let address = listener.local_addr().context("cannot read the bound address")?;
        Ok(Self { listener, address })
    }
}

/// Routes of the main port.
pub(crate) fn router(modules: Modules) -> Router<HttpState> {
    http::routes(modules, console::routes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::{net::TcpStream, time::timeout};

    use super::*;

    #[tokio::test]
    async fn many_clients_that_connect_at_once_wait_in_the_kernel() {
        let port = Port::bind("127.0.0.1", 0, "PORT").await.unwrap();
        let connects = (0..400).map(|_| TcpStream::connect(port.address));
        // Shorter than the second attempt of a client.
        let connected = timeout(Duration::from_millis(900), join_all(connects)).await;
        assert!(connected.expect("no client repeats its SYN").iter().all(Result::is_ok));
    }
}
