//! The controllers' work queue: each key once, with delays and a per-key backoff.

use crate::queue_metrics::Stats;
use futures::FutureExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use stdx::backoff::Backoff;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longer delays are as good as none: a restart looks at everything anew.
const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Upstream's controller rate limits: 5 ms doubling to 1000 s.
const BACKOFF_BASE: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// A key that is added while it is being worked on is handed out again afterwards, never at the same time.
#[derive(Clone, Default)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: Notify,
    stats: Arc<Stats>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<String>,
    /// In `ready`, or to be put there when the present work on it ends.
    dirty: HashSet<String>,
    working: HashSet<String>,
    /// Keys that wait for a time; the number makes equal times distinct.
    delayed: BTreeMap<(Instant, u64), String>,
    due: HashMap<String, (Instant, u64)>,
    next: u64,
    backoff: HashMap<String, Backoff>,
}

impl Queue {
    pub fn new() -> Queue {
        Queue::default()
    }

    /// Shows the queue's figures in `/metrics` under this name.
    pub fn publish(&self, name: &'static str) {
        self.inner.stats.publish(name);
    }

    pub fn add(&self, key: impl Into<String>) {
        let mut s = self.inner.state.lock();
        if self.put(&mut s, key.into()) {
            drop(s);
            self.inner.wake.notify_one();
        }
    }

    /// Whether there is more to hand out than before.
    fn put(&self, s: &mut State, key: String) -> bool {
        if !s.dirty.insert(key.clone()) {
            return false;
        }
        self.inner.stats.added(&key);
        let idle = !s.working.contains(&key);
        if idle {
            s.ready.push_back(key);
        }
        idle
    }

    /// Adds the key at a later time; an earlier time that is already set stays.
    pub fn add_after(&self, key: impl Into<String>, delay: Duration) {
        let key = key.into();
        if delay.is_zero() {
            return self.add(key);
        }
        let mut s = self.inner.state.lock();
        // Objects may ask for longer than clocks can count.
        let at = Instant::now() + delay.min(DELAY_MAX);
        if let Some(present) = s.due.get(&key).copied() {
            if present.0 <= at {
                return;
            }
            s.delayed.remove(&present);
        }
        s.next += 1;
        let slot = (at, s.next);
        s.delayed.insert(slot, key.clone());
        s.due.insert(key, slot);
        drop(s);
        self.inner.wake.notify_one();
    }

    /// Adds the key after its backoff, which grows with each call until [`Queue::forget`].
    pub fn retry(&self, key: impl Into<String>) {
        let key = key.into();
        self.inner.stats.retried();
        let delay = self
            .inner
            .state
            .lock()
            .backoff
            .entry(key.clone())
            .or_insert_with(|| Backoff::new(BACKOFF_BASE, BACKOFF_MAX))
            .next_delay();
        self.add_after(key, delay);
    }

    pub fn forget(&self, key: &str) {
        self.inner.state.lock().backoff.remove(key);
    }

    /// The next key. [`Queue::done`] must be called with it.
    pub async fn next(&self) -> String {
        loop {
            let wait = {
                let mut s = self.inner.state.lock();
                let now = Instant::now();
                while let Some((&slot, _)) = s.delayed.first_key_value() {
                    if slot.0 > now {
                        break;
                    }
                    if let Some(key) = s.delayed.remove(&slot) {
                        s.due.remove(&key);
                        self.put(&mut s, key);
                    }
                }
                if let Some(key) = s.ready.pop_front() {
                    s.dirty.remove(&key);
                    s.working.insert(key.clone());
                    self.inner.stats.started(&key);
                    if !s.ready.is_empty() {
                        // Another worker may be asleep.
                        self.inner.wake.notify_one();
                    }
                    return key;
                }
                s.delayed.first_key_value().map(|(slot, _)| slot.0)
            };
            match wait {
                Some(at) => tokio::select! {
                    _ = self.inner.wake.notified() => {}
                    _ = tokio::time::sleep_until(at) => {}
                },
                None => self.inner.wake.notified().await,
            }
        }
    }

