//! Admission of sockets: a maximum of open ones, and a token bucket per peer address for silent ones.
//!
//! A connection is silent until its first request with its body, or, for a channel socket, until its first message. It
//! takes a token of its address and returns it when it is no longer silent. An address without tokens gives up its
//! oldest silent connection for each new one. A client that sends its request at once is therefore served during an
//! attack, even from the attacker's address. When all sockets are in use, the one that is idle for the longest time is
//! closed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::settings::AcceptSettings;
use crate::hub::Permit;

/// Tokens of an address are back after this time.
const REFILL_TIME: Duration = Duration::from_secs(10);
/// An address never takes more than this fraction of all sockets with silent connections.
const MAX_SILENT_SHARE: usize = 4;
/// Number of addresses at which those with all their tokens are first removed.
const MIN_SWEEP_THRESHOLD: usize = 1024;

/// The sockets of all listeners of a node.
#[derive(Debug)]
pub struct Admission {
    permits: Arc<Semaphore>,
    /// Maximum tokens of an address; `None` without a limit.
    burst: Option<f64>,
    sockets: Mutex<Sockets>,
}

#[derive(Debug, Default)]
struct Sockets {
    next_id: u64,
    next_turn: u64,
    /// Sockets that are silent or idle, by ID.
    tracked: HashMap<u64, Tracked>,
    /// IDs of idle sockets by turn: the one that is idle for the longest time comes first.
    idle: BTreeMap<u64, u64>,
    addresses: HashMap<IpAddr, Address>,
    sweep_threshold: usize,
}

#[derive(Debug)]
struct Tracked {
    evict: oneshot::Sender<()>,
    /// Key in `idle`; `None` while a request is in progress.
    turn: Option<u64>,
    /// Address whose token the socket holds.
    silent: Option<IpAddr>,
}

#[derive(Debug)]
struct Address {
    tokens: f64,
    refilled_at: Instant,
    /// IDs of silent sockets; the oldest comes first.
    silent: BTreeSet<u64>,
}

impl Address {
    fn refill(&mut self, burst: f64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        self.tokens = (self.tokens + burst * elapsed.as_secs_f64() / REFILL_TIME.as_secs_f64()).min(burst);
        self.refilled_at = now;
    }

    fn is_unused(&self, burst: f64) -> bool {
        self.silent.is_empty() && self.tokens >= burst
    }
}

/// The address has no token and no silent connection to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressExhausted;

/// An admitted socket. It is forgotten when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Ticket(Arc<TicketState>);

#[derive(Debug)]
struct TicketState {
    admission: Arc<Admission>,
    id: u64,
    /// Requests in progress whose bodies are complete; HTTP/2 has several.
    requests: AtomicUsize,
    /// Requests whose bodies are not complete.
    incomplete: AtomicUsize,
    had_request: AtomicBool,
    /// Whether the client does not read what is written.
    is_stalled: AtomicBool,
}

impl Admission {
    /// An admission without sockets.
    #[must_use]
    pub fn new(settings: &AcceptSettings) -> Arc<Self> {
        let share = u32::try_from((settings.max_connections / MAX_SILENT_SHARE).max(1)).unwrap_or(u32::MAX);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS))),
            burst: settings.silent_per_address.map(|limit| f64::from(limit.get().min(share))),
            sockets: Mutex::new(Sockets { sweep_threshold: MIN_SWEEP_THRESHOLD, ..Sockets::default() }),
        })
    }

    /// A permit for one socket, if fewer than the maximum are open.
    pub(super) fn try_permit(&self) -> Option<Permit> {
        Arc::clone(&self.permits).try_acquire_owned().ok().map(Permit::new)
    }

    /// Closes the socket that is idle for the longest time and waits for a free permit. `None` if no
    /// socket except that of `ticket` is idle.
    pub(super) async fn make_room(&self, ticket: &Ticket) -> Option<Permit> {
        if !self.sockets.lock().evict_idle_except(ticket.0.id) {
            return None;
        }
        let permit: OwnedSemaphorePermit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(Permit::new(permit))
    }

    /// Starts to track a socket. The receiver gets a message when the socket has to close.
    pub(super) fn track(
        self: &Arc<Self>,
        peer: IpAddr,
        now: Instant,
    ) -> Result<(Ticket, oneshot::Receiver<()>), AddressExhausted> {
        let mut sockets = self.sockets.lock();
        let silent = match self.burst {
            Some(burst) => Some(sockets.take_token(network(peer), burst, now)?),
            None => None,
        };
        let id = sockets.next_id;
        sockets.next_id += 1;
        if let Some(address) = silent.and_then(|address| sockets.addresses.get_mut(&address)) {
            address.silent.insert(id);
        }
        let (evict, evicted) = oneshot::channel();
        sockets.tracked.insert(id, Tracked { evict, turn: None, silent });
        sockets.set_idle(id, true);
        drop(sockets);
        let state = TicketState {
            admission: Arc::clone(self),
            id,
            requests: AtomicUsize::new(0),
            incomplete: AtomicUsize::new(0),
            had_request: AtomicBool::new(false),
            is_stalled: AtomicBool::new(false),
        };
        Ok((Ticket(Arc::new(state)), evicted))
    }
}

