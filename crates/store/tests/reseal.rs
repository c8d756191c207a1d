//! When encryption is turned on, what lay on disk before goes; and what couldn't be opened at a start is opened later.

use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;
use store::embedded::{self, Options};
use store::{Cas, Error, ListOptions, Revision, SEALED, Store, Transformer};

const PLAIN: &[u8] = b"for-nobodys-eyes";

/// Not a cipher, but nothing of a value is left to see.
#[derive(Debug)]
struct Turned;

impl Transformer for Turned {
    fn seal(&self, _: &str, value: &Bytes) -> Result<Option<Bytes>, String> {
        Ok(Some([SEALED, &value.iter().map(|b| !b).collect::<Vec<u8>>()].concat().into()))
    }

    fn open(&self, _: &str, stored: Bytes) -> Bytes {
        match stored.strip_prefix(SEALED) {
            Some(turned) => turned.iter().map(|b| !b).collect(),
            None => stored,
        }
    }
}

/// Turned, with a number in front that says under which of several keys, as it were. Slow, so that writers are caught
/// between sealing and their place in the log.
#[derive(Debug, Default)]
struct Numbered {
    form: AtomicU8,
}

/// What values under a number begin with.
fn form(number: u8) -> Vec<u8> {
    [SEALED, format!("form-{number}:").as_bytes()].concat()
}

impl Transformer for Numbered {
    fn seal(&self, _: &str, value: &Bytes) -> Result<Option<Bytes>, String> {
        let form = form(self.form.load(Ordering::Acquire));
        std::thread::sleep(Duration::from_millis(2));
        Ok(Some([form, value.iter().map(|b| !b).collect()].concat().into()))
    }

    fn open(&self, _: &str, stored: Bytes) -> Bytes {
        let turned = stored.strip_prefix(SEALED).and_then(|rest| rest.splitn(2, |b| *b == b':').nth(1));
        match turned {
            Some(turned) => turned.iter().map(|b| !b).collect(),
            None => stored,
        }
    }
}

fn open(dir: &Path, transformer: Option<Arc<dyn Transformer>>) -> Arc<dyn Store> {
    embedded::open(Options { transformer, ..Options::new(dir) }).expect("open")
}

fn on_disk(dir: &Path, text: &[u8]) -> bool {
    // One that went between the two isn't there.
    let files = std::fs::read_dir(dir).expect("dir").filter_map(|e| std::fs::read(e.expect("entry").path()).ok());
    files.into_iter().any(|bytes| bytes.windows(text.len()).any(|w| w == text))
}

fn listing(store: &dyn Store) -> Vec<(String, u64, Bytes)> {
    let page = store.list("/", &ListOptions::default()).expect("list");
    page.entries.iter().map(|e| (e.key.to_string(), e.mod_revision.0, e.value.clone())).collect()
}

