//! One priority level at work: its queues behind a lock, and the requests that wait for their turn.

use super::borrowing::{Limits, Smoothed};
use super::config::LevelConfig;
use super::metrics::SchemaStats;
use super::queue_set::{Arrival, Nanos, Place, QueueSet, Reason, Ticket, Work};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What the debug endpoint tells of a waiting request.
#[derive(Clone, Debug)]
pub struct Details {
    pub schema: String,
    pub distinguisher: String,
    pub arrived: jiff::Timestamp,
    pub user: String,
    pub verb: String,
    pub path: String,
    pub namespace: String,
    pub name: String,
    pub api_version: String,
    pub resource: String,
    pub subresource: String,
}

pub struct Waiter {
    wake: oneshot::Sender<Ticket>,
    pub details: Details,
}

pub struct Level {
    pub name: String,
    pub state: Mutex<State>,
    epoch: Instant,
}

pub struct State {
    pub config: LevelConfig,
    pub limits: Limits,
    pub smoothed: Smoothed,
    /// Set when its object was deleted; requests that are in it are still served.
    pub quiescing: bool,
    pub queues: QueueSet<Waiter>,
}

impl Level {
    pub fn new(config: LevelConfig, limits: Limits, epoch: Instant) -> Arc<Level> {
        let queues = QueueSet::new(config.queuing.unwrap_or_default(), limits.nominal, nanos(epoch));
        let name = config.name.clone();
        let state = State { config, limits, smoothed: Smoothed::default(), quiescing: false, queues };
        Arc::new(Level { name, state: Mutex::new(state), epoch })
    }

    pub fn now(&self) -> Nanos {
        nanos(self.epoch)
    }

    /// Takes over a changed configuration. Seats start at the nominal number again.
    pub fn configure(self: &Arc<Self>, config: LevelConfig, limits: Limits) {
        self.locked(|now, state, woken| {
            state.queues.set_queuing(now, config.queuing.unwrap_or_default(), woken);
            if state.limits != limits {
                state.limits = limits;
                state.queues.set_limit(now, limits.nominal, woken);
            }
            state.config = config;
            state.quiescing = false;
        });
    }

    pub fn set_seats(self: &Arc<Self>, seats: u32) {
        self.locked(|now, state, woken| {
            if state.queues.limit() != seats {
                state.queues.set_limit(now, seats, woken);
            }
        });
    }

    pub fn retire(&self) {
        self.state.lock().quiescing = true;
    }

    /// Does something to the queues, then wakes those whose turn has come by it.
    fn locked<R>(self: &Arc<Self>, f: impl FnOnce(Nanos, &mut State, &mut Vec<(Waiter, Ticket)>) -> R) -> R {
        let mut woken = Vec::new();
        let out = f(self.now(), &mut self.state.lock(), &mut woken);
        // Who went away meanwhile gives the seat back, which may wake another.
        while let Some((waiter, ticket)) = woken.pop() {
            if let Err(ticket) = waiter.wake.send(ticket) {
                let now = self.now();
                self.state.lock().queues.finish(now, ticket, Duration::ZERO, &mut woken);
            }
        }
        out
    }

    fn finish(self: &Arc<Self>, ticket: Ticket, service: Duration) {
        self.locked(|now, state, woken| state.queues.finish(now, ticket, service, woken));
    }

    /// The first try of a request: a seat, a place in a queue, or neither.
    pub fn arrive(self: &Arc<Self>, flow: u64, work: Work, details: impl FnOnce() -> Details) -> Try {
        let mut receiver = None;
        let arrival = self.locked(|now, state, woken| {
            let wake = || {
                let (wake, receive) = oneshot::channel();
                receiver = Some(receive);
                Waiter { wake, details: details() }
            };
            let arrival = state.queues.arrive(now, flow, work, wake, woken);
            if matches!(arrival, Arrival::Reject(_)) {
                state.queues.note_unmet(work.seats_max());
            }
            arrival
        });
        match (arrival, receiver) {
            (Arrival::Execute(ticket), _) => Try::Seat(Held::new(self, ticket)),
            (Arrival::Wait(place), Some(receiver)) => {
                Try::Wait(Waiting { level: self.clone(), place, receiver, left: false })
            }
            (Arrival::Wait(_), None) => unreachable!("waiting makes a waiter"),
            (Arrival::Reject(why), _) => Try::Refused(why),
        }
    }
}

pub enum Try {
    Seat(Held),
    Wait(Waiting),
    Refused(Reason),
}

/// A place in a queue. Dropping it leaves the queue, and gives back a seat that was on its way.
pub struct Waiting {
    level: Arc<Level>,
    place: Place,
    receiver: oneshot::Receiver<Ticket>,
    left: bool,
}