impl Sockets {
    /// Takes a token of the address. Without one, the oldest silent socket of the address closes, and its token is
    /// used.
    fn take_token(&mut self, address: IpAddr, burst: f64, now: Instant) -> Result<IpAddr, AddressExhausted> {
        if self.addresses.len() >= self.sweep_threshold {
            self.addresses.retain(|_, bucket| {
                bucket.refill(burst, now);
                !bucket.is_unused(burst)
            });
            self.sweep_threshold = (self.addresses.len() * 2).max(MIN_SWEEP_THRESHOLD);
        }
        let bucket = self.addresses.entry(address).or_insert_with(|| Address {
            tokens: burst,
            refilled_at: now,
            silent: BTreeSet::new(),
        });
        bucket.refill(burst, now);
        // Without this bound, a long timeout of the first message would let refills add silent sockets.
        #[expect(clippy::cast_precision_loss, reason = "a number of sockets")]
        let is_full = bucket.silent.len() as f64 >= burst;
        if bucket.tokens >= 1.0 && !is_full {
            bucket.tokens -= 1.0;
            return Ok(address);
        }
        let oldest = *bucket.silent.first().ok_or(AddressExhausted)?;
        self.evict(oldest);
        Ok(address)
    }

    fn evict_idle_except(&mut self, id: u64) -> bool {
        self.set_idle(id, false);
        let is_evicted = self.evict_idle();
        self.set_idle(id, true);
        is_evicted
    }

    fn evict_idle(&mut self) -> bool {
        let Some((_, id)) = self.idle.pop_first() else { return false };
        self.evict(id);
        true
    }

    fn evict(&mut self, id: u64) {
        if let Some(tracked) = self.forget(id) {
            // An error means that the socket is closing already.
            let _ = tracked.evict.send(());
        }
    }

    /// Stops tracking. The token of a silent socket is spent.
    fn forget(&mut self, id: u64) -> Option<Tracked> {
        let tracked = self.tracked.remove(&id)?;
        if let Some(turn) = tracked.turn {
            self.idle.remove(&turn);
        }
        if let Some(bucket) = tracked.silent.and_then(|address| self.addresses.get_mut(&address)) {
            bucket.silent.remove(&id);
        }
        Some(tracked)
    }

    /// Returns the token of a socket that is no longer silent.
    fn return_token(&mut self, id: u64, burst: Option<f64>) {
        let Some(address) = self.tracked.get_mut(&id).and_then(|tracked| tracked.silent.take()) else {
            return;
        };
        if let (Some(bucket), Some(burst)) = (self.addresses.get_mut(&address), burst) {
            bucket.silent.remove(&id);
            bucket.tokens = (bucket.tokens + 1.0).min(burst);
            if bucket.is_unused(burst) {
                self.addresses.remove(&address);
            }
        }
    }

    fn set_idle(&mut self, id: u64, is_idle: bool) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        if let Some(turn) = tracked.turn.take() {
            self.idle.remove(&turn);
        }
        if is_idle {
            tracked.turn = Some(self.next_turn);
            self.idle.insert(self.next_turn, id);
            self.next_turn += 1;
        }
    }
}

impl Ticket {
    /// The head of a request was received. The request ends when the result is dropped. A request that `opens_socket`
    /// leaves the connection silent.
    pub(super) fn begin_request(&self, opens_socket: bool) -> RequestGuard {
        self.0.had_request.store(true, Ordering::Relaxed);
        self.0.incomplete.fetch_add(1, Ordering::Relaxed);
        RequestGuard { ticket: self.clone(), opens_socket, is_received: AtomicBool::new(false) }
    }

