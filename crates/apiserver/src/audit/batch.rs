//! A buffer before a slow sink: events are gathered and sent in batches, at a bounded rate.
//!
//! What doesn't fit into the buffer is dropped and told in the log: requests never wait for audit here.

use super::Sink;
use super::event::Event;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stdx::Shutdown;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Flags `--audit-<backend>-batch-*`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events.
    pub buffer_size: usize,
    pub max_size: usize,
    pub max_wait: Duration,
    /// Batches per second, and how many may go at once after a pause; `None`: no bound.
    pub throttle: Option<(f64, u32)>,
}

/// What takes batches.
#[async_trait]
pub trait Delivery: Send + Sync + 'static {
    async fn deliver(&self, batch: Vec<Bytes>);
}

pub struct Batched {
    events: mpsc::Sender<Bytes>,
    dropped: AtomicU64,
    legacy: bool,
}

/// Starts the task that sends. It ends, with all sent, when `shutdown` is cancelled.
pub fn start(
    delivery: Arc<dyn Delivery>,
    options: Options,
    legacy: bool,
    shutdown: Shutdown,
) -> (Arc<Batched>, JoinHandle<()>) {
    let (events, queue) = mpsc::channel(options.buffer_size.max(1));
    let task = tokio::spawn(run(delivery, options, queue, shutdown));
    (Arc::new(Batched { events, dropped: AtomicU64::new(0), legacy }), task)
}

impl Sink for Batched {
    fn take(&self, event: &Event, line: &Bytes) -> bool {
        let line = if self.legacy { event.legacy().into() } else { line.clone() };
        if self.events.try_send(line).is_err() {
            let n = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_power_of_two() {
                tracing::error!(dropped = n, "audit events were dropped, because the buffer is full");
            }
            return false;
        }
        true
    }
}

async fn run(delivery: Arc<dyn Delivery>, options: Options, mut queue: mpsc::Receiver<Bytes>, shutdown: Shutdown) {
    let mut tokens = options.throttle.map_or(0.0, |(_, burst)| f64::from(burst));
    let mut filled = Instant::now();
    loop {
        let first = tokio::select! {
            biased;
            first = queue.recv() => first,
            () = shutdown.cancelled() => queue.try_recv().ok(),
        };
        let Some(first) = first else { return };
        let mut batch = vec![first];
        let until = Instant::now() + options.max_wait;
        while batch.len() < options.max_size {
            tokio::select! {
                biased;
                more = queue.recv() => match more {
                    Some(event) => batch.push(event),
                    None => break,
                },
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep_until(until) => break,
            }
        }
        if let Some((qps, burst)) = options.throttle.filter(|(qps, _)| *qps > 0.0) {
            tokens = (tokens + filled.elapsed().as_secs_f64() * qps).min(f64::from(burst.max(1)));
            filled = Instant::now();
            if tokens < 1.0 && !shutdown.is_cancelled() {
                tokio::time::sleep(Duration::from_secs_f64((1.0 - tokens) / qps)).await;
                tokens = (tokens + filled.elapsed().as_secs_f64() * qps).min(f64::from(burst.max(1)));
                filled = Instant::now();
            }
            tokens -= 1.0;
        }
        delivery.deliver(batch).await;
    }
}

#[async_trait]
impl Delivery for super::log::Log {
    async fn deliver(&self, batch: Vec<Bytes>) {
        if let Err(error) = self.write(&batch.concat()) {
            tracing::error!(%error, events = batch.len(), "audit events could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Taken(Mutex<Vec<(usize, Instant)>>);
    #[async_trait]
    impl Delivery for Taken {
        async fn deliver(&self, batch: Vec<Bytes>) {
            self.0.lock().push((batch.len(), Instant::now()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_full_or_late_and_not_too_many() {
        let taken = Arc::new(Taken::default());
        let shutdown = Shutdown::new();
        let options =
            Options { buffer_size: 100, max_size: 10, max_wait: Duration::from_secs(3), throttle: Some((1.0, 2)) };
        let (sink, task) = start(taken.clone(), options, false, shutdown.clone());
        let began = Instant::now();
        for _ in 0..45 {
            sink.events.try_send(Bytes::from("x\n")).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        let sizes: Vec<(usize, u64)> = taken.0.lock().iter().map(|(n, at)| (*n, (*at - began).as_secs())).collect();
        // Two at once, then one a second; the last waited for more.
        assert_eq!(sizes, [(10, 0), (10, 0), (10, 1), (10, 2), (5, 5)]);
        for _ in 0..3 {
            sink.events.try_send(Bytes::from("x\n")).unwrap();
        }
        shutdown.cancel();
        task.await.unwrap();
        assert_eq!(taken.0.lock().last().unwrap().0, 3);
        assert!(sink.events.try_send(Bytes::from("late")).is_err());
    }
}
