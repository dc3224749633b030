//! Which devices have sockets on this node, the grace of those that have just closed, and the node's lease.
//!
//! The first socket of a device is written, the second is not; the last one to close starts the grace, and only
//! after it is written. So a page reload makes no noise and costs no write. A connected device costs the database
//! nothing: the node's lease stands for all of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    visibility::PendingChanges,
    writer::{WriteError, Writer},
};
use crate::{
    model::{DeviceId, NodeId, UserId},
    pg::{
        Database, PgError,
        queries::{node, presence::Change},
    },
};

/// How often graces are looked at; the precision of [`Times::grace`].
const GRACE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A device without a socket is offline when it has not been heard of for this long. With the sweep's rhythm it
/// stays below the 30 s that the contract promises.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(25);
/// When a REST-only device should send its next heartbeat: two may get lost.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How long one of the lease's statements may take.
const LEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// Devices that say at once that they are still connected.
const ASSERT_BATCH_SIZE: usize = 1_024;

/// The times that liveness goes by.
#[derive(Debug, Clone, Copy)]
pub struct DeviceTimeouts {
    /// From the close of a device's last socket until it is offline.
    pub grace: Duration,
    /// From a device's last activity until it is idle.
    pub idle_after: Duration,
    /// From a node's death until its devices may be swept. Renewed three times in it.
    pub lease: Duration,
}

type DeviceKey = (UserId, DeviceId);

struct DeviceState {
    sockets: u32,
    /// Whether the database knows that the device is connected here.
    is_recorded: bool,
    closed_at: Option<Instant>,
    /// When the database last heard that somebody looks at the device.
    active_at: Instant,
    /// Offline by the user's word, although its sockets may not all have closed yet.
    is_signed_off: bool,
}

#[derive(Default)]
struct State {
    devices: HashMap<DeviceKey, DeviceState>,
    /// Devices in their grace, oldest first.
    in_grace: VecDeque<(Instant, DeviceKey)>,
}

/// A handle to the devices of this node.
#[derive(Clone)]
pub struct DeviceTracker {
    state: Arc<Mutex<State>>,
    writer: Writer,
    node: NodeId,
    timeouts: DeviceTimeouts,
}

impl DeviceTracker {
    /// No devices yet.
    #[must_use]
    pub fn new(writer: Writer, node: NodeId, times: DeviceTimeouts) -> Self {
        Self { state: Arc::default(), writer, node, timeouts: times }
    }

