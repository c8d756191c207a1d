//! The embedded engine on a disk that tears, forgets, fails and fills up, over many seeds.
//!
//! `STORE_SEEDS=20000 cargo test -p store --test faulty_disk` for a long run; `STORE_SEED=n` replays one.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use store::embedded::Options;
use store::embedded::faulty::{Faults, FaultyDisk};
use store::{Cas, Change, Error, Event, ListOptions, Revision, Store, Transformer, embedded};

fn seeds(default: u64) -> Vec<u64> {
    if let Some(seed) = std::env::var("STORE_SEED").ok().and_then(|s| s.parse().ok()) {
        return vec![seed];
    }
    let n = std::env::var("STORE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    (0..n).collect()
}

/// Everything small, so that segments roll over, history is dropped and snapshots are written all the time.
fn small() -> Options {
    Options {
        history_window: Duration::from_millis(3),
        history_revisions_min: 20,
        segment_bytes_max: 1500,
        checkpoint_bytes_min: 3000,
        ..Options::new("unused")
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// The writer got no answer, or "unknown".
    Open,
    Done,
    Refused,
}

/// What the outside knows. Values are unique, so an event names the write that made it.
#[derive(Default)]
struct Outside {
    fates: HashMap<String, Fate>,
    /// Events that anyone saw or was told of. They must stay.
    seen: BTreeMap<u64, (String, String)>,
}

/// Key and a name for what happened to it.
fn describe(event: &Event) -> (String, String) {
    let what = match &event.change {
        Change::Put { entry, .. } => String::from_utf8_lossy(&entry.value).into_owned(),
        Change::Delete { prev } => format!("delete of {}", prev.mod_revision.0),
    };
    (event.change.key().to_string(), what)
}

impl Outside {
    fn saw(&mut self, revision: u64, key: &str, what: &str) {
        let now = (key.to_owned(), what.to_owned());
        let was = self.seen.entry(revision).or_insert_with(|| now.clone());
        assert_eq!(*was, now, "revision {revision} was given out twice");
    }
}

async fn history(store: &Arc<dyn Store>, after: Revision) -> Result<Vec<Event>, Error> {
    let mut watcher = store.watch("/", after)?;
    let mut events = Vec::new();
    while watcher.position() < store.revision() {
        events.extend(watcher.next(1000).await?);
    }
    Ok(events)
}

type State = BTreeMap<String, (u64, Bytes)>;

fn state_at(store: &Arc<dyn Store>, revision: Option<Revision>) -> Result<State, Error> {
    let page = store.list("/", &ListOptions { revision, ..ListOptions::default() })?;
    Ok(page.entries.iter().map(|e| (e.key.to_string(), (e.mod_revision.0, e.value.clone()))).collect())
}

/// From where history is kept, the state there, and what came after. The store may drop history meanwhile.
async fn kept(store: &Arc<dyn Store>) -> (Revision, State, Vec<Event>) {
    let mut from_first = false;
    loop {
        let base = match store.compacted().0 {
            0 => Revision(u64::from(from_first)),
            c => Revision(c + 1),
        };
        let then = match base.0 {
            0 => Ok(State::new()),
            _ => state_at(store, Some(base)),
        };
        match (then, history(store, base).await) {
            (Ok(then), Ok(events)) => return (base, then, events),
            // The history of the very first revision may be gone, though nothing is in front of it.
            (Err(Error::Compacted { .. }), _) | (_, Err(Error::Compacted { .. })) => from_first = true,
            (Err(error), _) | (_, Err(error)) => panic!("{error}"),
        }
    }
}

/// The store as it came back: nothing lost, nothing doubled, nothing invented.
async fn check(store: &Arc<dyn Store>, outside: &Mutex<Outside>) {
    let (base, mut state, events) = kept(store).await;
    let outside = &mut *outside.lock();
    let mut last = base.0;
    for event in &events {
        assert!(event.revision.0 > last, "in order and once");
        last = event.revision.0;
        let (key, what) = describe(event);
        if !outside.seen.contains_key(&last) {
            let fate = outside.fates.get(&what).copied();
            let is_expiry_or_open = matches!(fate, Some(Fate::Open));
            assert!(is_expiry_or_open, "revision {last}: {what} appeared, which was {fate:?}");
        }
        outside.saw(last, &key, &what);
        match &event.change {
            Change::Put { entry, prev } => {
                let was = state.insert(key, (last, entry.value.clone()));
                assert_eq!(was.map(|w| w.0), prev.as_ref().map(|p| p.mod_revision.0));
            }
            Change::Delete { prev } => {
                assert_eq!(state.remove(&key).map(|w| w.0), Some(prev.mod_revision.0));
            }
        }
    }
    let got: Vec<u64> = events.iter().map(|e| e.revision.0).collect();
    for revision in outside.seen.range(base.0 + 1..).map(|(r, _)| *r) {
        assert!(got.binary_search(&revision).is_ok(), "revision {revision} is lost: {:?}", outside.seen[&revision]);
    }
    // Older than the history: the last write of each key must show in the state.
    let mut newest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (revision, (key, what)) in &outside.seen {
        newest.insert(key, (*revision, what));
    }
    for (key, (revision, what)) in newest {
        match what.starts_with("delete of") {
            true => assert!(!state.contains_key(key), "{key} was deleted at {revision} and came back"),
            false => assert_eq!(state.get(key).map(|(r, v)| (*r, &v[..])), Some((revision, what.as_bytes())), "{key}"),
        }
    }
    assert_eq!(state_at(store, None).expect("list"), state);
    assert!(store.revision().0 >= outside.seen.keys().last().copied().unwrap_or(0));
}

/// Writers at random until the power goes or they are through.
async fn live(store: &Arc<dyn Store>, disk: &FaultyDisk, outside: &Arc<Mutex<Outside>>, seed: u64, life: u64) {
    let watching = {
        let mut watcher = store.watch("/", store.revision()).expect("watch");
        let outside = outside.clone();
        tokio::spawn(async move {
            while let Ok(events) = watcher.next(100).await {
                for event in events {
                    let (key, what) = describe(&event);
                    outside.lock().saw(event.revision.0, &key, &what);
                }
            }
        })
    };
    let writer = |w: u64| {
        let (store, disk, outside) = (store.clone(), disk.clone(), outside.clone());
        tokio::spawn(async move {
            let mut random = Random(seed * 31 + life * 7 + w);
            for i in 0..40 {
                if !disk.has_power() {
                    break;
                }
                if random.below(40) == 0 {
                    match store.reseal().await {
                        Ok(_) | Err(Error::Unavailable(_) | Error::Unknown(_) | Error::Closed) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                let key = format!("/registry/{}/{}", ["pods", "nodes"][random.below(2) as usize], random.below(12));
                let current = store.get(&key);
                let padding = "x".repeat(random.below(if i % 9 == 0 { 2000 } else { 60 }) as usize);
                let mut what = format!("{seed}-{life}-{w}-{i}-{padding}");
                let value = Bytes::from(what.clone());
                let result = match current {
                    Some(current) if random.below(3) == 0 => {
                        what = format!("delete of {}", current.mod_revision.0);
                        outside.lock().fates.entry(what.clone()).or_insert(Fate::Open);
                        store.delete(&key, Some(current.mod_revision)).await
                    }
                    current => {
                        outside.lock().fates.insert(what.clone(), Fate::Open);
                        match current {
                            Some(current) => store.update(&key, value, current.mod_revision, None).await,
                            None => store.create(&key, value, None).await,
                        }
                    }
                };
                let mut outside = outside.lock();
                match result {
                    Ok(Cas::Done { revision, .. }) => {
                        outside.saw(revision.0, &key, &what);
                        outside.fates.insert(what, Fate::Done);
                    }
                    // Two may try the same deletion; one's refusal says nothing of the other.
                    Ok(Cas::Conflict(_)) | Err(Error::Unavailable(_)) if !what.starts_with("delete") => {
                        outside.fates.insert(what, Fate::Refused);
                    }
                    Ok(Cas::Conflict(_)) | Err(Error::Unavailable(_) | Error::Unknown(_) | Error::Closed) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    for result in futures::future::join_all((0..4).map(writer)).await {
        result.expect("writer");
    }
    store.shutdown().await;
    watching.await.expect("watcher");
}

async fn run(seed: u64) {
    let disk = FaultyDisk::new(seed);
    let outside = Arc::new(Mutex::new(Outside::default()));
    let mut random = Random(seed);
    for life in 0..6 {
        disk.set_faults(Faults::default());
        if random.below(3) == 0 {
            // Recovery itself may be cut short, any number of times.
            for _ in 0..3 {
                disk.cut_power_after(1 + random.below(6));
                match embedded::open_on(Arc::new(disk.clone()), small()) {
                    Ok(store) => drop(store),
                    Err(error) => assert!(matches!(error, Error::Unavailable(_)), "seed {seed}: {error}"),
                }
                disk.crash();
            }
        }
        let store = match embedded::open_on(Arc::new(disk.clone()), small()) {
            Ok(store) => store,
            Err(error) => panic!("seed {seed}, life {life}: {error}"),
        };
        check(&store, &outside).await;
        disk.set_faults(match random.below(4) {
            0 => Faults { write_error_permille: 60, ..Faults::default() },
            1 => Faults { sync_error_permille: 80, ..Faults::default() },
            2 => Faults {
                write_error_permille: 30,
                sync_error_permille: 30,
                name_error_permille: 100,
                capacity_bytes: Some(4000 + random.below(30_000)),
            },
            _ => Faults::default(),
        });
        if random.below(5) > 0 {
            disk.cut_power_after(1 + random.below(150));
        }
        live(&store, &disk, &outside, seed, life).await;
        drop(store);
        if random.below(3) == 0 {
            // First only the process: what it wrote and didn't sync is read, and must then stay.
            disk.kill_process();
            disk.set_faults(Faults::default());
            let store = embedded::open_on(Arc::new(disk.clone()), small())
                .unwrap_or_else(|e| panic!("seed {seed}, life {life}: {e}"));
            check(&store, &outside).await;
            disk.cut_power_after(0);
            drop(store);
        }
        disk.crash();
    }
    disk.set_faults(Faults::default());
    let store = embedded::open_on(Arc::new(disk.clone()), small()).expect("open");
    check(&store, &outside).await;
    store.shutdown().await;
}

#[test]
fn nothing_acknowledged_is_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    for seed in seeds(150) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
        if let Err(panic) = result {
            eprintln!("replay with STORE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

async fn fill(store: &Arc<dyn Store>, n: u64) {
    for i in 0..n {
        let value = Bytes::from(format!("{i}-{}", "v".repeat(100)));
        let key = format!("/registry/pods/{}", i % 17);
        match store.get(&key) {
            None => drop(store.create(&key, value, None).await.expect("create")),
            Some(e) => drop(store.update(&key, value, e.mod_revision, None).await.expect("update")),
        }
    }
}

fn listing(store: &Arc<dyn Store>) -> (Revision, Vec<(String, u64, Bytes)>) {
    let page = store.list("/", &ListOptions::default()).expect("list");
    let entries = page.entries.iter().map(|e| (e.key.to_string(), e.mod_revision.0, e.value.clone()));
    (page.revision, entries.collect())
}

/// After an orderly end, a changed byte anywhere is reported or makes no difference; it never costs data in silence.
#[tokio::test]
async fn damage_is_reported() {
    let disk = FaultyDisk::new(1);
    let options = Options { history_window: Duration::from_secs(300), ..small() };
    let store = embedded::open_on(Arc::new(disk.clone()), options.clone()).expect("open");
    fill(&store, 120).await;
    store.compact(Revision(90)).await.expect("compact");
    fill(&store, 10).await;
    store.shutdown().await;
    let want = listing(&store);
    let files = disk.files();
    assert!(files.keys().any(|n| n.ends_with(".snapshot")) && files.keys().any(|n| n.ends_with(".log")), "{files:?}");
    let mut reported = 0;
    let mut harmless = 0;
    for (name, good) in &files {
        // Nothing is in what is only reserved.
        let written = match name.ends_with(".log") {
            true => good.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1),
            false => good.len(),
        };
        for at in (0..good.len()).step_by(if good.len() > 300 { 7 } else { 1 }) {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            disk.overwrite(name, bad);
            match embedded::open_on(Arc::new(disk.clone()), options.clone()) {
                Err(Error::Corrupt(_) | Error::NewerFormat { .. }) if at < written => reported += 1,
                Err(error) => panic!("{name} at {at}: {error}"),
                Ok(store) => {
                    assert_eq!(listing(&store), want, "{name} at {at}: lost in silence");
                    harmless += u64::from(at < written);
                }
            }
            disk.overwrite(name, good.clone());
        }
        // A file that is missing.
        disk.overwrite(name, Vec::new());
        let opened = embedded::open_on(Arc::new(disk.clone()), options.clone());
        assert!(opened.is_err(), "{name} emptied");
        drop(opened);
        disk.overwrite(name, good.clone());
    }
    assert!(reported > 500 && harmless < 100, "{reported} reported, {harmless} harmless");
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let disk = FaultyDisk::new(2);
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    fill(&store, 20).await;
    let before = listing(&store);
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_faults(Faults { capacity_bytes: Some(used as u64 + 50), ..Faults::default() });
    // More than what the log has reserved.
    let large = Bytes::from(vec![b'x'; 500_000]);
    for _ in 0..5 {
        let result = store.create("/registry/pods/late", large.clone(), None).await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{:?}", result.map(|_| "done"));
    }
    assert_eq!(listing(&store), before, "reads go on");
    disk.set_faults(Faults::default());
    let result = store.create("/registry/pods/late", Bytes::from(vec![b'y'; 500]), None).await;
    assert!(matches!(result, Ok(Cas::Done { .. })), "{result:?}");
    let after = listing(&store);
    drop(store);
    disk.crash();
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    assert_eq!(listing(&store), after);
}

/// The log's file doesn't grow with each write, and what is reserved in it looks like nothing else when it is read.
#[tokio::test]
async fn writes_go_into_what_is_reserved() {
    let disk = FaultyDisk::new(4);
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    let log = |disk: &FaultyDisk| disk.files().into_iter().find(|(name, _)| name.ends_with(".log")).expect("a log").1;
    fill(&store, 1).await;
    let len = log(&disk).len();
    let mut grown = 0;
    for i in 0..1500 {
        let before = log(&disk).len();
        let key = format!("/registry/secrets/{i}");
        assert!(matches!(store.create(&key, Bytes::from(vec![b'x'; 300]), None).await, Ok(Cas::Done { .. })));
        grown += u32::from(log(&disk).len() > before);
    }
    assert!(len > 100_000 && grown == 2, "{len} bytes, grown {grown} times");
    let mut want = listing(&store);
    disk.kill_process();
    for after in ["a kill", "an orderly end", "another"] {
        let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
        assert_eq!(listing(&store), want, "after {after}");
        fill(&store, 20).await;
        want = listing(&store);
        assert_eq!(disk.files().keys().filter(|name| name.ends_with(".log")).count(), 1, "after {after}");
        store.shutdown().await;
    }
}

/// A frame that ends in zeros may be whole where its last bytes were never written: zeros are reserved there.
#[tokio::test]
async fn a_write_that_may_count_is_not_refused() {
    let mut unknown = 0;
    for seed in 0..60 {
        let disk = FaultyDisk::new(seed);
        let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
        fill(&store, 30).await;
        disk.cut_power_after(1);
        let result = store.compact(Revision(10)).await;
        drop(store);
        disk.kill_process();
        let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
        match result {
            Err(Error::Unavailable(_)) => assert_eq!(store.compacted(), Revision(0), "seed {seed}"),
            Err(Error::Unknown(_)) => unknown += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(unknown > 0, "no seed cut a frame in its zeros");
}

#[tokio::test]
async fn a_failed_sync_is_never_taken_for_a_success() {
    let disk = FaultyDisk::new(3);
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    fill(&store, 20).await;
    let before = listing(&store);
    disk.set_faults(Faults { sync_error_permille: 1000, ..Faults::default() });
    for i in 0..5 {
        let result = store.create(&format!("/registry/pods/late{i}"), Bytes::from_static(b"x"), None).await;
        assert!(matches!(result, Err(Error::Unavailable(_) | Error::Unknown(_))), "{result:?}");
    }
    disk.set_faults(Faults::default());
    assert_eq!(listing(&store), before);
    let (_, again) = match store.create("/registry/pods/again", Bytes::from_static(b"y"), None).await {
        Ok(Cas::Done { entry, revision }) => (entry, revision),
        other => panic!("{other:?}"),
    };
    assert!(again > before.0);
    let after = listing(&store);
    drop(store);
    disk.crash();
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    assert_eq!(listing(&store), after);
}

/// Room for a segment's header, but not for the snapshot: trying again and again costs neither history nor disk.
#[tokio::test]
async fn a_reseal_that_fails_takes_nothing_away() {
    let disk = FaultyDisk::new(5);
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    fill(&store, 40).await;
    let before = listing(&store);
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_faults(Faults { capacity_bytes: Some(used as u64 + 1000), ..Faults::default() });
    for _ in 0..5 {
        let result = store.reseal().await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    }
    assert_eq!(store.compacted(), Revision(0));
    assert_eq!(history(&store, Revision(0)).await.expect("history").len(), 40);
    let segments = |disk: &FaultyDisk| disk.files().keys().filter(|name| name.ends_with(".log")).count();
    assert_eq!(segments(&disk), 2, "the one before and the one that was begun: {:?}", disk.files().keys());
    assert!(matches!(store.create("/registry/pods/late", Bytes::from_static(b"x"), None).await, Ok(Cas::Done { .. })));

    disk.set_faults(Faults::default());
    assert!(store.reseal().await.expect("reseal"));
    assert_eq!(segments(&disk), 1);
    assert_eq!(store.compacted(), before.0);
    let after = listing(&store);
    assert_eq!(after.1.len(), before.1.len() + 1);
    drop(store);
    disk.crash();
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    assert_eq!(listing(&store), after);
}

/// What the first revision changed is told to nobody, once the snapshot is all that is left of it.
#[tokio::test]
async fn nobody_begins_before_the_snapshot() {
    let disk = FaultyDisk::new(6);
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    fill(&store, 1).await;
    assert!(store.reseal().await.expect("reseal"));
    store.shutdown().await;
    let store = embedded::open_on(Arc::new(disk.clone()), Options::new("unused")).expect("open");
    fill(&store, 2).await;
    for prefix in ["/", "/registry/pods/"] {
        let refused = store.watch(prefix, Revision(0)).map(|_| ());
        assert!(matches!(refused, Err(Error::Compacted { .. })), "{prefix}: {refused:?}");
        assert!(store.watch(prefix, Revision(1)).is_ok(), "{prefix}");
    }
}

/// Keys that it was told of.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Transformer for Told {
    fn seal(&self, _: &str, _: &Bytes) -> Result<Option<Bytes>, String> {
        Ok(None)
    }

    fn open(&self, _: &str, stored: Bytes) -> Bytes {
        stored
    }

    fn settled(&self, key: &str) {
        self.0.lock().push(key.to_owned());
    }
}

/// Neither what was refused, nor what was only tried.
#[tokio::test]
async fn a_transformer_is_told_of_what_is_durable() {
    let disk = FaultyDisk::new(6);
    let told = Arc::new(Told::default());
    let options = Options { transformer: Some(told.clone()), ..Options::new("unused") };
    let store = embedded::open_on(Arc::new(disk.clone()), options.clone()).expect("open");
    let take = || std::mem::take(&mut *told.0.lock());
    let create = |name: &str, ttl| {
        let (store, key) = (store.clone(), format!("/registry/pods/{name}"));
        async move { store.create(&key, Bytes::from_static(b"x"), ttl).await }
    };
    create("one", None).await.expect("create");
    assert_eq!(take(), ["/registry/pods/one"]);
    assert!(matches!(create("one", None).await, Ok(Cas::Conflict(_))));
    disk.set_faults(Faults { write_error_permille: 1000, ..Faults::default() });
    create("refused", None).await.expect_err("no disk");
    store.delete("/registry/pods/one", None).await.expect_err("no disk");
    assert!(take().is_empty());
    disk.set_faults(Faults::default());
    store.delete("/registry/pods/one", None).await.expect("delete");
    assert_eq!(take(), ["/registry/pods/one"]);
    let created = match create("short", Some(Duration::from_millis(20))).await {
        Ok(Cas::Done { revision, .. }) => revision,
        other => panic!("{other:?}"),
    };
    let mut watcher = store.watch("/registry/pods/", created).expect("watch");
    watcher.changes().await.expect("its end");
    assert_eq!(take(), ["/registry/pods/short", "/registry/pods/short"], "expiry is a deletion");
    store.shutdown().await;
    drop(store);

    // At a start: the deletions that come after what was opened.
    let store = embedded::open_on(Arc::new(disk.clone()), options).expect("open");
    assert_eq!(take(), ["/registry/pods/one", "/registry/pods/short"]);
    store.shutdown().await;
}

/// Disk use is bounded by what lives, not by what was ever written; and silence writes nothing.
#[tokio::test]
async fn the_disk_stays_small_and_quiet() {
    let disk = FaultyDisk::new(4);
    let store = embedded::open_on(Arc::new(disk.clone()), small()).expect("open");
    let mut largest = 0;
    for _ in 0..40 {
        fill(&store, 100).await;
        largest = largest.max(disk.files().values().map(Vec::len).sum::<usize>());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 4,000 writes of 150 bytes are 600 kB; 17 keys live.
    assert!(largest < 80_000, "{largest}");
    assert!(store.disk_bytes() < 80_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = disk.files();
    // Any write or sync from here on would fail, and be seen.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(disk.files(), before);
    assert!(store.revision().0 - store.compacted().0 <= 21, "and so does history");
}