    pub fn done(&self, key: &str) {
        self.inner.stats.done(key);
        let mut s = self.inner.state.lock();
        s.working.remove(key);
        if s.dirty.contains(key) {
            s.ready.push_back(key.to_string());
            drop(s);
            self.inner.wake.notify_one();
        }
    }

    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Works the queue with `workers` tasks until shutdown. An `Err` is logged and retried with backoff;
    /// `Ok(Some(delay))` asks to be called again. A panic costs its own key a backoff and nobody else anything.
    pub async fn run<F, Fut, E>(&self, name: &'static str, workers: usize, shutdown: Shutdown, sync: F)
    where
        F: Fn(String) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Duration>, E>> + Send,
        E: std::fmt::Display + Send,
    {
        self.publish(name);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..workers {
            let (queue, sync, shutdown) = (self.clone(), sync.clone(), shutdown.clone());
            tasks.spawn(async move {
                loop {
                    let key = tokio::select! {
                        _ = shutdown.cancelled() => return,
                        key = queue.next() => key,
                    };
                    let call = AssertUnwindSafe(async { sync(key.clone()).await });
                    match call.catch_unwind().await {
                        Ok(Ok(again)) => {
                            queue.forget(&key);
                            if let Some(delay) = again {
                                queue.add_after(key.clone(), delay);
                            }
                        }
                        Ok(Err(e)) => {
                            tracing::debug!(controller = name, key, error = %e, "sync failed; it will be tried again");
                            queue.retry(key.clone());
                        }
                        Err(panic) => {
                            let why = stdx::supervisor::payload_text(&*panic);
                            tracing::error!(
                                controller = name,
                                key,
                                panic = why,
                                "sync panicked; it will be tried again"
                            );
                            queue.retry(key.clone());
                        }
                    }
                    queue.done(&key);
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_longer_than_clocks_count_is_one_too() {
        let q = Queue::new();
        q.add_after("a", Duration::MAX);
        assert!(q.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_handed_out_once_and_again_when_added_meanwhile() {
        let q = Queue::new();
        q.add("a");
        q.add("a");
        assert_eq!(q.next().await, "a");
        assert!(q.is_empty());
        q.add("a");
        assert!(q.is_empty(), "not while it is being worked on");
        q.done("a");
        assert_eq!(q.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_are_kept_and_the_earlier_wins() {
        let q = Queue::new();
        let start = Instant::now();
        q.add_after("b", Duration::from_secs(60));
        q.add_after("b", Duration::from_secs(10));
        q.add_after("b", Duration::from_secs(30));
        assert_eq!(q.next().await, "b");
        assert_eq!(start.elapsed().as_secs(), 10);
        q.done("b");
        assert!(tokio::time::timeout(Duration::from_secs(100), q.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_success_forgets() {
        let q = Queue::new();
        let mut waits = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            q.retry("c");
            let k = q.next().await;
            waits.push(start.elapsed().as_millis());
            q.done(&k);
        }
        assert_eq!(waits, [5, 10, 20]);
        q.forget("c");
        let start = Instant::now();
        q.retry("c");
        q.next().await;
        assert_eq!(start.elapsed().as_millis(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_costs_its_own_key_a_backoff_and_nobody_else_anything() {
        let (q, shutdown) = (Queue::new(), Shutdown::new());
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let worked = q.clone();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            let tries = Arc::new(Mutex::new(0));
            worked
                .run("test", 1, stop, move |key| {
                    let (send, tries) = (send.clone(), tries.clone());
                    async move {
                        if key == "bad" {
                            *tries.lock() += 1;
                            assert!(*tries.lock() > 2, "twice in vain");
                        }
                        let _ = send.send(key);
                        Ok::<_, String>(None)
                    }
                })
                .await;
        });
        q.add("bad");
        q.add("good");
        assert_eq!(receive.recv().await.as_deref(), Some("good"));
        assert_eq!(receive.recv().await.as_deref(), Some("bad"));
        shutdown.cancel();
        task.await.unwrap();
    }
}
