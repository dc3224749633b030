//! Devices with sockets on this node, and their grace period after the last socket closed.
//!
//! A device's first socket is written to the database, further ones are not. When the last one closes, a grace period
//! starts, and only its end is written. So a page reload causes no events and no writes. A connected device costs the
//! database nothing: the node's lease covers all of them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::writer::{WriteError, Writer};
use crate::{
    lifecycle::ErrorChain,
    model::{DeviceId, NodeId, UserId},
    pg::queries::presence::Change,
    protocol::Background,
    settings::duration_within,
};

/// Interval of checks for expired grace periods; the precision of [`DeviceTimeouts::grace`].
const GRACE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A device without a socket is offline this long after its last heartbeat. Together with the interval of the sweep,
/// this stays below the documented 30 s.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(25);
/// Interval at which REST-only devices should send heartbeats; two may be lost.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Devices per batch when connections are written again.
pub(super) const ASSERT_BATCH_SIZE: usize = 1_024;

/// Maximum of a grace period and of a lease: a dead device must be offline within 30 s.
const MAX_GRACE: Duration = Duration::from_secs(30);
/// Minimum of a lease: with a shorter one, a slow database makes live nodes look dead.
const MIN_LEASE: Duration = Duration::from_secs(1);
/// Maximum time without activity before a device is away.
const MAX_IDLE: Duration = Duration::from_secs(24 * 3_600);
/// Maximum time of a device in the background, as in the database.
const MAX_BACKGROUND: Duration = Duration::from_secs(Background::MAX_SECONDS as u64);

/// Timeouts of devices and the lease.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub struct DeviceTimeouts {
    /// Time between the close of a device's last socket and offline; 0 means immediately
    #[arg(
        id = "disconnect-grace",
        long = "disconnect-grace",
        env = "DISCONNECT_GRACE",
        default_value = "5s",
        value_parser = duration_within(Duration::ZERO..=MAX_GRACE)
    )]
    pub grace: Duration,
    /// Time for which a device that reported `background` stays away after its socket closed or its last heartbeat,
    /// unless the client announces another time; then it is offline
    #[arg(
        id = "background-grace",
        long = "background-grace",
        env = "BACKGROUND_GRACE",
        default_value = "5m",
        value_parser = duration_within(Duration::from_secs(1)..=MAX_BACKGROUND)
    )]
    pub background: Duration,
    /// Time without activity after which a device is away
    #[arg(
        long,
        env = "IDLE_AFTER",
        default_value = "5m",
        value_parser = duration_within(Duration::from_millis(1)..=MAX_IDLE)
    )]
    pub idle_after: Duration,
    /// Validity of a node's lease, which the node renews three times within it; a node that does not renew it counts as
    /// dead
    #[arg(
        id = "node-lease",
        long = "node-lease",
        env = "NODE_LEASE",
        default_value = "10s",
        value_parser = duration_within(MIN_LEASE..=MAX_GRACE)
    )]
    pub lease: Duration,
}

pub(super) type DeviceKey = (UserId, DeviceId);

/// How a device was signed off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOff {
    /// By the status `offline`. The device's sockets stay open, and their next status brings it back.
    Status,
    /// By a sign-off, which closes the device's sockets. A new socket or a status over REST brings it back.
    Request,
}

struct DeviceState {
    sockets: u32,
    /// Whether the database has the device as connected to this node.
    is_recorded: bool,
    closed_at: Option<Instant>,
    /// When activity of the device was last written.
    active_at: Instant,
    /// The user has too many devices. Written again when the lease is renewed, one device of a user each time.
    is_refused: bool,
    /// The user signed the device off, although its sockets may not all be closed yet.
    signed_off: Option<SignOff>,
    /// The device reported that it went to the background. The next socket is written, which ends that.
    is_in_background: bool,
}

impl DeviceState {
    /// Whether the database should have the device as connected to this node.
    fn is_connected(&self) -> bool {
        self.sockets > 0 && self.signed_off.is_none() && !self.is_refused
    }
}

