//! Those whose policies take long: they are asked about on a connection of their own, and wait only for themselves.
//!
//! Somebody comes here by being late once, and leaves when nothing waits and the last answer was quick. Of what waits there is a
//! bound; over it, or where not even the longer limit is enough, the subscriber is told that changes were left out.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    asker::{Askers, Question, Table},
    registry::Channel,
    teller::{Sink, Told},
};
use crate::channels::Claimant;

/// Batches that may wait here.
const MOST_WAITING: usize = 256;
/// Batches of one claimant that may wait here.
const MOST_WAITING_OF_ONE: usize = 64;
/// An answer within this time makes a claimant quick again.
const QUICK: Duration = Duration::from_millis(100);

/// What a claimant is told if it turns out to see the rows.
pub struct Later {
    question: Question,
    table: Table,
    /// Row, frame, channel; in order.
    pub rows: Vec<(usize, Told, Arc<Channel>)>,
}

impl Later {
    /// To be filled with frames.
    #[must_use]
    pub fn new(question: &Question, tables: &[Table]) -> Self {
        let question = question.clone();
        let table = tables[question.table].clone();
        Self { question: Question { table: 0, ..question }, table, rows: Vec::new() }
    }

    fn tell_trouble(&self, message: &str) {
        for (_, _, channel) in &self.rows {
            channel.tell_trouble(message);
        }
    }
}

/// The claimants that are kept here, and how many batches wait for each.
type Kept = Arc<Mutex<HashMap<Arc<Claimant>, usize>>>;

/// The entrance.
pub struct SlowLane {
    kept: Kept,
    work: mpsc::Sender<Later>,
}

/// The task behind it.
pub struct SlowWorker {
    kept: Kept,
    work: mpsc::Receiver<Later>,
    askers: Askers,
    sink: Arc<dyn Sink>,
}

/// Makes an entrance and its task. `askers` has one connection and a generous limit.
#[must_use]
pub fn slow_lane(askers: Askers, sink: Arc<dyn Sink>) -> (SlowLane, SlowWorker) {
    let (sender, work) = mpsc::channel(MOST_WAITING);
    let kept = Kept::default();
    (SlowLane { kept: Arc::clone(&kept), work: sender }, SlowWorker { kept, work, askers, sink })
}

impl SlowLane {
    /// Whether a claimant's questions go here.
    #[must_use]
    pub fn keeps(&self, claimant: &Arc<Claimant>) -> bool {
        self.kept.lock().contains_key(claimant)
    }

    /// A claimant was late.
    pub fn keep(&self, claimant: &Arc<Claimant>) {
        self.kept.lock().entry(Arc::clone(claimant)).or_default();
    }

    /// Takes questions on; never waits.
    pub fn take_on(&self, work: Vec<Later>) {
        for later in work {
            let claimant = Arc::clone(&later.question.claimant);
            let mut kept = self.kept.lock();
            let waiting = kept.entry(Arc::clone(&claimant)).or_default();
            let refused = if *waiting >= MOST_WAITING_OF_ONE {
                Some(later)
            } else {
                *waiting += 1;
                match self.work.try_send(later) {
                    Ok(()) => None,
                    Err(refused) => {
                        *waiting -= 1;
                        Some(refused.into_inner())
                    }
                }
            };
            drop(kept);
            if let Some(later) = refused {
                later.tell_trouble(&left_out(&later.table));
            }
        }
    }
}

impl SlowWorker {
    /// Asks one after the other until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(later)) = stop.run_until_cancelled(self.work.recv()).await {
            let Some(is_quick) = stop.run_until_cancelled(self.ask(&later)).await else { return };
            let mut kept = self.kept.lock();
            if let Some(waiting) = kept.get_mut(&later.question.claimant) {
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 && is_quick {
                    kept.remove(&later.question.claimant);
                }
            }
        }
    }

    async fn ask(&mut self, later: &Later) -> bool {
        let started = Instant::now();
        let tables = std::slice::from_ref(&later.table);
        let answers = self.askers.ask(tables, std::slice::from_ref(&later.question)).await;
        match answers.ok().and_then(|answers| answers.into_iter().next()) {
            Some(answer) if !answer.is_late => {
                if let Some(trouble) = &answer.trouble {
                    later.tell_trouble(&format!(
                        "Changes of {} are withheld: its row-level security raised an error for you: {trouble}",
                        later.table.qualified
                    ));
                }
                let seen = later
                    .rows
                    .iter()
                    .filter(|(row, _, channel)| answer.seen.contains(row) && channel.is_alive());
                let told: Vec<Told> = seen.map(|(_, told, _)| told.clone()).collect();
                self.sink.tell(told).await;
                started.elapsed() < QUICK
            }
            _ => {
                later.tell_trouble(&left_out(&later.table));
                false
            }
        }
    }
}

fn left_out(table: &Table) -> String {
    format!(
        "Changes of {} were left out: its row-level security takes too long for you. Fetch again.",
        table.qualified
    )
}
