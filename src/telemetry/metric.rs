//! Every metric of the server: name, kind, unit, labels and meaning. `docs/reference/metrics.md` is generated from it.

use metrics::Unit;

/// What a metric counts over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric and what an operator must know about it.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// Labels, each with its values; an empty list means that the values depend on use.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// Text of the HELP line.
    pub meaning: &'static str,
}

/// Defines a constant with the name of each metric, and [`ALL`].
macro_rules! metrics {
    ($($(#[doc = $meaning:literal])+ $kind:ident $constant:ident = $name:literal, $unit:ident, $labels:expr;)+) => {
        $($(#[doc = $meaning])+ pub const $constant: &str = $name;)+

        /// All metrics. Names end with the unit, those of counters with `_total`.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: $labels,
            meaning: concat!($($meaning),+),
        }),+];
    };
}

const OUTCOMES: &[&str] = &["done", "failed"];
/// Values that depend on use.
const OPEN: &[&str] = &[];

metrics! {
    /// 1, with the version of the server as a label.
    Gauge BUILD_INFO = "rollcall_build_info", Count, &[("version", OPEN)];
    /// Time at which the process started, in Unix seconds.
    Gauge PROCESS_START_TIME = "process_start_time_seconds", Seconds, &[];
    /// CPU time that the process used, user and system, in whole seconds.
    Counter PROCESS_CPU = "process_cpu_seconds_total", Seconds, &[];
    /// Physical memory that the process uses.
    Gauge PROCESS_MEMORY = "process_resident_memory_bytes", Bytes, &[];
    /// File descriptors that the process has open.
    Gauge PROCESS_FDS = "process_open_fds", Count, &[];
    /// Maximum number of file descriptors that the process may open.
    Gauge PROCESS_MAX_FDS = "process_max_fds", Count, &[];

    /// HTTP requests that were answered.
    Counter HTTP_REQUESTS = "rollcall_http_requests_total", Count, &[("route", OPEN), ("method", OPEN), ("status", OPEN)];
    /// Time from the head of an HTTP request to the head of its response.
    Histogram HTTP_REQUEST_SECONDS = "rollcall_http_request_seconds", Seconds, &[("route", OPEN)];
    /// Connections refused when they were accepted: `full` over MAX_CONNECTIONS, `address` over
    /// MAX_SILENT_CONNECTIONS_PER_ADDRESS.
    Counter REJECTED_CONNECTIONS = "rollcall_rejected_connections_total", Count, &[("reason", &["full", "address"])];

    /// Open sockets, by shard of the hub.
    Gauge HUB_CONNECTIONS = "rollcall_hub_connections", Count, &[("shard", OPEN)];
    /// Frames that fan-out put into outboxes, by shard of the hub.
    Counter HUB_DELIVERIES = "rollcall_hub_deliveries_total", Count, &[("shard", OPEN)];
    /// Queued state frames that a newer state of the same key replaced, by shard of the hub.
    Counter HUB_COALESCED = "rollcall_hub_coalesced_total", Count, &[("shard", OPEN)];
    /// Frames for sockets that were closed already, by shard of the hub.
    Counter HUB_UNDELIVERABLE = "rollcall_hub_undeliverable_total", Count, &[("shard", OPEN)];
    /// Sockets closed with 1013 because their client reads too slowly, by shard of the hub.
    Counter HUB_SLOW_CONSUMERS_CLOSED = "rollcall_hub_slow_consumers_closed_total", Count, &[("shard", OPEN)];
    /// Messages of clients that the rate limit of their socket rejected, by shard of the hub.
    Counter HUB_RATE_LIMITED_MESSAGES = "rollcall_hub_rate_limited_messages_total", Count, &[("shard", OPEN)];
    /// Bytes written to sockets, by shard of the hub.
    Counter HUB_SENT_BYTES = "rollcall_hub_sent_bytes_total", Bytes, &[("shard", OPEN)];
    /// Topics with at least one member on this node, by shard of the hub.
    Gauge HUB_TOPICS = "rollcall_hub_topics", Count, &[("shard", OPEN)];
    /// Memberships of sockets in topics, by shard of the hub.
    Gauge HUB_TOPIC_MEMBERS = "rollcall_hub_topic_members", Count, &[("shard", OPEN)];

    /// Visibility edges (viewer to subject) held in memory.
    Gauge VISIBILITY_EDGES = "rollcall_visibility_edges", Count, &[];
    /// Viewers that wait to be asked about everybody, because such lookups have taken their share of the database.
    Gauge VISIBILITY_DEFERRED = "rollcall_visibility_deferred", Count, &[];
    /// Memory for what closed presence sockets and streams were told, so that they can be resumed.
    Gauge RESUME_BYTES = "rollcall_resume_bytes", Bytes, &[];
    /// Presence sockets and streams that presented a position, by whether they got differences or the full state.
    Counter RESUMES = "rollcall_resumes_total", Count, &[("result", &["resumed", "full"])];
    /// Full reads of all visible presence: after a lost LISTEN connection, a changed policy, or an expired snapshot.
    Counter VISIBILITY_RESYNCS = "rollcall_visibility_resyncs_total", Count, &[];
    /// Changes after which viewers were asked again: all of them (a policy, or a table that policies read and of which
    /// they do not say whom a row concerns), or some.
    Counter VISIBILITY_INVALIDATIONS = "rollcall_visibility_invalidations_total", Count, &[("viewers", &["all", "some"])];
    /// Time of a query that checks row-level security.
    Histogram RLS_QUERY = "rollcall_rls_query_seconds", Seconds, &[("kind", &["visibility", "postgres_changes"])];
    /// Rows per batch of the presence writer.
    Histogram WRITER_BATCH_SIZE = "rollcall_writer_batch_size", Count, &[];
    /// Time from queueing a write of presence to its commit.
    Histogram WRITER_LATENCY = "rollcall_writer_latency_seconds", Seconds, &[];
    /// Time from the commit of a change of presence to the receipt of its notification.
    Histogram NOTIFY_LAG = "rollcall_notify_lag_seconds", Seconds, &[];
    /// Devices whose rows differed from their connections to the node and were written again.
    Counter DEVICES_RECONCILED = "rollcall_devices_reconciled_total", Count, &[];
    /// Messages of rollcall.broadcast that were dropped because too many were pending.
    Counter OUTBOX_MESSAGES_DROPPED = "rollcall_outbox_messages_dropped_total", Count, &[];

    /// Notifications that were ignored: not signed by this installation, received twice, or malformed.
    Counter NOTIFICATIONS_REJECTED = "rollcall_notifications_rejected_total", Count, &[("cause", &["forged", "repeated", "invalid"])];
    /// 1 on the node that relays notifications from the write-ahead log, else 0.
    Gauge RELAY_ACTIVE = "rollcall_relay_active", Count, &[];
    /// Notifications that this node relayed from the write-ahead log.
    Counter RELAYED_NOTIFICATIONS = "rollcall_relayed_notifications_total", Count, &[];
    /// Failures of this node to start or keep the relay of notifications.
    Counter RELAY_FAILURES = "rollcall_relay_failures_total", Count, &[];
    /// Database connections closed instead of reused: `interrupted` after a statement was given up, or `unusable`.
    Counter DATABASE_CONNECTIONS_DISCARDED = "rollcall_database_connections_discarded_total", Count, &[("cause", &["interrupted", "unusable"])];

    /// Frames of channel sockets that could not be decoded.
    Counter CHANNELS_MALFORMED_FRAMES = "rollcall_channels_malformed_frames_total", Count, &[];
    /// Time of a check of the policies of private channels, per batch.
    Histogram CHANNEL_AUTHORIZATION_CHECK_SECONDS = "rollcall_channel_authorization_check_seconds", Seconds, &[];
    /// Principals checked for private channels, at a join or after a change of rights.
    Counter CHANNEL_AUTHORIZATION_CHECKS = "rollcall_channel_authorization_checks_total", Count, &[("why", &["join", "recheck"])];
    /// Subscriptions to the authorization of a channel (principal and channel).
    Gauge CHANNEL_AUTHORIZATION_SUBSCRIPTIONS = "rollcall_channel_authorization_subscriptions", Count, &[];
    /// Broadcasts from the database that waited for a check of rights until the timeout.
    Counter CHANNEL_AUTHORIZATION_WAIT_TIMEOUTS = "rollcall_channel_authorization_wait_timeouts_total", Count, &[];
    /// Broadcasts from the database that were delivered.
    Counter DATABASE_BROADCASTS = "rollcall_database_broadcasts_total", Count, &[];
    /// Rows of realtime.messages that are no broadcast or could not be delivered.
    Counter DATABASE_BROADCASTS_SKIPPED = "rollcall_database_broadcasts_skipped_total", Count, &[("reason", &["incomplete", "too_large", "gone", "too_many", "unreadable"])];
    /// Broadcasts in the histories of channels on this node.
    Gauge CHANNEL_HISTORY_MESSAGES = "rollcall_channel_history_messages", Count, &[];
    /// Memory of the histories of channels on this node.
    Gauge CHANNEL_HISTORY_BYTES = "rollcall_channel_history_bytes", Bytes, &[];
    /// Broadcasts that CHANNEL_HISTORY_MEMORY_MB removed from histories before their time.
    Counter CHANNEL_HISTORY_DROPPED = "rollcall_channel_history_dropped_total", Count, &[];
    /// Broadcasts that could not be stored as rows of a history.
    Counter CHANNEL_HISTORY_NOT_STORED = "rollcall_channel_history_not_stored_total", Count, &[];
    /// Joins that asked for the broadcasts after one that they received; `incomplete` if some may be missing.
    Counter CHANNEL_HISTORY_REPLAYS = "rollcall_channel_history_replays_total", Count, &[("result", &["complete", "incomplete"])];
    /// Channels per batch written to rollcall.presence.
    Histogram CHANNEL_PRESENCE_BATCH_SIZE = "rollcall_channel_presence_batch_size", Count, &[];
    /// Time of a write to rollcall.presence.
    Histogram CHANNEL_PRESENCE_WRITE = "rollcall_channel_presence_write_seconds", Seconds, &[];
    /// Rewrites of all channel presence rows of this node.
    Counter CHANNEL_PRESENCE_REWRITES = "rollcall_channel_presence_rewrites_total", Count, &[("cause", &["start", "overflow", "interrupted", "failed", "lost"])];
    /// Channels whose presence the database rejected.
    Counter CHANNEL_PRESENCE_REFUSED = "rollcall_channel_presence_refused_total", Count, &[];
    /// Full reads of the channel presence of another node.
    Counter CHANNEL_PRESENCE_RESYNCS = "rollcall_channel_presence_resyncs_total", Count, &[];
    /// Channel messages sent to other nodes.
    Counter BUS_MESSAGES_SENT = "rollcall_bus_messages_sent_total", Count, &[];
    /// Channel messages received from other nodes.
    Counter BUS_MESSAGES_RECEIVED = "rollcall_bus_messages_received_total", Count, &[];
    /// Channel messages that did not reach other nodes; batches where the number of messages is unknown. `too_large`
    /// exceeded max_payload of NATS, `forged` was not sent by a node of this installation.
    Counter BUS_DROPPED = "rollcall_bus_dropped_total", Count, &[("cause", &["full", "stale", "unread", "failed", "missed", "too_large", "forged"])];
    /// Topics with members on this node to which it is subscribed on NATS.
    Gauge BUS_SUBSCRIPTIONS = "rollcall_bus_subscriptions", Count, &[];
    /// Connections to NATS that were lost.
    Counter BUS_INTERRUPTIONS = "rollcall_bus_interruptions_total", Count, &[];
    /// Channel messages per batch that a node sends to the others.
    Histogram BUS_BATCH_SIZE = "rollcall_bus_batch_size", Count, &[];

    /// Events of presence and channels that this node published to webhooks and readers of events_after.
    Counter EVENTS_PUBLISHED = "rollcall_events_published_total", Count, &[];
    /// Requests of this node to webhooks; `gone` disabled the webhook.
    Counter WEBHOOK_REQUESTS = "rollcall_webhook_requests_total", Count, &[("outcome", &["delivered", "failed", "gone"])];
    /// Time of a request to a webhook.
    Histogram WEBHOOK_REQUEST = "rollcall_webhook_request_seconds", Seconds, &[];
    /// Time for which the oldest event waits for a webhook, on all nodes.
    Gauge WEBHOOK_LAG = "rollcall_webhook_lag_seconds", Seconds, &[];
    /// Events that webhooks did not accept in all attempts, on all nodes.
    Gauge WEBHOOK_DEAD_LETTERS = "rollcall_webhook_dead_letters", Count, &[];

    /// Channels subscribed to postgres_changes.
    Gauge POSTGRES_CHANGES_SUBSCRIPTIONS = "rollcall_postgres_changes_subscriptions", Count, &[];
    /// Row changes per delivery pass.
    Histogram POSTGRES_CHANGES_BATCH_SIZE = "rollcall_postgres_changes_batch_size", Count, &[];
    /// Write-ahead log that PostgreSQL keeps for changes that this node has not processed.
    Gauge REPLICATION_LAG = "rollcall_replication_lag_bytes", Bytes, &[];
    /// Largest amount of write-ahead log that a persistent slot of this installation keeps.
    Gauge REPLICATION_RETAINED = "rollcall_replication_retained_bytes", Bytes, &[];
    /// Slots of dead nodes that were dropped because they exceeded REALTIME_MAX_WAL_MB.
    Counter REPLICATION_SLOTS_DROPPED = "rollcall_replication_slots_dropped_total", Count, &[];
    /// Replication streams that failed or did not start.
    Counter REPLICATION_INTERRUPTIONS = "rollcall_replication_interruptions_total", Count, &[];

    /// Processed entries of the queues of the context engine.
    Counter CONTEXT_ACTIONS = "rollcall_context_actions_total", Count, &[("what", &["warm_up", "compile"]), ("outcome", OUTCOMES)];
    /// Triggers on sources of the context engine that do not fire. While there are any, no bundle is served.
    Gauge CONTEXT_SILENT_TRIGGERS = "rollcall_context_silent_triggers", Count, &[];
    /// Deferred writes and bundle_ready messages dropped because a queue was full.
    Counter CONTEXT_DROPPED = "rollcall_context_dropped_total", Count, &[("what", &["ready_messages", "bundles"])];
    /// Calls to model providers.
    Counter CONTEXT_LLM_CALLS = "rollcall_context_llm_calls_total", Count, &[("purpose", OPEN), ("provider", OPEN), ("outcome", OUTCOMES)];
    /// Tokens as model providers report them.
    Counter CONTEXT_LLM_TOKENS = "rollcall_context_llm_tokens_total", Count, &[("purpose", OPEN), ("provider", OPEN), ("kind", &["prompt", "completion"])];
    /// Texts for which an embedding was requested.
    Counter CONTEXT_EMBEDDINGS = "rollcall_context_embeddings_total", Count, &[("outcome", OUTCOMES)];
    /// Messages of users from which memory was learned.
    Counter CONTEXT_MESSAGES_LEARNED = "rollcall_context_messages_learned_total", Count, &[("outcome", &["done", "postponed", "given_up"])];
}

impl Metric {
    /// Every combination of label values; empty if the values of a label depend on use.
    pub(super) fn series(&self) -> Vec<Vec<(&'static str, &'static str)>> {
        self.labels.iter().fold(vec![Vec::new()], |series, (label, values)| {
            let extended = |labels: &Vec<_>| {
                values.iter().map(|value| [&labels[..], &[(*label, *value)]].concat()).collect::<Vec<_>>()
            };
            series.iter().flat_map(extended).collect()
        })
    }
}
