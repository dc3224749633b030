//! A replication connection: connects, authenticates, runs simple queries, then enters copy-both mode.

use std::{io, pin::Pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    authentication::{md5_hash, sasl},
    message::{
        backend::{ErrorResponseBody, Header, Message},
        frontend,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_postgres::{
    Config,
    config::{ChannelBinding, Host, SslMode},
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::ReplicationError;
use crate::pg::Connector;

/// Maximum time to connect and authenticate.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a message in bytes. PostgreSQL allows rows of up to 1 GB, but clients are not sent such rows.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Settings of this connection. The text formats are those that `to_jsonb` uses.
const SESSION_PARAMETERS: [(&str, &str); 12] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("idle_session_timeout", "0"),
    // Creating a slot waits for all running transactions.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
];

trait Transport: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// A connection in replication mode.
pub struct ReplicationConnection {
    socket: Pin<Box<dyn Transport>>,
    read_buffer: BytesMut,
}

/// A message from PostgreSQL.
enum IncomingMessage {
    /// Payload of a `CopyData` message.
    Data(Bytes),
    /// The copy stream has started (`CopyBothResponse`).
    CopyBothStarted,
    Other(Message),
}

impl ReplicationConnection {
    /// Connects for logical replication of the URL's database.
    ///
    /// # Errors
    /// If the database is unavailable or refuses the connection.
    pub async fn connect(connector: &Connector, purpose: &str) -> Result<Self, ReplicationError> {
        let config = connector.config(purpose);
        match timeout(CONNECT_TIMEOUT, Self::open(&config, connector.tls().0)).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn open(config: &Config, tls: MakeRustlsConnect) -> Result<Self, ReplicationError> {
        let socket = connect_any_host(config, tls).await?;
        let mut connection = Self { socket, read_buffer: BytesMut::with_capacity(16 << 10) };
        let user =
            config.get_user().ok_or(ReplicationError::Configuration("the database URL has no user"))?;
        let mut parameters = SESSION_PARAMETERS.to_vec();
        parameters.extend([("replication", "database"), ("user", user)]);
        parameters.extend(config.get_dbname().map(|name| ("database", name)));
        parameters.extend(config.get_options().map(|options| ("options", options)));
        parameters.extend(config.get_application_name().map(|name| ("application_name", name)));
        connection.send(|out| frontend::startup_message(parameters.iter().copied(), out)).await?;
        connection.authenticate(config, user).await?;
        connection.wait_until_ready(|_| Ok(())).await?;
        Ok(connection)
    }

    async fn authenticate(&mut self, config: &Config, user: &str) -> Result<(), ReplicationError> {
        let password = || {
            config.get_password().ok_or(ReplicationError::Configuration("the database URL has no password"))
        };
        match self.receive_message().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                let password = password()?;
                self.send(|out| frontend::password_message(password, out)).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(user.as_bytes(), password()?, body.salt());
                self.send(|out| frontend::password_message(hash.as_bytes(), out)).await?;
            }
            Message::AuthenticationSasl(body) => {
                let mechanisms: Vec<_> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                self.authenticate_scram(config, password()?, &mechanisms).await?;
            }
            _ => {
                return Err(ReplicationError::Configuration(
                    "unsupported authentication method; use scram-sha-256, md5 or password in pg_hba.conf",
                ));
            }
        }
        match self.receive_message().await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(ReplicationError::Protocol("unexpected message during authentication")),
        }
    }

    async fn authenticate_scram(
        &mut self,
        config: &Config,
        password: &[u8],
        mechanisms: &[String],
    ) -> Result<(), ReplicationError> {
        if !mechanisms.iter().any(|name| name == sasl::SCRAM_SHA_256)
            || config.get_channel_binding() == ChannelBinding::Require
        {
            return Err(ReplicationError::Configuration(
                "replication supports only SCRAM-SHA-256 without channel binding",
            ));
        }
        let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
        self.send(|out| frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), out)).await?;
        let Message::AuthenticationSaslContinue(body) = self.receive_message().await? else {
            return Err(ReplicationError::Protocol("expected a SCRAM challenge"));
        };
        scram.update(body.data())?;
        self.send(|out| frontend::sasl_response(scram.message(), out)).await?;
        let Message::AuthenticationSaslFinal(body) = self.receive_message().await? else {
            return Err(ReplicationError::Protocol("expected the final SCRAM message"));
        };
        Ok(scram.finish(body.data())?)
    }

    /// Runs a simple query and returns its rows as text.
    ///
    /// # Errors
    /// If PostgreSQL reports an error or the connection breaks.
    pub async fn query(&mut self, text: &str) -> Result<Vec<Vec<Option<String>>>, ReplicationError> {
        self.send(|out| frontend::query(text, out)).await?;
        let mut rows = Vec::new();
        self.wait_until_ready(|message| {
            if let Message::DataRow(row) = message {
                let cell = |range: Option<std::ops::Range<usize>>| {
                    Ok(range.map(|range| String::from_utf8_lossy(&row.buffer()[range]).into_owned()))
                };
                rows.push(row.ranges().map(cell).collect()?);
            }
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Sends a command that starts copy-both mode.
    ///
    /// # Errors
    /// If PostgreSQL reports an error or the connection breaks.
    pub async fn copy_both(&mut self, command: &str) -> Result<(), ReplicationError> {
        self.send(|out| frontend::query(command, out)).await?;
        loop {
            match self.receive().await? {
                IncomingMessage::CopyBothStarted => return Ok(()),
                IncomingMessage::Data(_) => {
                    return Err(ReplicationError::Protocol("data before the start of the copy stream"));
                }
                IncomingMessage::Other(Message::ErrorResponse(body)) => return Err(server_error(&body)),
                IncomingMessage::Other(_) => {}
            }
        }
    }

    /// Waits for the next `CopyData` payload. Cancel-safe.
    ///
    /// # Errors
    /// If the stream ends or the connection breaks.
    pub async fn receive_data(&mut self) -> Result<Bytes, ReplicationError> {
        loop {
            match self.receive().await? {
                IncomingMessage::Data(bytes) => return Ok(bytes),
                IncomingMessage::Other(Message::ErrorResponse(body)) => return Err(server_error(&body)),
                IncomingMessage::Other(Message::CopyDone) => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                IncomingMessage::Other(_) | IncomingMessage::CopyBothStarted => {}
            }
        }
    }

    /// Returns the next `CopyData` payload that is already buffered, if any.
    ///
    /// # Errors
    /// As for [`Self::receive_data`].
    pub fn buffered_data(&mut self) -> Result<Option<Bytes>, ReplicationError> {
        loop {
            match self.parse_buffered()? {
                None => return Ok(None),
                Some(IncomingMessage::Data(bytes)) => return Ok(Some(bytes)),
                Some(IncomingMessage::Other(Message::ErrorResponse(body))) => {
                    return Err(server_error(&body));
                }
                Some(_) => {}
            }
        }
    }

    /// Sends a `CopyData` message.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send_data(&mut self, data: &[u8]) -> Result<(), ReplicationError> {
        self.send(|out| frontend::CopyData::new(data).map(|data| data.write(out))).await
    }

    /// Ends the copy stream and closes the connection; waits at most one second.
    pub async fn close(mut self) {
        let closing = async {
            self.send(|out| {
                frontend::copy_done(out);
                frontend::terminate(out);
                Ok(())
            })
            .await?;
            self.socket.shutdown().await?;
            Ok::<_, ReplicationError>(())
        };
        drop(timeout(Duration::from_secs(1), closing).await);
    }

    async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), ReplicationError> {
        let mut out = BytesMut::new();
        write(&mut out)?;
        self.socket.write_all(&out).await?;
        Ok(self.socket.flush().await?)
    }

    async fn wait_until_ready(
        &mut self,
        mut on_message: impl FnMut(&Message) -> Result<(), ReplicationError>,
    ) -> Result<(), ReplicationError> {
        let mut error_response = None;
        loop {
            match self.receive_message().await {
                Ok(Message::ReadyForQuery(_)) => return error_response.map_or(Ok(()), Err),
                Ok(message) => on_message(&message)?,
                // During authentication no `ReadyForQuery` follows an error: the connection ends, and the error is
                // the reason.
                Err(error @ ReplicationError::Server { .. }) => error_response = Some(error),
                Err(error) => return Err(error_response.unwrap_or(error)),
            }
        }
    }

    /// Waits for the next message that is not a notice; an error response is returned as an error.
    async fn receive_message(&mut self) -> Result<Message, ReplicationError> {
        loop {
            match self.receive().await? {
                IncomingMessage::Other(Message::ErrorResponse(body)) => return Err(server_error(&body)),
                IncomingMessage::Other(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                IncomingMessage::Other(message) => return Ok(message),
                IncomingMessage::Data(_) | IncomingMessage::CopyBothStarted => {
                    return Err(ReplicationError::Protocol("copy data outside of the copy stream"));
                }
            }
        }
    }

    /// Cancel-safe: bytes that were read stay in the buffer.
    async fn receive(&mut self) -> Result<IncomingMessage, ReplicationError> {
        loop {
            if let Some(incoming) = self.parse_buffered()? {
                return Ok(incoming);
            }
            self.read_buffer.reserve(16 << 10);
            if self.socket.read_buf(&mut self.read_buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn parse_buffered(&mut self) -> Result<Option<IncomingMessage>, ReplicationError> {
        let Some(header) = Header::parse(&self.read_buffer)? else { return Ok(None) };
        let length = usize::try_from(header.len())
            .map_err(|_| ReplicationError::Protocol("negative message length"))?
            + 1;
        if length > MAX_MESSAGE_BYTES {
            return Err(ReplicationError::Protocol("message exceeds 256 MiB"));
        }
        if self.read_buffer.len() < length {
            self.read_buffer.reserve(length - self.read_buffer.len());
            return Ok(None);
        }
        Ok(match header.tag() {
            // `postgres-protocol` does not support `W`, and would copy the payload of `d`.
            b'W' => {
                self.read_buffer.advance(length);
                Some(IncomingMessage::CopyBothStarted)
            }
            b'd' => {
                let mut message = self.read_buffer.split_to(length).freeze();
                message.advance(5);
                Some(IncomingMessage::Data(message))
            }
            _ => Message::parse(&mut self.read_buffer)?.map(IncomingMessage::Other),
        })
    }
}

fn server_error(body: &ErrorResponseBody) -> ReplicationError {
    let (mut code, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = text,
            b'M' => message = text,
            _ => {}
        }
    }
    ReplicationError::Server { code, message }
}

/// Tries the URL's hosts in order.
async fn connect_any_host(
    config: &Config,
    mut tls: MakeRustlsConnect,
) -> Result<Pin<Box<dyn Transport>>, ReplicationError> {
    let mut last_error = ReplicationError::Configuration("the database URL has no host");
    for (index, host) in config.get_hosts().iter().enumerate() {
        let port = match config.get_ports() {
            [] => 5432,
            [one] => *one,
            ports => ports.get(index).copied().unwrap_or(5432),
        };
        let result = match host {
            Host::Unix(dir) => UnixStream::connect(dir.join(format!(".s.PGSQL.{port}")))
                .await
                .map(|socket| Box::pin(socket) as Pin<Box<dyn Transport>>)
                .map_err(ReplicationError::from),
            Host::Tcp(name) => connect_tcp(config, name, port, &mut tls).await,
        };
        match result {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

async fn connect_tcp(
    config: &Config,
    name: &str,
    port: u16,
    tls: &mut MakeRustlsConnect,
) -> Result<Pin<Box<dyn Transport>>, ReplicationError> {
    let mut socket = TcpStream::connect((name, port)).await?;
    socket.set_nodelay(true)?;
    let mut keepalive = socket2::TcpKeepalive::new().with_time(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        keepalive = keepalive.with_interval(interval);
    }
    socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    if config.get_ssl_mode() == SslMode::Disable {
        return Ok(Box::pin(socket));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    if socket.read_u8().await? != b'S' {
        return if config.get_ssl_mode() == SslMode::Prefer {
            Ok(Box::pin(socket))
        } else {
            Err(ReplicationError::Configuration(
                "sslmode requires encryption, but the server does not support it",
            ))
        };
    }
    let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(tls, name).map_err(io::Error::other)?;
    Ok(Box::pin(connect.connect(socket).await.map_err(io::Error::other)?))
}