    /// A socket opened. Writes when it is the device's first on this node and not a reload within the grace.
    ///
    /// # Errors
    ///
    /// When the write fails; the socket counts all the same, and it is written with the next lease.
    pub async fn socket_opened(&self, user: UserId, device: &DeviceId) -> Result<(), WriteError> {
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            let live = state.devices.entry((user, device.clone()));
            let mut known = true;
            let live = live.or_insert_with(|| {
                known = false;
                DeviceState {
                    sockets: 0,
                    is_recorded: false,
                    closed_at: None,
                    active_at: now,
                    is_signed_off: false,
                }
            });
            known &= !std::mem::take(&mut live.is_signed_off);
            live.sockets += 1;
            live.closed_at = None;
            if known {
                return Ok(());
            }
        }
        self.connect(user, device, true).await
    }

    /// A socket closed. The last one of a device starts the grace.
    pub fn socket_closed(&self, user: UserId, device: &DeviceId) {
        let mut state = self.state.lock();
        let key = (user, device.clone());
        let Some(live) = state.devices.get_mut(&key) else { return };
        live.sockets = live.sockets.saturating_sub(1);
        if live.sockets == 0 {
            let now = Instant::now();
            live.closed_at = Some(now);
            state.in_grace.push_back((now, key));
        }
    }

    /// A device's socket has said nothing for so long that it must be taken for dead.
    ///
    /// # Errors
    ///
    /// When the write fails.
    pub async fn mark_unresponsive(
        &self,
        user: UserId,
        device: &DeviceId,
        age: Duration,
    ) -> Result<(), WriteError> {
        let alone =
            self.state.lock().devices.get(&(user, device.clone())).is_none_or(|live| live.sockets <= 1);
        // Another tab of the device may well be awake.
        if alone {
            let change =
                Change::Unresponsive { device: device.clone(), node: self.node, age: age.as_secs_f64() };
            self.writer.apply(user, change).await?;
        }
        Ok(())
    }

    /// A device that was taken for dead said something.
    ///
    /// # Errors
    ///
    /// When the write fails.
    pub async fn mark_responsive(&self, user: UserId, device: &DeviceId) -> Result<(), WriteError> {
        if self.state.lock().devices.get(&(user, device.clone())).is_some_and(|live| live.is_signed_off) {
            return Ok(());
        }
        self.connect(user, device, false).await
    }

    /// Somebody looks at the device. Written only so often that the device does not become idle.
    ///
    /// # Errors
    ///
    /// When the write fails.
    pub async fn mark_active(&self, user: UserId, device: &DeviceId) -> Result<(), WriteError> {
        {
            let mut state = self.state.lock();
            let Some(live) = state.devices.get_mut(&(user, device.clone())) else { return Ok(()) };
            if live.is_signed_off || live.active_at.elapsed() < self.timeouts.idle_after / 2 {
                return Ok(());
            }
            live.active_at = Instant::now();
        }
        self.writer.apply(user, Change::Heartbeat { device: Some(device.clone()), active: true }).await?;
        Ok(())
    }

    /// A device, or all of the user's, was signed off: it is offline already, and stays so until a socket opens anew.
    pub fn mark_signed_off(&self, user: UserId, device: Option<&DeviceId>) {
        self.set_signed_off(user, device, true);
    }

    /// A device, or all of the user's, said that it is here after all.
    pub fn mark_signed_on(&self, user: UserId, device: Option<&DeviceId>) {
        self.set_signed_off(user, device, false);
    }

    fn set_signed_off(&self, user: UserId, device: Option<&DeviceId>, signed_off: bool) {
        let mut state = self.state.lock();
        match device {
            Some(device) => {
                if let Some(live) = state.devices.get_mut(&(user, device.clone())) {
                    live.is_signed_off = signed_off;
                }
            }
            // Naming no device is rare: a walk over the map costs less than an index by user.
            None => {
                let theirs = state.devices.iter_mut().filter(|((owner, _), _)| *owner == user);
                theirs.for_each(|(_, live)| live.is_signed_off = signed_off);
            }
        }
    }

    async fn connect(&self, user: UserId, device: &DeviceId, opened: bool) -> Result<(), WriteError> {
        let written = self
            .writer
            .apply(user, Change::Connect { device: device.clone(), node: self.node, opened })
            .await;
        if let Some(live) = self.state.lock().devices.get_mut(&(user, device.clone())) {
            live.is_recorded = written.is_ok();
        }
        written.map(drop)
    }

    /// Ends graces as they run out; the task of this node's devices.
    pub async fn run_grace_expiry(self, stop: CancellationToken) {
        let mut tick = interval(GRACE_CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let over = self.expired_graces(Instant::now());
            join_all(over.into_iter().map(|(closed_at, key)| self.end_grace(closed_at, key))).await;
        }
    }

    fn expired_graces(&self, now: Instant) -> Vec<(Instant, DeviceKey)> {
        let mut state = self.state.lock();
        let mut over = Vec::new();
        while let Some((closed_at, _)) = state.in_grace.front() {
            if now.duration_since(*closed_at) < self.timeouts.grace {
                break;
            }
            let (closed_at, key) = state.in_grace.pop_front().expect("there was a front");
            // Opened again meanwhile, or closed again later: then this grace is not the one that counts.
            if state
                .devices
                .get(&key)
                .is_some_and(|live| live.sockets == 0 && live.closed_at == Some(closed_at))
            {
                state.devices.remove(&key);
                over.push((closed_at, key));
            }
        }
        over
    }

    async fn end_grace(&self, closed_at: Instant, key: DeviceKey) {
        let (user, device) = &key;
        let age = closed_at.elapsed().as_secs_f64();
        let change = Change::Disconnect { device: device.clone(), node: self.node, age };
        if self.writer.apply(*user, change).await.is_err() {
            let mut state = self.state.lock();
            // Tried again with the next tick, unless the device is back.
            if !state.devices.contains_key(&key) {
                let live = DeviceState {
                    sockets: 0,
                    is_recorded: true,
                    closed_at: Some(closed_at),
                    active_at: closed_at,
                    is_signed_off: false,
                };
                state.devices.insert(key.clone(), live);
                state.in_grace.push_front((closed_at, key));
            }
            return;
        }
        // A socket that opened while the write was under way wrote its connection before or after it: say it again.
        let back = self.state.lock().devices.get(&key).is_some_and(|live| live.sockets > 0);
        if back && let Err(error) = self.connect(*user, device, true).await {
            tracing::debug!(%error, "a device that came back will be written with the next lease");
        }
    }

    /// Says which devices are connected here: all of them, or those of which the database does not know yet.
    async fn assert_connected(&self, all: bool) {
        let connected: Vec<DeviceKey> = {
            let state = self.state.lock();
            let unknown = state
                .devices
                .iter()
                .filter(|(_, live)| live.sockets > 0 && !live.is_signed_off && (all || !live.is_recorded));
            unknown.map(|(key, _)| key.clone()).collect()
        };
        for chunk in connected.chunks(ASSERT_BATCH_SIZE) {
            join_all(chunk.iter().map(|(user, device)| self.connect(*user, device, false))).await;
        }
    }
}

