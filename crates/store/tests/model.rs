//! Random operations on the store and on a small model of etcd's semantics, side by side: every answer, listing,
//! page and event must agree.
//!
//! `STORE_MODEL_SEEDS=5000 cargo test -p store --test model` for a long run; `STORE_SEED=n` replays one.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::embedded::faulty::FaultyDisk;
use store::{Cas, Change, Entry, Error, Event, ListOptions, Page, Revision, Store, Watcher, embedded, memory};

#[derive(Clone, Debug, PartialEq)]
struct Version {
    value: Bytes,
    create: u64,
    modified: u64,
}

/// One whole map for each revision. Slow and obviously right.
#[derive(Default)]
struct Model {
    states: Vec<BTreeMap<String, Version>>,
    /// The change that each revision made: key, what is there now, what was there before.
    changes: Vec<(String, Option<Version>, Option<Version>)>,
    compacted: u64,
}

impl Model {
    fn new() -> Model {
        Model { states: vec![BTreeMap::new()], ..Model::default() }
    }

    fn revision(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn now(&self) -> &BTreeMap<String, Version> {
        self.states.last().expect("the empty state")
    }

    fn put(&mut self, key: &str, value: Bytes) {
        let mut state = self.now().clone();
        let modified = self.revision() + 1;
        let prev = state.get(key).cloned();
        let create = prev.as_ref().map_or(modified, |p| p.create);
        let version = Version { value, create, modified };
        state.insert(key.into(), version.clone());
        self.states.push(state);
        self.changes.push((key.into(), Some(version), prev));
    }

    fn delete(&mut self, key: &str) {
        let mut state = self.now().clone();
        let prev = state.remove(key);
        self.states.push(state);
        self.changes.push((key.into(), None, prev));
    }

    fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision().saturating_sub(1)));
    }

    fn is_readable(&self, revision: u64) -> bool {
        revision <= self.revision() && (revision > self.compacted || self.compacted == 0)
    }
}

fn version(entry: &Entry) -> Version {
    Version { value: entry.value.clone(), create: entry.create_revision.0, modified: entry.mod_revision.0 }
}

fn flat(event: &Event) -> (u64, String, Option<Version>, Option<Version>) {
    let (now, prev) = match &event.change {
        Change::Put { entry, prev } => (Some(version(entry)), prev.as_ref().map(version)),
        Change::Delete { prev } => (None, Some(version(prev))),
    };
    (event.revision.0, event.change.key().to_string(), now, prev)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n.max(1)
    }

    fn key(&mut self) -> String {
        let resource = ["pods", "pods.x", "nodes"][self.below(3) as usize];
        match resource {
            "nodes" => format!("/registry/nodes/{}", self.below(6)),
            _ => format!("/registry/{resource}/{}/{}", ["a", "ab", "b"][self.below(3) as usize], self.below(8)),
        }
    }

    fn prefix(&mut self) -> &'static str {
        let all = ["/", "/registry/", "/registry/pods/", "/registry/pods.x/", "/registry/nodes/", "/registry/pods/a/"];
        all[self.below(all.len() as u64) as usize]
    }
}

fn matches(prefix: &str, key: &str) -> bool {
    if prefix.ends_with('/') { key.starts_with(prefix) } else { key == prefix }
}

struct Watch {
    prefix: String,
    watcher: Box<dyn Watcher>,
    /// Everything up to here was returned.
    after: u64,
}

enum Engine {
    Memory,
    Embedded(FaultyDisk),
}

fn options() -> embedded::Options {
    embedded::Options {
        history_window: Duration::from_secs(1000),
        segment_bytes_max: 700,
        checkpoint_bytes_min: 1000,
        ..embedded::Options::new("unused")
    }
}

fn open(engine: &Engine) -> Arc<dyn Store> {
    match engine {
        Engine::Memory => memory::open(),
        Engine::Embedded(disk) => embedded::open_on(Arc::new(disk.clone()), options()).expect("open"),
    }
}

fn check_page(page: &Page, model: &Model, prefix: &str, options: &ListOptions) {
    let at = options.revision.map_or(model.revision(), |r| r.0);
    assert_eq!(page.revision.0, at);
    let after = options.start_after.as_deref();
    let all: Vec<_> = model.states[at as usize]
        .iter()
        .filter(|(k, _)| k.starts_with(prefix) && after.is_none_or(|a| k.as_str() > a))
        .collect();
    let n = if options.limit == 0 { all.len() } else { options.limit.min(all.len()) };
    let got: Vec<_> = page.entries.iter().map(|e| (e.key.to_string(), version(e))).collect();
    let want: Vec<_> = all[..n].iter().map(|(k, v)| ((*k).clone(), (*v).clone())).collect();
    assert_eq!(got, want, "{prefix} {options:?}");
    assert_eq!(page.remaining as usize, all.len() - n, "{prefix} {options:?}");
}

