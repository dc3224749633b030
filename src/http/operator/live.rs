//! Live events of one connection, as server-sent events.
//!
//! The stream polls the node that holds the connection. What the operator does not read in time is dropped from a ring
//! there, so a slow operator never delays the connection.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    select,
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Path, Query},
    Operator,
};
use crate::{
    model::ConnectionName,
    operator::{
        NodeExchange, OperatorSettings,
        message::{self, Answer, WatchedPart},
    },
    pg::queries::operator::OperatorAction,
};

/// Time between two polls of this node, and of another one, which costs statements.
const LOCAL_INTERVAL: Duration = Duration::from_millis(200);
const REMOTE_INTERVAL: Duration = Duration::from_secs(1);
/// Consecutive polls without an answer after which the stream ends.
const MAX_FAILURES: u32 = 3;
/// Time after which a stream ends.
const MAX_DURATION: Duration = Duration::from_secs(3_600);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Returns the route `/api/v1/system/connections/{id}/events`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(watch_connection))
}

/// What to show of each message.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WatchQuery {
    /// Whether to include payloads, without tokens. Requires the setting `OPERATOR_PAYLOADS`.
    #[serde(default)]
    #[param(nullable = false)]
    payloads: bool,
}

/// Streams the messages of a connection as server-sent events.
///
/// Events named `message` have the fields of `WatchedMessage`: direction, type, size and time, and payloads only if they
/// are requested and the setting `OPERATOR_PAYLOADS` allows them. An event `dropped` has `count`: so many messages are
/// missing here, because the stream was read too slowly. The last event is named `close` and has `reason`. A stream
/// ends after an hour. Each stream leaves one row in the audit log.
#[utoipa::path(
    get, path = "/api/v1/system/connections/{id}/events", operation_id = "watchConnection", tag = "System",
    params(
        ("id" = String, Path, description = "ID of the connection, as in the list of connections."),
        WatchQuery,
    ),
    responses((status = 200, description = "A stream of events that ends when the client disconnects.",
        content((String = "text/event-stream")))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404]))),
)]
async fn watch_connection(
    State(state): State<HttpState>,
    Operator { caller, request_id }: Operator,
    Path(id): Path<String>,
    Query(WatchQuery { payloads }): Query<WatchQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let connection: ConnectionName = id
        .parse()
        .map_err(|error: crate::model::InvalidConnectionName| ApiError::invalid("id", error.to_string()))?;
    let OperatorSettings { payloads: allows_payloads } = state.operator_settings;
    if payloads && !allows_payloads {
        return Err(ApiError::forbidden("payloads are not shown; the setting OPERATOR_PAYLOADS allows them"));
    }
    let exchange = state.operator;
    let permit = exchange
        .stream_permit()
        .ok_or_else(|| ApiError::unavailable("too many connections are watched; close another stream"))?;
    let action = OperatorAction { database: &state.database, caller: &caller, request_id: &request_id };
    action.record_watch(&connection, payloads).await?;
    let mut live = Live {
        interval: if connection.node == exchange.local().node { LOCAL_INTERVAL } else { REMOTE_INTERVAL },
        exchange,
        connection,
        payloads,
        position: 0,
        ready: VecDeque::new(),
        failures: 0,
        ends_at: Instant::now() + MAX_DURATION,
        is_closed: false,
        stopping: state.channels.stopping.clone(),
        _permit: permit,
    };
    match live.poll().await {
        Polled::Messages(part) => live.add(part),
        Polled::Closed => return Err(ApiError::NotFound),
        Polled::Refused => {
            return Err(ApiError::unavailable("the node of the connection did not answer; try again later"));
        }
    }
    let events = stream::unfold(live, Live::next);
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL))))
}

/// A stream of one operator.
struct Live {
    exchange: NodeExchange,
    connection: ConnectionName,
    payloads: bool,
    position: u64,
    /// Events to send before the next poll: at most those of one ring.
    ready: VecDeque<Event>,
    failures: u32,
    interval: Duration,
    ends_at: Instant,
    is_closed: bool,
    /// Cancelled when the server stops.
    stopping: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

enum Polled {
    Messages(WatchedPart),
    /// The connection is not open.
    Closed,
    /// The node did not answer, or is too busy.
    Refused,
}

impl Live {
    async fn poll(&self) -> Polled {
        let query = message::Query::Watch {
            connection: self.connection.clone(),
            position: self.position,
            payloads: self.payloads,
        };
        let Ok(mut answers) = self.exchange.ask(query, Some(self.connection.node)).await else {
            return Polled::Refused;
        };
        match answers.answers.pop() {
            Some((_, Answer::Watched(Some(part)))) => Polled::Messages(part),
            Some((_, Answer::Watched(None))) => Polled::Closed,
            Some(_) => Polled::Refused,
            None if answers.is_gone => Polled::Closed,
            None => Polled::Refused,
        }
    }

    fn add(&mut self, part: WatchedPart) {
        self.failures = 0;
        self.position = part.next;
        if part.dropped > 0 {
            self.push("dropped", &json!({ "count": part.dropped }));
        }
        for message in part.messages {
            self.push("message", &message);
        }
    }

    fn push(&mut self, name: &str, data: &impl serde::Serialize) {
        // The data is JSON with string keys, so this does not fail.
        if let Ok(event) = Event::default().event(name).json_data(data) {
            self.ready.push_back(event);
        }
    }

    fn close(&mut self, reason: &str) {
        self.is_closed = true;
        self.push("close", &json!({ "reason": reason }));
    }

    /// The next event; `None` behind the last one.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.is_closed {
                return None;
            }
            select! {
                () = self.stopping.cancelled() => {
                    self.close("the server is shutting down");
                    continue;
                }
                () = sleep(self.interval) => {}
            }
            match self.poll().await {
                Polled::Messages(part) => self.add(part),
                Polled::Closed => self.close("the connection is closed"),
                Polled::Refused => {
                    self.failures += 1;
                    if self.failures >= MAX_FAILURES {
                        self.close("the node of the connection does not answer");
                    }
                }
            }
            if !self.is_closed && Instant::now() >= self.ends_at {
                self.close("the stream is one hour old; open it again");
            }
        }
    }
}
