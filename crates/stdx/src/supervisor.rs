//! Supervision: parts of the process that must not end, started again when they do.
//!
//! In: a name and a way to start. Out: the part runs until shutdown; an error, a panic or a plain end is logged, counted
//! and told to a listener, and the part starts again after a pause that grows. Each start gets a [`Shutdown`] of its own,
//! which ends with it, so that tasks that it left behind end too.

use crate::Shutdown;
use crate::backoff::Backoff;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinHandle};

const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A part that lived that long begins with the shortest pause again.
const SOUND: Duration = Duration::from_secs(60);

/// A part as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub up: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it ended last.
    pub error: Option<String>,
}

type Listener = Box<dyn Fn(&'static str, &Part) + Send + Sync>;

/// The parts of a process. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    shutdown: Shutdown,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    parts: Mutex<BTreeMap<&'static str, Part>>,
    listener: OnceLock<Listener>,
}

impl Supervisor {
    pub fn new(shutdown: Shutdown) -> Supervisor {
        Supervisor { shutdown, inner: Arc::default() }
    }

    /// `listener` hears of every start and every end; set once, before the first part. It must be quick.
    pub fn listen(&self, listener: impl Fn(&'static str, &Part) + Send + Sync + 'static) {
        let _ = self.inner.listener.set(Box::new(listener));
    }

    /// All parts by name.
    pub fn parts(&self) -> BTreeMap<&'static str, Part> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Part>> {
        self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &'static str, change: impl FnOnce(&mut Part)) {
        let part = {
            let mut parts = self.lock();
            let part = parts.entry(name).or_default();
            change(part);
            part.clone()
        };
        if let Some(listener) = self.inner.listener.get() {
            listener(name, &part);
        }
    }

    /// Runs a part until shutdown, as often as that takes. The task ends when the part has.
    pub fn keep<F, Fut, E>(&self, name: &'static str, mut start: F) -> JoinHandle<()>
    where
        F: FnMut(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let supervisor = self.clone();
        tokio::spawn(async move {
            let mut backoff = Backoff::new(PAUSE, PAUSE_MAX);
            loop {
                supervisor.change(name, |p| p.up = true);
                let (since, life) = (Instant::now(), supervisor.shutdown.child_token());
                let end = tokio::spawn(start(life.clone())).await;
                life.cancel();
                if supervisor.shutdown.is_cancelled() {
                    return;
                }
                if since.elapsed() >= SOUND {
                    backoff.reset();
                }
                let pause = backoff.next_delay();
                let why = match end {
                    Ok(Ok(())) => "it ended by itself".to_string(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => panic_text(error),
                };
                tracing::error!(part = name, error = why, ?pause, "a part of Skiff ended; it is started again");
                supervisor.change(name, |p| {
                    p.up = false;
                    p.restarts += 1;
                    p.error = Some(why);
                });
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = supervisor.shutdown.cancelled() => return,
                }
            }
        })
    }
}

/// What a task that didn't end properly said.
pub fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!("panic: {}", payload_text(&*payload)),
        Err(error) => error.to_string(),
    }
}

/// The text of a panic.
pub fn payload_text(payload: &(dyn std::any::Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "without a message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn errors_panics_and_ends_start_a_part_again() {
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::new(shutdown.clone());
        let told: Arc<Mutex<Vec<(bool, Option<String>)>>> = Arc::default();
        let heard = told.clone();
        supervisor.listen(move |name, part| {
            assert_eq!(name, "engine");
            heard.lock().unwrap().push((part.up, part.error.clone()));
        });
        let starts = Arc::new(AtomicU32::new(0));
        let count = starts.clone();
        let begun = tokio::time::Instant::now();
        let task = supervisor.keep("engine", move |life| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            async move {
                match n {
                    0 => Err("no fuel".to_string()),
                    1 => panic!("piston {n} is stuck"),
                    2 => Ok(()),
                    _ => {
                        life.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        while starts.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // 200, 400 and 800 ms of pauses.
        assert!(begun.elapsed() >= Duration::from_millis(1400), "{:?}", begun.elapsed());
        let part = supervisor.parts()["engine"].clone();
        assert_eq!(part, Part { up: true, restarts: 3, error: Some("it ended by itself".into()) });
        let ends: Vec<String> =
            told.lock().unwrap().iter().filter(|(up, _)| !up).filter_map(|(_, e)| e.clone()).collect();
        assert_eq!(ends, ["no fuel", "panic: piston 1 is stuck", "it ended by itself"]);
        shutdown.cancel();
        task.await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_start_left_behind_is_told_to_end() {
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::new(shutdown.clone());
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let mut n = 0;
        supervisor.keep("parent", move |life| {
            n += 1;
            let (first, ended) = (n == 1, ended.clone());
            async move {
                let child = life.clone();
                tokio::spawn(async move {
                    child.cancelled().await;
                    let _ = ended.send(());
                });
                if !first {
                    life.cancelled().await;
                }
                Err("gone")
            }
        });
        ends.recv().await.unwrap();
        assert!(!shutdown.is_cancelled());
    }
}