#[derive(Default)]
struct State {
    devices: HashMap<DeviceKey, DeviceState>,
    /// Devices in their grace period, oldest first.
    in_grace: VecDeque<(Instant, DeviceKey)>,
    /// Devices that a sign-off closed, until the next check.
    without_grace: Vec<(Instant, DeviceKey)>,
}

impl State {
    /// Ends the grace periods of a user's devices that were signed off after their last socket closed.
    fn skip_grace(&mut self, user: UserId) {
        let signed_off = self.devices.iter().filter(|((owner, _), device_state)| {
            *owner == user && device_state.sockets == 0 && device_state.signed_off == Some(SignOff::Request)
        });
        self.without_grace.extend(
            signed_off.filter_map(|(key, device_state)| Some((device_state.closed_at?, key.clone()))),
        );
    }
}

/// Tracks the devices of this node. Clones share the state.
#[derive(Clone)]
pub struct DeviceTracker {
    state: Arc<Mutex<State>>,
    writer: Writer,
    node: NodeId,
    timeouts: DeviceTimeouts,
}

impl DeviceTracker {
    /// Creates a tracker without devices.
    #[must_use]
    pub fn new(writer: Writer, node: NodeId, timeouts: DeviceTimeouts) -> Self {
        Self { state: Arc::default(), writer, node, timeouts }
    }