/// Takes some events of a watch and compares them with the model's.
async fn step(watch: &mut Watch, model: &Model, max: usize) -> bool {
    let expected: Vec<_> = (watch.after..model.revision())
        .filter(|r| matches(&watch.prefix, &model.changes[*r as usize].0))
        .map(|r| {
            let (key, now, prev) = model.changes[r as usize].clone();
            (r + 1, key, now, prev)
        })
        .collect();
    let position = watch.watcher.position().0;
    if expected.is_empty() && position == model.revision() {
        return true;
    }
    let overtaken = expected.first().is_some_and(|e| e.0 <= model.compacted);
    let result = tokio::time::timeout(Duration::from_secs(10), watch.watcher.next(max)).await.expect("in time");
    match result {
        Err(Error::Compacted { .. }) => {
            assert!(position <= model.compacted, "at {position}, compacted {}", model.compacted);
            false
        }
        Ok(events) if expected.is_empty() => {
            assert!(events.is_empty(), "{events:?}");
            assert_eq!(watch.watcher.position().0, model.revision());
            true
        }
        Err(error) => panic!("{error}"),
        Ok(events) => {
            assert!(!overtaken, "{events:?} after a compaction to {}", model.compacted);
            let got: Vec<_> = events.iter().map(flat).collect();
            let n = expected.len().min(max);
            assert_eq!(got, expected[..n]);
            let last = got.last().map_or(0, |e| e.0);
            assert!(watch.watcher.position().0 >= last);
            watch.after = last;
            true
        }
    }
}