impl Waiting {
    /// Until its turn comes, `None` when it doesn't in time.
    pub async fn turn(mut self, patience: Duration) -> Option<Held> {
        match tokio::time::timeout(patience, &mut self.receiver).await {
            Ok(Ok(ticket)) => {
                self.left = true;
                Some(Held::new(&self.level, ticket))
            }
            _ => None,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.left || self.level.locked(|now, state, woken| state.queues.leave(now, self.place, woken)) {
            return;
        }
        // Its turn had come: the ticket is here already, or its sender will find nobody and take it back.
        self.receiver.close();
        if let Ok(ticket) = self.receiver.try_recv() {
            self.level.finish(ticket, Duration::ZERO);
        }
    }
}

/// A seat that is taken. Dropping it frees it, after the work that the answer leaves behind.
pub struct Held {
    level: Arc<Level>,
    ticket: Option<Ticket>,
    began: Instant,
}

impl Held {
    fn new(level: &Arc<Level>, ticket: Ticket) -> Held {
        Held { level: level.clone(), ticket: Some(ticket), began: Instant::now() }
    }

    pub fn began(&self) -> Instant {
        self.began
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let service = self.began.elapsed();
        let later = ticket.work().additional_latency;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !later.is_zero() => {
                let level = self.level.clone();
                runtime.spawn(async move {
                    tokio::time::sleep(later).await;
                    level.finish(ticket, service + later);
                });
            }
            _ => self.level.finish(ticket, service),
        }
    }
}

fn nanos(epoch: Instant) -> Nanos {
    epoch.elapsed().as_nanos() as Nanos
}

/// A request being served, with its schema's figures. Exempt requests hold no seat but are counted, too.
pub struct Seat {
    pub held: Option<Held>,
    pub stats: Arc<SchemaStats>,
    pub seats: u32,
    pub began: Instant,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stats.finished(self.seats, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::queue_set::Queuing;
    use http::HeaderValue;

    fn level(seats: u32, queues: usize) -> Arc<Level> {
        let queuing = (queues > 0).then_some(Queuing { queues, hand_size: 1, queue_length_limit: 100 });
        let config = LevelConfig {
            name: "l".into(),
            uid: HeaderValue::from_static(""),
            exempt: false,
            shares: 1,
            lendable_percent: 0,
            borrowing_limit_percent: None,
            queuing,
        };
        Level::new(config, Limits { nominal: seats, min: seats, max: seats, exempt: false }, Instant::now())
    }

    fn details() -> Details {
        let s = String::new;
        Details {
            schema: s(),
            distinguisher: s(),
            arrived: jiff::Timestamp::now(),
            user: s(),
            verb: s(),
            path: s(),
            namespace: s(),
            name: s(),
            api_version: s(),
            resource: s(),
            subresource: s(),
        }
    }

    async fn enter(level: &Arc<Level>, flow: u64, patience: Duration) -> Option<Held> {
        match level.arrive(flow, Work::seats(1), details) {
            Try::Seat(held) => Some(held),
            Try::Wait(w) => w.turn(patience).await,
            Try::Refused(_) => None,
        }
    }

    /// Requests that are served, give up and are cancelled at random moments on real threads leave no seat taken.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn seats_come_back_from_those_who_leave() {
        let level = level(3, 8);
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..400u64 {
            let level = level.clone();
            tasks.spawn(async move {
                let one = async {
                    let held = enter(&level, i % 9, Duration::from_millis(i % 40)).await;
                    tokio::time::sleep(Duration::from_micros(i % 7 * 300)).await;
                    held.is_some()
                };
                // Every third is cancelled wherever it is.
                match i % 3 {
                    0 => tokio::time::timeout(Duration::from_micros(i * 50), one).await.unwrap_or(false),
                    _ => one.await,
                }
            });
        }
        let mut served = 0;
        while let Some(done) = tasks.join_next().await {
            served += usize::from(done.unwrap());
        }
        // How many get their turn in time is the machine's business; the first find free seats.
        assert!(served > 0, "{served}");
        let state = level.state.lock();
        assert_eq!((state.queues.seats_in_use(), state.queues.executing(), state.queues.waiting()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_by_a_turn_or_by_patience() {
        let level = level(1, 1);
        let first = enter(&level, 1, Duration::ZERO).await.unwrap();
        let second = tokio::spawn({
            let level = level.clone();
            async move { enter(&level, 1, Duration::from_secs(5)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(enter(&level, 1, Duration::from_secs(1)).await.is_none());
        drop(first);
        assert!(second.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn seats_stay_taken_while_watchers_are_told() {
        let level = level(2, 0);
        let work = Work { initial_seats: 1, final_seats: 2, additional_latency: Duration::from_millis(5) };
        let Try::Seat(held) = level.arrive(1, work, details) else { panic!() };
        drop(held);
        assert_eq!(level.state.lock().queues.seats_in_use(), 2);
        tokio::time::sleep(Duration::from_millis(6)).await;
        assert_eq!(level.state.lock().queues.seats_in_use(), 0);
    }
}
