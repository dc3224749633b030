//! One replication connection: made, authenticated, asked simple questions, then in copy-both mode.

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

/// Opening a connection, up to the first question.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message that is read; one row is at most 1 GB in PostgreSQL, and nobody is sent such rows.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// How values are written as text on this connection; `to_jsonb` renders from the same forms.
const TEXT_FORMAT_PARAMETERS: [(&str, &str); 6] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
];

trait Transport: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// A connection that speaks the replication dialect.
pub struct ReplicationConnection {
    socket: Pin<Box<dyn Transport>>,
    read_buffer: BytesMut,
}

/// A message, as far as replication has use for it.
enum IncomingMessage {
    /// A piece of the copy stream.
    Data(Bytes),
    /// The copy stream has begun.
    CopyBothStarted,
    /// Anything else.
    Other(Message),
}

impl ReplicationConnection {
    /// Connects for logical replication of the URL's database.
    ///
    /// # Errors
    /// When the database is out of reach or refuses.
    pub async fn connect(connector: &Connector, purpose: &str) -> Result<Self, ReplicationError> {
        let config = connector.config(purpose);
        match timeout(CONNECT_TIMEOUT, Self::open(&config, connector.tls())).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn open(config: &Config, tls: MakeRustlsConnect) -> Result<Self, ReplicationError> {
        let socket = connect_any_host(config, tls).await?;
        let mut wire = Self { socket, read_buffer: BytesMut::with_capacity(16 << 10) };
        let user =
            config.get_user().ok_or(ReplicationError::Configuration("the database URL names no user"))?;
        let mut parameters = TEXT_FORMAT_PARAMETERS.to_vec();
        parameters.extend([("replication", "database"), ("user", user)]);
        parameters.extend(config.get_dbname().map(|name| ("database", name)));
        parameters.extend(config.get_options().map(|options| ("options", options)));
        parameters.extend(config.get_application_name().map(|name| ("application_name", name)));
        wire.send(|out| frontend::startup_message(parameters.iter().copied(), out)).await?;
        wire.authenticate(config, user).await?;
        wire.wait_until_ready(|_| Ok(())).await?;
        Ok(wire)
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
                    "PostgreSQL asks for a way to log in that is not known here",
                ));
            }
        }
        match self.receive_message().await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(ReplicationError::Protocol("the login did not end")),
        }
    }

    async fn authenticate_scram(
        &mut self,
        config: &Config,
        password: &[u8],
        offered: &[String],
    ) -> Result<(), ReplicationError> {
        if !offered.iter().any(|name| name == sasl::SCRAM_SHA_256)
            || config.get_channel_binding() == ChannelBinding::Require
        {
            return Err(ReplicationError::Configuration(
                "replication logs in with SCRAM-SHA-256 without channel binding only",
            ));
        }
        let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
        self.send(|out| frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), out)).await?;
        let Message::AuthenticationSaslContinue(body) = self.receive_message().await? else {
            return Err(ReplicationError::Protocol("SCRAM did not go on"));
        };
        scram.update(body.data())?;
        self.send(|out| frontend::sasl_response(scram.message(), out)).await?;
        let Message::AuthenticationSaslFinal(body) = self.receive_message().await? else {
            return Err(ReplicationError::Protocol("SCRAM did not end"));
        };
        Ok(scram.finish(body.data())?)
    }

    /// Asks a simple question and returns its rows as text.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the connection breaks.
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

    /// Sends a command that begins a copy in both directions.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the connection breaks.
    pub async fn copy_both(&mut self, command: &str) -> Result<(), ReplicationError> {
        self.send(|out| frontend::query(command, out)).await?;
        loop {
            match self.receive().await? {
                IncomingMessage::CopyBothStarted => return Ok(()),
                IncomingMessage::Data(_) => {
                    return Err(ReplicationError::Protocol("data before the copy began"));
                }
                IncomingMessage::Other(Message::ErrorResponse(body)) => return Err(server_error(&body)),
                IncomingMessage::Other(_) => {}
            }
        }
    }

    /// The next piece of the copy stream. Safe to drop and call again.
    ///
    /// # Errors
    /// When the stream ends, by PostgreSQL's will or by accident.
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

    /// A piece of the copy stream that is here already.
    ///
    /// # Errors
    /// As [`Self::data`].
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

    /// Sends a piece of the copy stream.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send_data(&mut self, data: &[u8]) -> Result<(), ReplicationError> {
        self.send(|out| frontend::CopyData::new(data).map(|data| data.write(out))).await
    }

    /// Says good-bye.
    pub async fn close(mut self) {
        let farewell = async {
            self.send(|out| {
                frontend::copy_done(out);
                frontend::terminate(out);
                Ok(())
            })
            .await?;
            self.socket.shutdown().await?;
            Ok::<_, ReplicationError>(())
        };
        drop(timeout(Duration::from_secs(1), farewell).await);
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
        mut take: impl FnMut(&Message) -> Result<(), ReplicationError>,
    ) -> Result<(), ReplicationError> {
        let mut refused = None;
        loop {
            match self.receive_message().await {
                Ok(Message::ReadyForQuery(_)) => return refused.map_or(Ok(()), Err),
                Ok(message) => take(&message)?,
                // During a login no ReadyForQuery follows; then the connection ends, and that is why.
                Err(error @ ReplicationError::Server { .. }) => refused = Some(error),
                Err(error) => return Err(refused.unwrap_or(error)),
            }
        }
    }

    /// The next message that is no notice and no error.
    async fn receive_message(&mut self) -> Result<Message, ReplicationError> {
        loop {
            match self.receive().await? {
                IncomingMessage::Other(Message::ErrorResponse(body)) => return Err(server_error(&body)),
                IncomingMessage::Other(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                IncomingMessage::Other(message) => return Ok(message),
                IncomingMessage::Data(_) | IncomingMessage::CopyBothStarted => {
                    return Err(ReplicationError::Protocol("an answer was expected"));
                }
            }
        }
    }

    /// Safe to drop: what was read stays in the inbox.
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
        let length =
            usize::try_from(header.len()).map_err(|_| ReplicationError::Protocol("a negative length"))? + 1;
        if length > MAX_MESSAGE_BYTES {
            return Err(ReplicationError::Protocol("a message is larger than a row may be"));
        }
        if self.read_buffer.len() < length {
            self.read_buffer.reserve(length - self.read_buffer.len());
            return Ok(None);
        }
        Ok(match header.tag() {
            // `postgres-protocol` does not know the first, and the second deserves no copy.
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

/// Tries the URL's hosts in turn.
async fn connect_any_host(
    config: &Config,
    mut tls: MakeRustlsConnect,
) -> Result<Pin<Box<dyn Transport>>, ReplicationError> {
    let mut last = ReplicationError::Configuration("the database URL names no host");
    for (place, host) in config.get_hosts().iter().enumerate() {
        let port = match config.get_ports() {
            [] => 5432,
            [one] => *one,
            ports => ports.get(place).copied().unwrap_or(5432),
        };
        let opened = match host {
            Host::Unix(dir) => UnixStream::connect(dir.join(format!(".s.PGSQL.{port}")))
                .await
                .map(|socket| Box::pin(socket) as Pin<Box<dyn Transport>>)
                .map_err(ReplicationError::from),
            Host::Tcp(name) => connect_tcp(config, name, port, &mut tls).await,
        };
        match opened {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
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
            Err(ReplicationError::Configuration("the server does not encrypt, and sslmode asks for it"))
        };
    }
    let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(tls, name).map_err(io::Error::other)?;
    Ok(Box::pin(connect.connect(socket).await.map_err(io::Error::other)?))
}