    /// Whether the server is working for the client: a request is in progress, and the client reads.
    pub(super) fn is_busy(&self) -> bool {
        self.0.requests.load(Ordering::Relaxed) > 0 && !self.0.is_stalled.load(Ordering::Relaxed)
    }

    /// Whether the server works on nothing, because the client has not sent a body completely or does not read.
    pub(super) fn is_waiting_for_client(&self) -> bool {
        let is_incomplete = self.0.incomplete.load(Ordering::Relaxed) > 0;
        !self.is_busy() && (is_incomplete || self.0.is_stalled.load(Ordering::Relaxed))
    }

    /// Records whether the client does not read what is written.
    pub(super) fn set_stalled(&self, is_stalled: bool) {
        let mut sockets = self.0.admission.sockets.lock();
        self.0.is_stalled.store(is_stalled, Ordering::Relaxed);
        sockets.set_idle(self.0.id, !self.is_busy());
    }

    /// A permit for a further socket on the same connection, if fewer than the maximum are open.
    pub(super) fn try_permit(&self) -> Option<Permit> {
        self.0.admission.try_permit()
    }

    /// Whether a request has begun.
    pub(super) fn had_request(&self) -> bool {
        self.0.had_request.load(Ordering::Relaxed)
    }

    /// The connection is an upgraded socket that waits for its first message. The receiver replaces the earlier one.
    pub(super) fn await_first_message(&self) -> Option<oneshot::Receiver<()>> {
        let (evict, evicted) = oneshot::channel();
        let mut sockets = self.0.admission.sockets.lock();
        sockets.tracked.get_mut(&self.0.id)?.evict = evict;
        sockets.set_idle(self.0.id, true);
        drop(sockets);
        Some(evicted)
    }

    /// The socket is no longer silent, and is never closed to make room.
    pub(super) fn confirm(&self) {
        let mut sockets = self.0.admission.sockets.lock();
        sockets.return_token(self.0.id, self.0.admission.burst);
        sockets.forget(self.0.id);
    }
}

impl Drop for TicketState {
    fn drop(&mut self) {
        self.admission.sockets.lock().forget(self.id);
    }
}

/// A request. Until its body was received, its connection may be closed to make room.
#[derive(Debug)]
pub(super) struct RequestGuard {
    ticket: Ticket,
    opens_socket: bool,
    is_received: AtomicBool,
}

impl RequestGuard {
    /// The body is complete, or there is none, or the response was made without it.
    pub(super) fn on_received(&self) {
        if self.is_received.swap(true, Ordering::Relaxed) {
            return;
        }
        let state = &self.ticket.0;
        state.incomplete.fetch_sub(1, Ordering::Relaxed);
        let mut sockets = state.admission.sockets.lock();
        if state.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            sockets.set_idle(state.id, !self.ticket.is_busy());
        }
        if !self.opens_socket {
            sockets.return_token(state.id, state.admission.burst);
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let state = &self.ticket.0;
        let mut sockets = state.admission.sockets.lock();
        if !*self.is_received.get_mut() {
            state.incomplete.fetch_sub(1, Ordering::Relaxed);
        } else if state.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            sockets.set_idle(state.id, true);
        }
    }
}

/// A ticket with a request, for tests of other modules.
#[cfg(test)]
pub(super) fn test_request() -> (Ticket, Arc<RequestGuard>) {
    let admission = Admission::new(&AcceptSettings::default());
    let (ticket, _) = admission.track(IpAddr::from([192, 0, 2, 1]), Instant::now()).expect("admitted");
    let guard = Arc::new(ticket.begin_request(false));
    (ticket, guard)
}