/// The node's lease and its share of the sweep. All clones are the same lease.
#[derive(Clone)]
pub struct NodeLease {
    database: Database,
    devices: DeviceTracker,
    pending: Arc<PendingChanges>,
}

impl NodeLease {
    /// Makes a lease; [`run`](Self::run) keeps it.
    #[must_use]
    pub const fn new(database: Database, liveness: DeviceTracker, inbox: Arc<PendingChanges>) -> Self {
        Self { database, devices: liveness, pending: inbox }
    }

    /// Takes the lease for the first time.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn acquire(&self) -> Result<(), PgError> {
        self.renew().await.map(drop)
    }

    /// Renews the lease three times in its length, sweeps, and keeps the pump's snapshot young.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing_since = None;
        // Others may be as alive as this node and only as cut off as it was: they get a lease's length to say so.
        let mut sweeps_from = Instant::now() + self.devices.timeouts.lease;
        loop {
            let pause = (self.devices.timeouts.lease / 3).mul_f64(rand::rng().random_range(0.8..1.0));
            select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            match self.renew().await {
                Ok(held) => {
                    if failing_since.take().is_some() {
                        sweeps_from = Instant::now() + self.devices.timeouts.lease;
                    }
                    if !held {
                        tracing::info!("the lease had lapsed; saying again who is connected here");
                    }
                    self.devices.assert_connected(!held).await;
                    if Instant::now() >= sweeps_from {
                        self.sweep().await;
                    }
                    self.pending.request_snapshot();
                }
                Err(error) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    tracing::warn!(error = ?error, for_ms = since.elapsed().as_millis(), "could not renew the lease");
                }
            }
        }
    }

    async fn renew(&self) -> Result<bool, PgError> {
        let DeviceTracker { node, timeouts: times, .. } = &self.devices;
        with_timeout(async {
            node::renew_lease(&self.database.server_connection().await?, *node, times.lease).await
        })
        .await
    }

    /// Gives the lease up, and with it every device that is connected nowhere else. To be called when nothing is
    /// written any more: a connection that is written later would keep its device online with nobody behind it.
    pub async fn release(&self) {
        let DeviceTracker { node, timeouts: times, .. } = &self.devices;
        let release = async {
            node::release_lease(&self.database.server_connection().await?, *node, times.grace).await
        };
        let released = with_timeout(release).await;
        if let Err(error) = released {
            tracing::warn!(error = ?error, "could not release the lease; it will lapse");
        }
    }

    async fn sweep(&self) {
        let idle_after = self.devices.timeouts.idle_after;
        let swept = with_timeout(async {
            node::sweep(&self.database.server_connection().await?, idle_after, HEARTBEAT_TIMEOUT).await
        })
        .await;
        match swept {
            Ok(swept) if swept != node::SweepResult::default() => tracing::debug!(?swept, "swept"),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = ?error, "could not sweep"),
        }
    }
}

async fn with_timeout<T>(work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(LEASE_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
}