async fn put(store: &dyn Store, key: &str, value: &[u8]) -> Revision {
    let value = Bytes::copy_from_slice(value);
    let done = match store.get(key) {
        None => store.create(key, value, None).await,
        Some(e) => store.update(key, value, e.mod_revision, None).await,
    };
    match done {
        Ok(Cas::Done { revision, .. }) => revision,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn nothing_of_the_past_stays_on_disk() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path(), None);
    // Values that are there, that were replaced, that were deleted.
    put(&*store, "/registry/secrets/a/kept", PLAIN).await;
    put(&*store, "/registry/secrets/a/replaced", PLAIN).await;
    put(&*store, "/registry/secrets/a/replaced", b"other").await;
    put(&*store, "/registry/secrets/a/deleted", PLAIN).await;
    store.delete("/registry/secrets/a/deleted", None).await.expect("delete");
    store.shutdown().await;
    assert!(on_disk(dir.path(), PLAIN));

    let store = open(dir.path(), Some(Arc::new(Turned)));
    let (before, revision) = (listing(&*store), store.revision());
    assert!(on_disk(dir.path(), PLAIN), "opening alone changes nothing");
    store.reseal().await.expect("reseal");
    assert!(!on_disk(dir.path(), PLAIN), "after the reseal");
    assert_eq!((listing(&*store), store.revision()), (before.clone(), revision));
    // History went too, and whoever follows it is told.
    assert!(matches!(store.watch("/registry/secrets/", Revision(1)), Err(Error::Compacted { .. })));
    assert!(store.watch("/registry/secrets/", revision).is_ok());
    // Again, without a change in between: the same files under the same names.
    store.reseal().await.expect("reseal");
    assert_eq!(listing(&*store), before);
    let next = put(&*store, "/registry/secrets/a/new", PLAIN).await;
    assert_eq!(next, Revision(revision.0 + 1));
    let want = listing(&*store);
    store.shutdown().await;
    assert!(!on_disk(dir.path(), PLAIN));
    let store = open(dir.path(), Some(Arc::new(Turned)));
    assert_eq!(listing(&*store), want);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_meanwhile() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path(), None);
    for i in 0..50 {
        put(&*store, &format!("/registry/secrets/a/{i}"), PLAIN).await;
    }
    store.shutdown().await;
    let store = open(dir.path(), Some(Arc::new(Turned)));
    let writers = (0..4).map(|w| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..100 {
                put(&*store, &format!("/registry/secrets/{w}/{}", i % 7), PLAIN).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..5 {
        store.reseal().await.expect("reseal");
        assert!(!on_disk(dir.path(), PLAIN));
    }
    for w in writers {
        w.await.expect("writer");
    }
    let want = listing(&*store);
    assert_eq!(want.len(), 50 + 4 * 7);
    store.shutdown().await;
    let store = open(dir.path(), Some(Arc::new(Turned)));
    assert_eq!(listing(&*store), want);
    store.shutdown().await;
}

/// The form changes while writers have sealed in the old one and are not in the log yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_under_way_leave_nothing_of_the_old_form_behind() {
    let dir = tempfile::tempdir().expect("dir");
    let numbered = Arc::new(Numbered::default());
    let store = open(dir.path(), Some(numbered.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..4).map(|w| {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            for i in 0.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                put(&*store, &format!("/registry/secrets/{w}/{}", i % 5), PLAIN).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for number in 0..8 {
        while !on_disk(dir.path(), &form(number)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        numbered.form.store(number + 1, Ordering::Release);
        assert!(store.reseal().await.expect("reseal"));
        assert!(!on_disk(dir.path(), &form(number)), "form {number} came after its time");
    }
    stop.store(true, Ordering::Release);
    for w in writers {
        w.await.expect("writer");
    }
    let want = listing(&*store);
    store.shutdown().await;
    assert!((0..8).all(|number| !on_disk(dir.path(), &form(number))), "an old form is still there");
    let store = open(dir.path(), Some(numbered));
    assert_eq!(listing(&*store), want);
    store.shutdown().await;
}

/// As [`Turned`], but nothing is opened while the keys are away.
#[derive(Debug, Default)]
struct Away(AtomicBool);

impl Transformer for Away {
    fn seal(&self, key: &str, value: &Bytes) -> Result<Option<Bytes>, String> {
        Turned.seal(key, value)
    }

    fn open(&self, key: &str, stored: Bytes) -> Bytes {
        match self.0.load(Ordering::Acquire) {
            true => stored,
            false => Turned.open(key, stored),
        }
    }
}

#[tokio::test]
async fn what_was_unreadable_at_a_start_is_read_when_the_keys_are_back() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path(), Some(Arc::new(Turned)));
    put(&*store, "/registry/secrets/a/one", b"old").await;
    put(&*store, "/registry/secrets/a/one", PLAIN).await;
    put(&*store, "/registry/secrets/a/gone", PLAIN).await;
    store.delete("/registry/secrets/a/gone", None).await.expect("delete");
    put(&*store, "/registry/secrets/b/rewritten", PLAIN).await;
    put(&*store, "/registry/secrets/b/two", PLAIN).await;
    let before = listing(&*store);
    store.shutdown().await;

    let keys = Arc::new(Away(true.into()));
    let store = open(dir.path(), Some(keys.clone()));
    let sealed = |key: &str| store.get(&format!("/registry/secrets/{key}")).expect("there").is_sealed();
    assert!(sealed("a/one") && sealed("b/two"));
    let mut watcher = store.watch("/registry/secrets/", store.revision()).expect("watch");
    assert_eq!(store.reopen(), 0);
    // Neither does it get lost on the way to another file.
    assert!(store.reseal().await.expect("reseal"));
    put(&*store, "/registry/secrets/b/rewritten", b"new").await;
    assert_eq!(watcher.changes().await.expect("changes").len(), 1);

    keys.0.store(false, Ordering::Release);
    let waiting = tokio::spawn(async move { watcher.changes().await });
    tokio::task::yield_now().await;
    assert_eq!((store.reopen(), store.reopen()), (2, 0), "once");
    assert!(matches!(waiting.await.expect("task"), Err(Error::Compacted { .. })), "it begins anew");
    let rewritten = |(key, revision, value): (String, u64, Bytes)| match key.ends_with("rewritten") {
        true => (key, revision + 2, Bytes::from_static(b"new")),
        false => (key, revision, value),
    };
    assert_eq!(listing(&*store), before.into_iter().map(rewritten).collect::<Vec<_>>());
    // A write on top of it finds what it expects.
    put(&*store, "/registry/secrets/a/one", b"newer").await;
    let want = listing(&*store);
    store.shutdown().await;
    drop(store);
    let store = open(dir.path(), Some(keys));
    assert_eq!(listing(&*store), want);
    store.shutdown().await;
}

#[tokio::test]
async fn a_store_without_writes_has_nothing_to_reseal() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path(), Some(Arc::new(Turned)));
    store.reseal().await.expect("reseal");
    assert_eq!(put(&*store, "/registry/secrets/a/b", PLAIN).await, Revision(1));
    store.shutdown().await;
    assert_eq!(listing(&*open(dir.path(), Some(Arc::new(Turned)))).len(), 1);
}