async fn run(seed: u64, engine: Engine) {
    let mut random = Random(seed);
    let mut model = Model::new();
    let mut store = open(&engine);
    let mut watches: Vec<Watch> = Vec::new();
    for n in 0..250 {
        let key = random.key();
        let current = model.now().get(&key).cloned();
        let value = Bytes::from(format!("{n}"));
        match random.below(20) {
            0..=4 => {
                let cas = store.create(&key, value.clone(), None).await.expect("create");
                match (cas, current) {
                    (Cas::Done { entry, revision }, None) => {
                        model.put(&key, value);
                        assert_eq!((revision.0, version(&entry)), (model.revision(), model.now()[&key].clone()));
                    }
                    (Cas::Conflict(Some(entry)), Some(current)) => {
                        assert_eq!(version(&entry), current)
                    }
                    (cas, current) => panic!("{cas:?} for {current:?}"),
                }
            }
            5..=9 => {
                let right = current.as_ref().map_or(1, |c| c.modified);
                let expected = if random.below(4) == 0 { random.below(right + 3) } else { right };
                let cas = store.update(&key, value.clone(), Revision(expected), None).await.expect("update");
                match (cas, current) {
                    (Cas::Done { entry, revision }, Some(current)) if current.modified == expected => {
                        model.put(&key, value);
                        assert_eq!((revision.0, version(&entry)), (model.revision(), model.now()[&key].clone()));
                    }
                    (Cas::Conflict(entry), current) => {
                        assert_ne!(current.as_ref().map(|c| c.modified), Some(expected));
                        assert_eq!(entry.as_ref().map(version), current);
                    }
                    (cas, current) => panic!("{cas:?} for {current:?}"),
                }
            }
            10..=12 => {
                let right = current.as_ref().map_or(1, |c| c.modified);
                let expected = [None, Some(Revision(right)), Some(Revision(right + 1))][random.below(3) as usize];
                let cas = store.delete(&key, expected).await.expect("delete");
                match (cas, current) {
                    (Cas::Done { entry, revision }, Some(current)) => {
                        assert!(expected.is_none_or(|e| e.0 == current.modified));
                        model.delete(&key);
                        assert_eq!((revision.0, version(&entry)), (model.revision(), current));
                    }
                    (Cas::Conflict(entry), current) => {
                        assert!(current.is_none() || expected.is_some_and(|e| e.0 != right));
                        assert_eq!(entry.as_ref().map(version), current);
                    }
                    (cas, current) => panic!("{cas:?} for {current:?}"),
                }
            }
            13 => {
                let to = random.below(model.revision() + 2);
                match store.compact(Revision(to)).await {
                    Ok(()) => model.compact(to),
                    Err(Error::Future { .. }) => assert!(to > model.revision()),
                    Err(error) => panic!("{error}"),
                }
                assert_eq!(store.compacted().0, model.compacted);
            }
            14 => {
                let after = random.below(model.revision() + 2);
                let prefix = if random.below(3) == 0 { key } else { random.prefix().to_owned() };
                match store.watch(&prefix, Revision(after)) {
                    Ok(watcher) => {
                        assert!(after <= model.revision(), "watch after {after}");
                        let missed = (after..model.compacted).any(|r| matches(&prefix, &model.changes[r as usize].0));
                        assert!(!missed, "watch of {prefix} after {after}, compacted {}", model.compacted);
                        watches.push(Watch { prefix, watcher, after });
                    }
                    Err(Error::Future { .. }) => assert!(after > model.revision()),
                    Err(Error::Compacted { .. }) => assert!(after <= model.compacted),
                    Err(error) => panic!("{error}"),
                }
            }
            15..=16 => {
                let prefix = random.prefix();
                let options = ListOptions {
                    start_after: (random.below(3) == 0).then(|| random.key()),
                    limit: random.below(4) as usize * random.below(6) as usize,
                    revision: (random.below(2) == 0).then(|| Revision(random.below(model.revision() + 2))),
                };
                let at = options.revision.map_or(model.revision(), |r| r.0);
                match store.list(prefix, &options) {
                    Ok(page) => {
                        assert!(model.is_readable(at));
                        check_page(&page, &model, prefix, &options);
                    }
                    Err(Error::Future { .. }) => assert!(at > model.revision()),
                    Err(Error::Compacted { .. }) => {
                        assert!(at <= model.compacted && model.compacted > 0)
                    }
                    Err(error) => panic!("{error}"),
                }
                let count = model.now().keys().filter(|k| k.starts_with(prefix)).count() as u64;
                assert_eq!(store.count(prefix), count);
            }
            17 => {
                let at = random.below(model.revision() + 2);
                match store.get_at(&key, Revision(at)) {
                    Ok(entry) => {
                        assert!(model.is_readable(at));
                        assert_eq!(entry.as_ref().map(version), model.states[at as usize].get(&key).cloned());
                    }
                    Err(Error::Future { .. }) => assert!(at > model.revision()),
                    Err(Error::Compacted { .. }) => {
                        assert!(at <= model.compacted && model.compacted > 0)
                    }
                    Err(error) => panic!("{error}"),
                }
                assert_eq!(store.get(&key).as_ref().map(version), current);
            }
            18 => {
                let max = 1 + random.below(5) as usize;
                let mut keep = Vec::new();
                for mut watch in std::mem::take(&mut watches) {
                    if step(&mut watch, &model, max).await {
                        keep.push(watch);
                    }
                }
                watches = keep;
            }
            _ => {
                let Engine::Embedded(disk) = &engine else {
                    continue;
                };
                // An orderly end, a crash of the process, or of the machine.
                match random.below(3) {
                    0 => store.shutdown().await,
                    1 => {}
                    _ => disk.cut_power_after(0),
                }
                drop(store);
                disk.crash();
                store = open(&engine);
                assert_eq!((store.revision().0, store.compacted().0), (model.revision(), model.compacted));
                // Watches resume where they were.
                for watch in &mut watches {
                    if let Ok(watcher) = store.watch(&watch.prefix, Revision(watch.after.max(model.compacted + 1))) {
                        watch.after = watch.after.max(model.compacted + 1);
                        watch.watcher = watcher;
                    }
                }
                watches.retain(|w| w.after <= model.revision() && model.is_readable(w.after));
                for watch in &mut watches {
                    watch.watcher = store.watch(&watch.prefix, Revision(watch.after)).expect("watch");
                }
            }
        }
        assert_eq!(store.revision().0, model.revision());
    }
    store.shutdown().await;
}

fn check(engine: impl Fn(u64) -> Engine, default: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let number = |name| std::env::var(name).ok().and_then(|n: String| n.parse::<u64>().ok());
    let seeds = match number("STORE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STORE_MODEL_SEEDS").unwrap_or(default),
    };
    for seed in seeds {
        let one = std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed, engine(seed))));
        if let Err(panic) = std::panic::catch_unwind(one) {
            eprintln!("replay with STORE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn memory_agrees_with_the_model() {
    check(|_| Engine::Memory, 300);
}

#[test]
fn embedded_agrees_with_the_model() {
    check(|seed| Engine::Embedded(FaultyDisk::new(seed)), 150);
}