/// The address that a bucket belongs to: an IPv4 address, or the /64 network that one IPv6 client usually has.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn admission(max_connections: usize, silent_per_address: u32) -> Arc<Admission> {
        Admission::new(&AcceptSettings {
            max_connections,
            silent_per_address: NonZeroU32::new(silent_per_address),
            ..AcceptSettings::default()
        })
    }

    #[test]
    fn an_address_without_tokens_gives_up_its_oldest_silent_connection() {
        let (admission, now) = (admission(100, 3), Instant::now());
        let mut sockets: Vec<_> = (0..5).map(|_| admission.track(ATTACKER, now).expect("admitted")).collect();
        let evicted: Vec<bool> = sockets.iter_mut().map(|(_, evicted)| evicted.try_recv().is_ok()).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
    }

    #[test]
    fn connections_that_send_a_request_cost_no_token() {
        let (admission, now) = (admission(100, 3), Instant::now());
        let mut sockets: Vec<_> = (0..50)
            .map(|_| {
                let (ticket, evicted) = admission.track(ATTACKER, now).expect("admitted");
                ticket.begin_request(false).on_received();
                (ticket, evicted)
            })
            .collect();
        assert!(sockets.iter_mut().all(|(_, evicted)| evicted.try_recv().is_err()));
        assert!(admission.sockets.lock().addresses.is_empty());
    }

    #[test]
    fn an_address_that_disconnects_silently_waits_for_its_tokens() {
        let (admission, now) = (admission(100, 3), Instant::now());
        for _ in 0..3 {
            drop(admission.track(ATTACKER, now).expect("has a token"));
        }
        assert_eq!(admission.track(ATTACKER, now).map(drop), Err(AddressExhausted));
        assert!(admission.track(IpAddr::from([192, 0, 2, 2]), now).is_ok());
        assert!(admission.track(ATTACKER, now + REFILL_TIME).is_ok());
    }

    #[test]
    fn refills_do_not_add_silent_sockets_without_bound() {
        let (admission, mut now) = (admission(100, 3), Instant::now());
        let mut sockets = Vec::new();
        for _ in 0..20 {
            sockets.push(admission.track(ATTACKER, now).expect("admitted"));
            now += REFILL_TIME;
        }
        assert_eq!(sockets.iter_mut().filter_map(|(_, evicted)| evicted.try_recv().err()).count(), 3);
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_their_tokens() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff:0:1".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), ATTACKER);
    }

    #[test]
    fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
        let (admission, now) = (admission(2, 0), Instant::now());
        let (busy, mut busy_evicted) = admission.track(ATTACKER, now).expect("admitted");
        let request = busy.begin_request(false);
        request.on_received();
        let (idle, mut idle_evicted) = admission.track(ATTACKER, now).expect("admitted");
        assert!(admission.sockets.lock().evict_idle());
        assert!(idle_evicted.try_recv().is_ok() && busy_evicted.try_recv().is_err());
        assert!(!admission.sockets.lock().evict_idle());
        drop((request, idle));
        assert!(admission.sockets.lock().evict_idle());
        assert!(busy_evicted.try_recv().is_ok());
    }

    #[test]
    fn slow_bodies_and_unread_responses_make_room() {
        let (unlimited, now) = (admission(100, 0), Instant::now());
        let (slow, mut slow_evicted) = unlimited.track(ATTACKER, now).expect("admitted");
        let body = slow.begin_request(false);
        assert!(slow.is_waiting_for_client() && unlimited.sockets.lock().evict_idle());
        assert!(slow_evicted.try_recv().is_ok());
        drop(body);

        let (unread, mut unread_evicted) = unlimited.track(ATTACKER, now).expect("admitted");
        let request = unread.begin_request(false);
        request.on_received();
        assert!(unread.is_busy() && !unlimited.sockets.lock().evict_idle());
        unread.set_stalled(true);
        unread.set_stalled(false);
        assert!(!unlimited.sockets.lock().evict_idle());
        unread.set_stalled(true);
        assert!(unlimited.sockets.lock().evict_idle() && unread.is_waiting_for_client());
        assert!(unread_evicted.try_recv().is_ok());
        // The token of an address is spent until the body is complete.
        let admission = admission(100, 2);
        let (first, _evicted) = admission.track(ATTACKER, now).expect("admitted");
        let (second, mut second_evicted) = admission.track(ATTACKER, now).expect("admitted");
        let _bodies = (first.begin_request(false), second.begin_request(false));
        for _ in 0..2 {
            let _ = admission.track(ATTACKER, now).expect("admitted");
        }
        assert!(second_evicted.try_recv().is_ok());
    }

    #[test]
    fn nothing_is_kept_about_closed_connections() {
        let (admission, now) = (admission(100, 3), Instant::now());
        for _ in 0..3 {
            let (ticket, _evicted) = admission.track(ATTACKER, now).expect("admitted");
            ticket.begin_request(true).on_received();
            let _evicted = ticket.await_first_message().expect("is tracked");
            ticket.confirm();
        }
        let sockets = admission.sockets.lock();
        assert!(sockets.tracked.is_empty() && sockets.idle.is_empty() && sockets.addresses.is_empty());
    }
}