    /// The ID of this node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Records an opened socket. Writes if it is the device's first on this node and not a reload within the grace
    /// period.
    ///
    /// # Errors
    ///
    /// If the write fails. The socket counts anyway, and the next lease renewal writes it.
    pub async fn socket_opened(&self, user: UserId, device: &DeviceId) -> Result<(), WriteError> {
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            let entry = state.devices.entry((user, device.clone()));
            let mut is_known = true;
            let device_state = entry.or_insert_with(|| {
                is_known = false;
                DeviceState {
                    sockets: 0,
                    is_recorded: false,
                    closed_at: None,
                    active_at: now,
                    is_refused: false,
                    signed_off: None,
                    is_in_background: false,
                }
            });
            is_known &= device_state.signed_off.take().is_none();
            is_known &= !std::mem::take(&mut device_state.is_in_background);
            device_state.sockets += 1;
            device_state.closed_at = None;
            if is_known {
                return Ok(());
            }
        }
        self.connect(user, device, true).await
    }

    /// Records a closed socket. A device's last one starts its grace period. After a sign-off there is none: a write that
    /// was under way at the sign-off, such as that of a socket that had just opened, may have brought the device back.
    pub fn socket_closed(&self, user: UserId, device: &DeviceId) {
        let mut state = self.state.lock();
        let key = (user, device.clone());
        let Some(device_state) = state.devices.get_mut(&key) else { return };
        device_state.sockets = device_state.sockets.saturating_sub(1);
        if device_state.sockets == 0 {
            let now = Instant::now();
            device_state.closed_at = Some(now);
            if device_state.signed_off == Some(SignOff::Request) {
                state.without_grace.push((now, key));
            } else {
                state.in_grace.push_back((now, key));
            }
        }
    }

    /// Marks a device as unresponsive after its socket missed a pong.
    ///
    /// # Errors
    ///
    /// If the write fails.
    pub async fn mark_unresponsive(
        &self,
        user: UserId,
        device: &DeviceId,
        age: Duration,
    ) -> Result<(), WriteError> {
        let is_only_socket = self
            .state
            .lock()
            .devices
            .get(&(user, device.clone()))
            .is_none_or(|device_state| device_state.sockets <= 1);
        // Another socket of the device may be responsive.
        if is_only_socket {
            let change =
                Change::Unresponsive { device: device.clone(), node: self.node, age: age.as_secs_f64() };
            self.writer.apply(user, change).await?;
        }
        Ok(())
    }

    /// Marks a device as responsive after it sent data again.
    ///
    /// # Errors
    ///
    /// If the write fails.
    pub async fn mark_responsive(&self, user: UserId, device: &DeviceId) -> Result<(), WriteError> {
        if self
            .state
            .lock()
            .devices
            .get(&(user, device.clone()))
            .is_some_and(|device_state| device_state.signed_off.is_some())
        {
            return Ok(());
        }
        self.connect(user, device, false).await
    }

    /// Records that the device is in use. Written only as often as needed to keep the device from becoming idle.
    ///
    /// # Errors
    ///
    /// If the write fails.
    pub async fn mark_active(&self, user: UserId, device: &DeviceId) -> Result<(), WriteError> {
        {
            let mut state = self.state.lock();
            let Some(device_state) = state.devices.get_mut(&(user, device.clone())) else { return Ok(()) };
            let is_recent = device_state.active_at.elapsed() < self.timeouts.idle_after / 2;
            if device_state.signed_off.is_some() || is_recent && !device_state.is_in_background {
                return Ok(());
            }
            device_state.is_in_background = false;
            device_state.active_at = Instant::now();
        }
        self.writer.apply(user, Change::Heartbeat { device: Some(device.clone()), active: true }).await?;
        Ok(())
    }

    /// Marks a device, or all devices of the user, as signed off.
    pub fn mark_signed_off(&self, user: UserId, device: Option<&DeviceId>, how: SignOff) {
        self.update(user, device, |device_state| device_state.signed_off = Some(how));
        if how == SignOff::Request {
            self.state.lock().skip_grace(user);
        }
    }

    /// Clears the sign-off of a device, or of all devices of the user.
    pub fn mark_signed_on(&self, user: UserId, device: Option<&DeviceId>) {
        self.update(user, device, |device_state| device_state.signed_off = None);
    }

    /// How the device was signed off on this node, if it was.
    #[must_use]
    pub fn sign_off_of(&self, user: UserId, device: &DeviceId) -> Option<SignOff> {
        self.state.lock().devices.get(&(user, device.clone()))?.signed_off
    }

    /// Records whether a device, or all devices of the user, reported to be in the background.
    pub fn mark_background(&self, user: UserId, device: Option<&DeviceId>, in_background: bool) {
        self.update(user, device, |device_state| device_state.is_in_background = in_background);
    }

    /// Seconds for which a device in the background stays away.
    #[must_use]
    pub fn background_seconds(&self, background: Background) -> i32 {
        let seconds = match background {
            Background::Default => self.timeouts.background.as_secs(),
            Background::Seconds(seconds) => seconds.into(),
        };
        i32::try_from(seconds).unwrap_or(i32::MAX)
    }

    fn update(&self, user: UserId, device: Option<&DeviceId>, change: impl Fn(&mut DeviceState)) {
        let mut state = self.state.lock();
        match device {
            Some(device) => {
                if let Some(device_state) = state.devices.get_mut(&(user, device.clone())) {
                    change(device_state);
                }
            }
            // Rare: scanning the map costs less than an index by user.
            None => {
                let devices_of_user = state.devices.iter_mut().filter(|((owner, _), _)| *owner == user);
                devices_of_user.for_each(|(_, device_state)| change(device_state));
            }
        }
    }

    pub(super) async fn connect(
        &self,
        user: UserId,
        device: &DeviceId,
        opened: bool,
    ) -> Result<(), WriteError> {
        let written = self
            .writer
            .apply(user, Change::Connect { device: device.clone(), node: self.node, opened })
            .await;
        if let Some(device_state) = self.state.lock().devices.get_mut(&(user, device.clone())) {
            device_state.is_recorded = written.is_ok();
            device_state.is_refused = matches!(written, Err(WriteError::TooManyDevices));
        }
        written.map(drop)
    }

    /// Ends expired grace periods until `stop` is cancelled.
    pub async fn run_grace_expiry(self, stop: CancellationToken) {
        let mut tick = interval(GRACE_CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let expired = self.expired_graces(Instant::now());
            join_all(expired.into_iter().map(|(closed_at, key)| self.end_grace(closed_at, key))).await;
        }
    }

    fn expired_graces(&self, now: Instant) -> Vec<(Instant, DeviceKey)> {
        let mut state = self.state.lock();
        let mut ended = std::mem::take(&mut state.without_grace);
        while let Some((closed_at, _)) = state.in_grace.front() {
            if now.duration_since(*closed_at) < self.timeouts.grace {
                break;
            }
            ended.extend(state.in_grace.pop_front());
        }
        let mut expired = Vec::new();
        for (closed_at, key) in ended {
            // If the device opened or closed a socket since, another grace period applies.
            if state.devices.get(&key).is_some_and(|device_state| {
                device_state.sockets == 0 && device_state.closed_at == Some(closed_at)
            }) {
                state.devices.remove(&key);
                expired.push((closed_at, key));
            }
        }
        expired
    }

    async fn end_grace(&self, closed_at: Instant, key: DeviceKey) {
        let (user, device) = &key;
        let age = closed_at.elapsed().as_secs_f64();
        if self.disconnect(*user, device, age).await.is_err() {
            let mut state = self.state.lock();
            // Retried at the next check, unless the device is back.
            if !state.devices.contains_key(&key) {
                let device_state = DeviceState {
                    sockets: 0,
                    is_recorded: true,
                    closed_at: Some(closed_at),
                    active_at: closed_at,
                    is_refused: false,
                    signed_off: None,
                    is_in_background: false,
                };
                state.devices.insert(key.clone(), device_state);
                state.in_grace.push_front((closed_at, key));
            }
        }
    }

    /// Writes that the last socket of a device closed `age` seconds ago.
    pub(super) async fn disconnect(
        &self,
        user: UserId,
        device: &DeviceId,
        age: f64,
    ) -> Result<(), WriteError> {
        let change = Change::Disconnect { device: device.clone(), node: self.node, age };
        self.writer.apply(user, change).await?;
        // A socket that opened meanwhile may have been written before the disconnect, so it is written again.
        let key = (user, device.clone());
        let is_back =
            self.state.lock().devices.get(&key).is_some_and(|device_state| device_state.sockets > 0);
        if is_back && let Err(error) = self.connect(user, device, true).await {
            tracing::debug!(error = %ErrorChain(&error), "connect failed; the next lease renewal retries it");
        }
        Ok(())
    }

    pub(super) const fn timeouts(&self) -> &DeviceTimeouts {
        &self.timeouts
    }

    /// The devices that the database should have as connected to this node.
    pub(super) fn connected(&self) -> Vec<DeviceKey> {
        let state = self.state.lock();
        let connected = state.devices.iter().filter(|(_, device_state)| device_state.is_connected());
        connected.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn is_connected(&self, key: &DeviceKey) -> bool {
        self.state.lock().devices.get(key).is_some_and(DeviceState::is_connected)
    }

    /// Whether the device has a socket here, or had one until its grace period ends.
    pub(super) fn knows(&self, key: &DeviceKey) -> bool {
        self.state.lock().devices.contains_key(key)
    }

    /// Writes the connections of all devices, or of those not recorded in the database.
    pub(super) async fn assert_connected(&self, all: bool) {
        let connected: Vec<DeviceKey> = {
            let state = self.state.lock();
            let unrecorded = state.devices.iter().filter(|(_, device_state)| {
                device_state.is_connected() && (all || !device_state.is_recorded)
            });
            let mut users = HashSet::new();
            let refused = state.devices.iter().filter(|((user, _), device_state)| {
                device_state.sockets > 0 && device_state.is_refused && users.insert(*user)
            });
            unrecorded.chain(refused).map(|(key, _)| key.clone()).collect()
        };
        for chunk in connected.chunks(ASSERT_BATCH_SIZE) {
            join_all(chunk.iter().map(|(user, device)| self.connect(*user, device, false))).await;
        }
    }
}
